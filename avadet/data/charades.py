"""Charades: videos of about half a minute with many actions each, several at a time."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from avadet.data.draws import Draw, draw_generator
from avadet.data.frame_cache import CachedMedia
from avadet.data.frame_labels import is_frame_list, read_frame_labels
from avadet.data.kinetics import ClassificationBatch
from avadet.data.media import FrameReader, Media, find_media
from avadet.data.multigrid import resized
from avadet.data.replacement import Replacement
from avadet.data.transforms import ClipTransform, Policy, TestPolicy, spatial_crops
from avadet.errors import UserError
from avadet.evaluation.charades import CharadesVideo, point_seconds, read_groundtruth
from avadet.evaluation.charades_io import NUM_CLASSES, POINTS
from avadet.video.sampling import clip_seconds, random_strided_seconds, strided_view_seconds

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CharadesSample:
    """One view of a video.

    Attributes:
        name: the video.
        view: number of the view of the video.
        video: (3,T,H,W) uint8, RGB.
        labels: (K,) float32 of 0 and 1: in training the actions of the clip, in test those of the
            video.
    """

    name: str
    view: int
    video: Tensor
    labels: Tensor


def collate(samples: Sequence[CharadesSample]) -> ClassificationBatch:
    """Stacks samples of one size; labels are (B,K).

    Raises:
        ValueError: the sizes differ.
    """
    sizes = {tuple(sample.video.shape) for sample in samples}
    if len(sizes) > 1:
        raise ValueError(f"clips of different sizes {sorted(sizes)} cannot be stacked")
    return ClassificationBatch(
        names=[sample.name for sample in samples],
        views=[sample.view for sample in samples],
        video=torch.stack([sample.video for sample in samples]),
        labels=torch.stack([sample.labels for sample in samples]),
    )


class CharadesDataset(Dataset[CharadesSample]):
    """Clips of annotated videos, straight from the movies or from extracted frames.

    In training a sample is a random stretch of its video. In test a video gives
    ``temporal_views * spatial_crops`` samples that are spread over it (10 x 3 as published), or,
    to localise, ``25 * spatial_crops`` around its 25 points. View ``v`` is stretch or point
    ``v // spatial_crops`` and crop ``v % spatial_crops``.

    Args:
        media: folder of movies (or of frame folders, see ``reader``), or a ``Media``.
        annotations: the official CSV, or a frame list of PySlowFast with its labels per frame.
        num_classes: K.
        train: random stretches and the policy's draws; else the views.
        localize: the views are those of the 25 points.
        policy: draws the transforms in training; whole frames when None.
        num_frames, frame_stride, fps: the clip: frames ``frame_stride / fps`` seconds apart. The
            published networks saw frames extracted at 24 per second.
        temporal_views, spatial_crops: of the test.
        test_short_side: side of the test's square crops.
        reader: ``movies``, or ``frames`` for extracted frames.
        frame_lists: lists of extracted frames, paths relative to ``media``; that of
            ``annotations`` when empty and it is one.
        missing: ``error``, or ``skip`` to leave out videos that are not there, with a count. A
            test counts them as wrong. In training, ``skip`` also puts another video in the place
            of one that cannot be read after all.
        left_out: names of videos that cannot be read (``data.clip_scan``), treated likewise.
        cache_short_side: decode every video once, keep it in memory at this short side.
        seed: of the augmentation.

    Attributes:
        annotated: every video of the file, there or not.
        videos: those that are there and not left out.

    Raises:
        UserError: files are missing or wrong, or videos are missing; (on use) one is unreadable.
    """

    collate = staticmethod(collate)

    def __init__(
        self,
        media: str | os.PathLike[str] | Media,
        annotations: str | os.PathLike[str],
        *,
        num_classes: int = NUM_CLASSES,
        train: bool = False,
        localize: bool = False,
        policy: Policy | None = None,
        num_frames: int = 64,
        frame_stride: int = 2,
        fps: float = 24.0,
        temporal_views: int = 10,
        spatial_crops: int = 3,
        test_short_side: int = 256,
        reader: Literal["movies", "frames"] = "movies",
        frame_lists: Sequence[str | os.PathLike[str]] = (),
        missing: Literal["error", "skip"] = "error",
        left_out: Collection[str] = (),
        cache_short_side: int | None = None,
        seed: int = 0,
    ) -> None:
        self.num_classes = num_classes
        if is_frame_list(annotations):
            self.annotated = read_frame_labels(annotations, num_classes, fps)
            frame_lists = frame_lists or [annotations]
        else:
            self.annotated = read_groundtruth(Path(annotations), num_classes)
        self.media, _ = find_media(media, reader, frame_lists, fps)
        self.videos = self._present(missing, left_out)
        if localize:
            _check_lengths(self.videos, annotations)
        self.train, self.localize = train, localize and not train
        self._replacement = Replacement("video") if train and missing == "skip" else None
        self.policy = policy if policy is not None else TestPolicy(test_short_side)
        self.num_frames, self.frame_stride, self.fps = num_frames, frame_stride, fps
        self.stretches = 1 if train else POINTS if localize else temporal_views
        self.spatial_crops = 1 if train else spatial_crops
        self.test_short_side, self.seed = test_short_side, seed
        if cache_short_side is not None:
            names = [video.name for video in self.videos]
            self.media = CachedMedia(self.media, names, cache_short_side, fps)
        # Lengths are read from the ends of the files, once each and process.
        self._durations: dict[str, float] = {}

    @property
    def num_views(self) -> int:
        """Samples per video."""
        return self.stretches * self.spatial_crops

    @property
    def groups(self) -> list[str]:
        """The video of every sample."""
        return [video.name for video in self.videos for _ in range(self.num_views)]

    def label_pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """(sample, class), each (M,), of every class of a sample's video; each pair once."""
        pairs = [
            (place * self.num_views + view, label)
            for place, video in enumerate(self.videos)
            for view in range(self.num_views)
            for label in sorted({action for action, _, _ in video.actions})
        ]
        table = np.asarray(pairs, np.int64).reshape(-1, 2)
        return table[:, 0], table[:, 1]

    def summary(self) -> str:
        """One line for the log."""
        actions = sum(len(video.actions) for video in self.videos)
        idle = sum(not video.actions for video in self.videos)
        unread = len(self.annotated) - len(self.videos)
        absent = f"; {unread} more cannot be read" if unread else ""
        return (
            f"{len(self.videos)} videos ({idle} without actions{absent}), {len(self)} views, "
            f"{actions} actions of {self.num_classes} classes"
        )

    def __len__(self) -> int:
        return len(self.videos) * self.num_views

    def __getitem__(self, draw: int | Draw) -> CharadesSample:
        draw = Draw.of(draw, len(self))
        if self._replacement is not None:
            return self._replacement.read(
                draw, len(self), self._training, lambda i: self.videos[i].name
            )
        if self.train:
            return self._training(draw)
        place, view = divmod(draw.sample, self.num_views)
        video = self.videos[place]
        with self.media.open(video.name) as reader:
            if self.localize:
                point = point_seconds(video.length)[view // self.spatial_crops]
                times = clip_seconds(point, self.num_frames, self.frame_stride, self.fps)
            else:
                times = strided_view_seconds(
                    self._duration(video.name, reader),
                    self.num_frames,
                    self.frame_stride,
                    view // self.spatial_crops,
                    self.stretches,
                    self.fps,
                )
            clip = reader.read(times, short_side=self.test_short_side, fps=self.fps)
        places = spatial_crops(*clip.size, self.spatial_crops)
        transform = ClipTransform(
            crop=self.test_short_side, places=(places[view % self.spatial_crops],)
        )
        pixels = transform.frames(clip.frames, transform.corner(*clip.size))
        return CharadesSample(video.name, view, pixels, self._multi_hot(video))

    def _training(self, draw: Draw) -> CharadesSample:
        video = self.videos[draw.sample]
        rng = draw_generator(self.seed, draw)
        frames, stride = self.num_frames, self.frame_stride
        if draw.shape is not None:
            frames, stride = draw.shape.num_frames, draw.shape.frame_stride
        with self.media.open(video.name) as reader:
            duration = self._duration(video.name, reader)
            times = random_strided_seconds(duration, frames, stride, rng.random(), self.fps)
            transform = resized(self.policy, draw.shape).draw(rng)
            clip = reader.read(times, short_side=transform.short_side, fps=self.fps)
        pixels = transform.frames(clip.frames, transform.corner(*clip.size))
        labels = self._multi_hot(during(video, times[0], times[-1]))
        return CharadesSample(video.name, 0, pixels, labels)

    def _duration(self, name: str, reader: FrameReader) -> float:
        if name not in self._durations:
            self._durations[name] = reader.duration
        return self._durations[name]

    def _multi_hot(self, video: CharadesVideo) -> Tensor:
        labels = torch.zeros(self.num_classes)
        labels[[action for action, _, _ in video.actions]] = 1
        return labels

    def _present(self, missing: str, left_out: Collection[str]) -> list[CharadesVideo]:
        kept = [video for video in self.annotated if video.name not in left_out]
        if not kept:
            raise UserError(
                f"none of the {len(self.annotated)} videos can be read ({self.media.where()})"
            )
        absent = set(self.media.missing([video.name for video in kept]))
        if not absent:
            return kept
        named = ", ".join(sorted(absent)[:5]) + (", ..." if len(absent) > 5 else "")
        text = (
            f"{len(absent)} of {len(self.annotated)} videos are missing: {named} "
            f"({self.media.where()})"
        )
        if missing != "skip" or len(absent) == len(kept):
            raise UserError(f"{text}; add them, or set data.missing_movies to skip")
        _log.warning("%s; they are left out", text)
        return [video for video in kept if video.name not in absent]


def during(video: CharadesVideo, first: float, last: float) -> CharadesVideo:
    """The video with those of its actions alone that overlap ``first`` to ``last`` seconds.

    Both ends belong to both, as a frame at the last moment of an action still shows it.
    """
    actions = tuple(
        (label, start, end)
        for label, start, end in video.actions
        if start <= min(end, last) and end >= first
    )
    return replace(video, actions=actions)


def _check_lengths(videos: Sequence[CharadesVideo], path: str | os.PathLike[str]) -> None:
    for video in videos:
        if not np.isfinite(video.length):
            raise UserError(f"{path}: video {video.name} has no length, which localisation needs")
