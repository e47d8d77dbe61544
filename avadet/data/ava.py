"""AVA, and data sets annotated like it, straight from movies or from extracted frames."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch.utils.data import Dataset

from avadet import boxes as box_ops
from avadet.data.ava_csv import Paths, read_excluded, read_groundtruth, read_proposals
from avadet.data.box_table import BoxTable
from avadet.data.draws import Draw, draw_generator
from avadet.data.feature_bank import BankView
from avadet.data.frame_cache import CachedMedia
from avadet.data.label_map import LabelMap, read_label_map
from avadet.data.labelling import label_by_overlap, training_boxes
from avadet.data.media import Media, find_media
from avadet.data.transforms import ClipTransform, Policy, TestPolicy
from avadet.errors import UserError
from avadet.structures import Batch, Keyframe, Sample
from avadet.video.ring import FrameRing, points_of_all
from avadet.video.sampling import clamp_to_window, clip_seconds, grid_index, grid_indices

_log = logging.getLogger(__name__)

# Seconds between a keyframe and the picture shown for it from which something is wrong.
_FAR_FROM_KEYFRAME = 1.0


class AvaDataset(Dataset[Sample]):
    """Clips around keyframes with the boxes of their people.

    In training the boxes are the ground truth and, where given, the proposals: as the file
    labels them, or labelled by overlap with the ground truth where it does not. In test they are
    the proposals, or the ground truth where there are none (then the samples have labels).

    Samples are ordered by movie and second. ``dataset[Draw(sample, epoch, repeat)]`` gives the
    same sample in any process at any time; ``dataset[index]`` is epoch 0.

    Args:
        media: folder of movies (or of frame folders, see ``reader``), or a ``Media``.
        groundtruth: AVA CSV files, or None in test with proposals.
        proposals: person boxes in AVA's CSV form.
        label_map: class list file or ``LabelMap``; AVA's ids 1..80 when None.
        excluded: files of excluded timestamps.
        videos: restricts the movies.
        train: whether boxes of ground truth and proposals are joined and boxes outside the crop
            left out.
        policy: draws the transforms; whole frames at short side 256 when None.
        num_frames, frame_stride, fps: the clip: frames ``frame_stride / fps`` seconds apart.
        first_second, last_second: keyframes outside are left out; None is no limit.
        keyframe_rate: keyframes per second, counted from ``first_second``; others are left out.
        every: keep keyframes whose number since second 0 is divisible by this: 4 is the
            published quick validation.
        movie_start: second of the source movie at which the file's first frame lies; by default
            0 for movies and 900 for extracted frames.
        window: (start, end) seconds of the source movie outside which edge frames repeat.
        score_threshold: proposals below are dropped.
        proposal_iou, negative_iou: see ``label_by_overlap``.
        reader: ``movies``, or ``frames`` for extracted frames.
        frame_lists: lists of extracted frames, paths relative to ``media``.
        missing: ``error``, or ``skip`` to leave out movies that are not there, with a count.
        cache_short_side: decode every movie once, keep it in memory at this short side.
        bank: long-term features of all movies in use; each sample carries its window, in training
            a random choice where a step has too many people.
        seed: of the augmentation.

    Raises:
        UserError: files are missing or wrong, movies are missing, or no keyframe is left.
    """

    collate = staticmethod(Batch.collate)

    def __init__(
        self,
        media: str | os.PathLike[str] | Media,
        *,
        groundtruth: Paths | BoxTable | None = None,
        proposals: Paths | BoxTable | None = None,
        label_map: str | os.PathLike[str] | LabelMap | None = None,
        excluded: Paths | None = None,
        videos: Sequence[str] | None = None,
        train: bool = False,
        policy: Policy | None = None,
        num_frames: int = 32,
        frame_stride: int = 2,
        fps: float = 30.0,
        first_second: float | None = 902,
        last_second: float | None = 1798,
        keyframe_rate: float = 1.0,
        every: int = 1,
        movie_start: float | None = None,
        window: tuple[float, float] | None = None,
        score_threshold: float = 0.8,
        proposal_iou: float = 0.9,
        negative_iou: float = 0.5,
        reader: Literal["movies", "frames"] = "movies",
        frame_lists: Sequence[str] = (),
        missing: Literal["error", "skip"] = "error",
        cache_short_side: int | None = None,
        bank: BankView | None = None,
        seed: int = 0,
    ) -> None:
        if groundtruth is None and (train or proposals is None):
            raise UserError("the data set needs a ground-truth file (or proposals, in test)")
        self.label_map = _label_map(label_map)
        self.train = train
        self.policy = policy if policy is not None else TestPolicy()
        self.num_frames, self.frame_stride, self.fps = num_frames, frame_stride, fps
        self.seed = seed
        self.window = window
        self.media: Media
        self.media, default_start = find_media(media, reader, frame_lists, fps)
        self.movie_start = default_start if movie_start is None else movie_start

        truth = found = None
        if groundtruth is not None:
            truth = (
                groundtruth
                if isinstance(groundtruth, BoxTable)
                else read_groundtruth(groundtruth, self.label_map)
            )
        if proposals is not None:
            found = (
                proposals.select(proposals.scores >= score_threshold)
                if isinstance(proposals, BoxTable)
                else read_proposals(proposals, score_threshold, self.label_map)
            )
        self.has_labels = train or found is None
        table = _join(truth, found, train, proposal_iou, negative_iou)
        table = _choose_keyframes(table, first_second, last_second, keyframe_rate, every)
        if excluded is not None:
            table = _leave_out(table, read_excluded(excluded))
        if videos is not None:
            table = table.in_videos(videos)
        self.table = self._present(table, missing)
        if not len(self):
            raise UserError(
                "no keyframe is left: check first_second, last_second and keyframe_rate "
                f"({first_second}, {last_second}, {keyframe_rate}), the score threshold "
                f"({score_threshold}) and the names of the movies"
            )
        self.ask(bank)
        if cache_short_side is not None:
            self.media = CachedMedia(self.media, self.videos, cache_short_side, fps)

    def ask(self, bank: BankView | None) -> None:
        """Sets the long-term features that samples carry; None for none.

        Raises:
            UserError: the bank lacks a movie in use.
        """
        if bank is not None:
            bank.bank.require(self.videos)
        self.bank = bank

    def __len__(self) -> int:
        return self.table.num_keyframes

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.label_map)

    @property
    def keyframes(self) -> list[Keyframe]:
        """The keyframe of every sample."""
        return list(self.table.keyframes())

    @property
    def videos(self) -> list[str]:
        """Names of the movies in use."""
        return [self.table.videos[n] for n in np.unique(self.table.video).tolist()]

    @property
    def groups(self) -> list[str]:
        """The movie of every sample: samples of one movie have one frame size."""
        return self.table.keyframe_videos()

    def label_pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """(sample, class), each (M,), of every class that a sample shows; each pair once."""
        sizes = self.table.keyframe_sizes()
        sample_of_box = np.repeat(np.arange(len(self)), sizes)
        sample = np.repeat(sample_of_box, np.diff(self.table.first_label))
        pairs = np.unique(np.stack([sample, self.table.labels.astype(np.int64)]), axis=1)
        return pairs[0], pairs[1]

    def __getitem__(self, draw: int | Draw) -> Sample:
        draw = Draw.of(draw, len(self))
        rng = draw_generator(self.seed, draw)
        return self._load(draw.sample, self.policy.draw(rng), rng)

    def seconds(self) -> list[float]:
        """The second of every sample."""
        return self.table.keyframe_seconds()

    def stream(self, samples: Sequence[int]) -> Iterator[Sample]:
        """``self[n]`` for increasing samples of one movie; each frame is decoded once.

        The pixels are those of ``self[n]``, as long as the policy scales all clips alike.

        Raises:
            ValueError: samples of several movies, or of several sizes.
        """
        if not samples:
            return
        draws = [draw_generator(self.seed, Draw(n)) for n in samples]
        transforms = [self.policy.draw(rng) for rng in draws]
        keyframes = [self.table.keyframe(n) for n in samples]
        videos, sides = {each.video for each in keyframes}, {t.short_side for t in transforms}
        if len(videos) != 1 or len(sides) != 1:
            raise ValueError(f"one pass over the movies {videos} at the short sides {sides}")
        times = [self._times(keyframe) for keyframe in keyframes]
        window = self._file_window()
        clips = [clamp_to_window(grid_indices(t, self.fps), window, self.fps) for t in times]
        with self.media.open(keyframes[0].video) as reader:
            passing = reader.stream(
                [point / self.fps for point in points_of_all(clips)],
                short_side=transforms[0].short_side,
                fps=self.fps,
            )
            ring = FrameRing((grid_index(second, self.fps), frame) for second, frame in passing)
            for sample, transform, points, rng in zip(samples, transforms, clips, draws):
                self._check_inside(self.table.keyframe(sample), reader.duration)
                yield self._sample(sample, transform, ring.clip(points), rng)

    def summary(self) -> str:
        """One line for the log."""
        return (
            f"{len(self.videos)} movies, {len(self)} keyframes, {len(self.table)} boxes, "
            f"{len(self.table.labels)} labels of {self.num_classes} classes"
        )

    def _load(self, index: int, transform: ClipTransform, rng: np.random.Generator) -> Sample:
        keyframe = self.table.keyframe(index)
        with self.media.open(keyframe.video) as reader:
            clip = reader.read(
                self._times(keyframe),
                short_side=transform.short_side,
                window=self._file_window(),
                fps=self.fps,
            )
            shown = float(clip.seconds[self.num_frames // 2])
            if abs(shown + self.movie_start - keyframe.second) > _FAR_FROM_KEYFRAME:
                self._check_inside(keyframe, reader.duration)
        return self._sample(index, transform, clip.frames, rng)

    def _times(self, keyframe: Keyframe) -> np.ndarray:
        """Seconds of the clip in the file."""
        times = clip_seconds(keyframe.second, self.num_frames, self.frame_stride, self.fps)
        return times - self.movie_start

    def _file_window(self) -> tuple[float, float] | None:
        if self.window is None:
            return None
        return self.window[0] - self.movie_start, self.window[1] - self.movie_start

    def _sample(
        self, index: int, transform: ClipTransform, frames: np.ndarray, rng: np.random.Generator
    ) -> Sample:
        """A sample from its frames (T,H,W,3), scaled but not cut."""
        rows, size = self.table.rows(index), (frames.shape[1], frames.shape[2])
        boxes_norm = self.table.boxes_norm[rows]
        corner = transform.corner(*size, boxes_norm)
        boxes_px = transform.boxes_px(boxes_norm, *size, corner)
        labels = self.table.multi_hot(rows, self.num_classes) if self.has_labels else None
        scores = self.table.scores[rows]
        if self.train:
            visible = box_ops.area(boxes_px) >= 1
            if visible.any():
                boxes_norm, boxes_px = boxes_norm[visible], boxes_px[visible]
                scores = scores[visible]
                labels = None if labels is None else labels[visible]
        bank = mask = None
        if self.bank is not None:
            bank, mask = self.bank.at(self.table.keyframe(index), rng if self.train else None)
        return Sample(
            keyframe=self.table.keyframe(index),
            video=transform.frames(frames, corner),
            boxes_px=torch.from_numpy(boxes_px.astype(np.float32)),
            boxes_norm=torch.from_numpy(boxes_norm.copy()),
            labels=None if labels is None else torch.from_numpy(labels),
            box_scores=torch.from_numpy(scores.copy()),
            bank=bank,
            bank_mask=mask,
        )

    def _check_inside(self, keyframe: Keyframe, duration: float) -> None:
        """Damage may move a picture; a keyframe outside its movie is a mistake of the data."""
        end = self.movie_start + duration
        if self.movie_start - _FAR_FROM_KEYFRAME <= keyframe.second <= end + _FAR_FROM_KEYFRAME:
            return
        raise UserError(
            f"{keyframe.video}: holds the seconds {self.movie_start:g} to {end:g}, but second "
            f"{keyframe.second:g} is annotated; set movie_start to the second of the source movie "
            "at which the file begins (900 for the 15-minute cuts), or mend the file"
        )

    def _present(self, table: BoxTable, missing: str) -> BoxTable:
        used = [table.videos[place] for place in np.unique(table.video)]
        absent = self.media.missing(used)
        if not absent:
            return table
        named = ", ".join(absent[:5]) + (", ..." if len(absent) > 5 else "")
        text = f"{len(absent)} of {len(used)} movies are missing: {named} ({self.media.where()})"
        if missing != "skip":
            raise UserError(f"{text}; add them, or set missing_movies to skip")
        _log.warning("%s; they are left out", text)
        return table.in_videos(set(used) - set(absent))


def _label_map(label_map: str | os.PathLike[str] | LabelMap | None) -> LabelMap:
    if label_map is None:
        return LabelMap.numbered(80)
    return label_map if isinstance(label_map, LabelMap) else read_label_map(label_map)


def _join(
    truth: BoxTable | None,
    found: BoxTable | None,
    train: bool,
    proposal_iou: float,
    negative_iou: float,
) -> BoxTable:
    if found is None or truth is None or not train:
        table = found if found is not None and not train else truth
        assert table is not None
        return table
    if not found.labelled:
        found = label_by_overlap(found, truth, proposal_iou, negative_iou)
    return training_boxes(truth, found)


def _choose_keyframes(
    table: BoxTable, first: float | None, last: float | None, rate: float, every: int
) -> BoxTable:
    second = table.second
    number = (second - (first or 0.0)) * rate
    keep = np.abs(number - np.round(number)) < 1e-3 * rate
    keep &= second >= (-np.inf if first is None else first - 1e-6)
    keep &= second <= (np.inf if last is None else last + 1e-6)
    if not keep.all():
        _log.warning(
            "%d of %d boxes lie at seconds that are no keyframes (%g per second from %s to %s); "
            "they are left out",
            (~keep).sum(),
            len(keep),
            rate,
            first,
            last,
        )
    if every > 1:
        keep &= np.round(second * rate).astype(np.int64) % every == 0
    return table.select(keep)


def _leave_out(table: BoxTable, excluded: frozenset[Keyframe]) -> BoxTable:
    keep = np.ones(len(table), dtype=bool)
    for keyframe in excluded:
        keep[table.find(keyframe)] = False
    return table.select(keep)
