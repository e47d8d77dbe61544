"""Data sets of a config: people and their actions on keyframes, labelled clips, Charades."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from avadet.build.components import given
from avadet.build.models import clip_problem
from avadet.config import DataConfig, RunConfig
from avadet.config.schema import AugmentConfig
from avadet.data.augment import RandAugment, StrongPolicy
from avadet.data.ava import AvaDataset
from avadet.data.charades import CharadesDataset
from avadet.data.clip_lists import ClipList, read_clips
from avadet.data.draws import ClipShape
from avadet.data.feature_bank import BankView
from avadet.data.frame_labels import is_frame_list
from avadet.data.kinetics import ClipDataset
from avadet.data.label_map import LabelMap
from avadet.data.media import FrameFolders, Media, MovieFolder, find_media
from avadet.data.multigrid import MultigridPlan, plan
from avadet.data.transforms import Policy, TestPolicy, TrainPolicy
from avadet.errors import UserError
from avadet.evaluation.charades import read_groundtruth
from avadet.models.description import ModelDescription


def _train_policy(data: DataConfig) -> TrainPolicy:
    return TrainPolicy(
        short_side=data.train_short_side,
        sampling=data.short_side_sampling,
        crop=data.crop,
        flip=data.flip,
        color=data.color,
        flow=data.modality == "flow",
    )


def _clip_policy(data: DataConfig) -> Policy:
    """The plain augmentation, or with what ``data.augment`` adds."""
    base, more = _train_policy(data), data.augment
    if more == AugmentConfig():
        return base
    operations = more.rand_augment
    return StrongPolicy(
        base,
        rand_augment=None if operations is None else RandAugment(**operations.model_dump()),
        area=more.area,
        aspect=more.aspect,
        erasing=more.erasing,
    )


def build_ava(
    config: RunConfig, classes: LabelMap, *, train: bool, bank: BankView | None = None
) -> AvaDataset:
    """The training set, or the test set with the boxes that are scored."""
    data = config.data
    split = "train" if train else "val"
    truth: str = getattr(data, f"{split}_groundtruth")
    proposals: str | None = getattr(data, f"{split}_proposals")
    return AvaDataset(
        given("data.movies", data.movies),
        groundtruth=given(f"data.{split}_groundtruth", truth) if train or not proposals else None,
        proposals=proposals,
        label_map=classes,
        excluded=getattr(data, f"{split}_excluded"),
        train=train,
        policy=_train_policy(data)
        if train
        else TestPolicy(data.test_short_side, flow=data.modality == "flow"),
        num_frames=data.num_frames,
        frame_stride=data.frame_stride,
        fps=data.fps,
        first_second=data.first_second,
        last_second=data.last_second,
        keyframe_rate=data.keyframe_rate,
        movie_start=data.movie_start,
        score_threshold=data.proposal_score_threshold,
        proposal_iou=data.proposal_iou,
        reader=data.reader,
        frame_lists=data.frame_lists,
        missing=data.missing_movies,
        cache_short_side=data.test_short_side if data.cache else None,
        bank=bank,
        seed=config.seed,
    )


def build_media(config: RunConfig) -> tuple[Media, float]:
    """Where the movies are, and the second of the source movie at which the files begin."""
    data = config.data
    media, start = find_media(
        given("data.movies", data.movies), data.reader, data.frame_lists, data.fps
    )
    return media, start if data.movie_start is None else data.movie_start


def list_clips(config: RunConfig, classes: LabelMap, *, train: bool) -> ClipList:
    """The labelled clips that a config names."""
    split = "train" if train else "val"
    path: str = getattr(config.data, f"{split}_clips")
    return read_clips(
        given(f"data.{split}_clips", path),
        classes.names,
        root=config.data.movies or None,
        train=train,
    )


def build_clips(
    config: RunConfig,
    classes: LabelMap,
    clips: ClipList | None = None,
    *,
    train: bool,
    left_out: Collection[str] = (),
    test_scale: int | None = None,
) -> ClipDataset:
    """Labelled clips: random stretches for training, the views of the test protocol.

    ``test_scale`` is what the weights say of it (``Preprocessing.test_scale``).
    """
    data = config.data
    return ClipDataset(
        list_clips(config, classes, train=train) if clips is None else clips,
        classes=classes.names,
        left_out=left_out,
        train=train,
        policy=_clip_policy(data) if train else None,
        num_frames=data.num_frames,
        frame_stride=data.frame_stride,
        fps=data.fps,
        temporal_views=config.eval.temporal_views,
        spatial_crops=config.eval.spatial_crops,
        test_short_side=data.test_short_side,
        test_scale=test_scale,
        reach_end=config.eval.reach_end,
        cache_short_side=(test_scale or data.test_short_side) if data.cache else None,
        replace_unreadable=data.missing_movies == "skip",
        seed=config.seed,
    )


def charades_paths(config: RunConfig, classes: LabelMap, *, train: bool) -> dict[str, Path]:
    """Name of each video of Charades -> its movie or folder of frames; none for frame lists."""
    split = "train" if train else "val"
    path = given(f"data.{split}_groundtruth", getattr(config.data, f"{split}_groundtruth"))
    media, _ = build_media(config)
    if not isinstance(media, MovieFolder | FrameFolders) or is_frame_list(path):
        return {}
    videos = read_groundtruth(Path(path), len(classes))
    return {video.name: media.path(video.name) for video in videos}


def build_charades(
    config: RunConfig,
    classes: LabelMap,
    *,
    train: bool,
    localize: bool = False,
    left_out: Collection[str] = (),
) -> CharadesDataset:
    """Charades: random stretches for training, the views (or the 25 points) of the test."""
    data = config.data
    split = "train" if train else "val"
    path: str = getattr(data, f"{split}_groundtruth")
    return CharadesDataset(
        given("data.movies", data.movies),
        given(f"data.{split}_groundtruth", path),
        num_classes=len(classes),
        train=train,
        localize=localize,
        policy=_clip_policy(data) if train else None,
        num_frames=data.num_frames,
        frame_stride=data.frame_stride,
        fps=data.fps,
        temporal_views=config.eval.temporal_views,
        spatial_crops=config.eval.spatial_crops,
        test_short_side=data.test_short_side,
        reader=data.reader,
        frame_lists=data.frame_lists,
        missing=data.missing_movies,
        left_out=left_out,
        cache_short_side=data.test_short_side if data.cache else None,
        seed=config.seed,
    )


def build_multigrid(config: RunConfig) -> MultigridPlan | None:
    """The phases of multigrid training, or None where the config asks for none.

    Raises:
        UserError: the learning-rate schedule leaves no room for it.
    """
    train, data = config.train, config.data
    if train.multigrid is None:
        return None
    stepwise = train.schedule == "step"
    if train.multigrid.long_cycle and not stepwise:
        raise UserError(
            "train.multigrid: the long cycle follows the steps of train.schedule=step, which is "
            f"'{train.schedule}' here; take step, or long_cycle=false"
        )
    assert data.crop is not None  # the config says so
    return plan(
        ClipShape(data.num_frames, data.frame_stride, data.crop),
        epochs=train.epochs,
        steps=train.steps if stepwise else [0],
        factors=train.factors if stepwise else [1],
        **train.multigrid.model_dump(),
    )


def check_multigrid(description: ModelDescription, cycles: MultigridPlan) -> None:
    """Shows the network every size of clip before hours are spent on the first ones.

    Raises:
        UserError: it cannot take one of them.
    """
    for frames, side in sorted(
        {(grid.num_frames, grid.side) for phase in cycles.phases for grid in phase.grids}
    ):
        problem = clip_problem(description, frames, side)
        if problem:
            raise UserError(
                f"train.multigrid: {problem}; use longer or larger clips, or one of the cycles "
                "alone"
            )
