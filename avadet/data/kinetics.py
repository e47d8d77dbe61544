"""Labelled whole clips, as of Kinetics: for classification and for pre-training."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from avadet.data.clip_lists import ClipList, read_clips
from avadet.data.draws import Draw, draw_generator
from avadet.data.frame_cache import CachedMedia
from avadet.data.media import FrameReader
from avadet.data.multigrid import resized
from avadet.data.replacement import Replacement
from avadet.data.transforms import ClipTransform, Policy, TestPolicy, spatial_crops
from avadet.errors import UserError
from avadet.files import read_text
from avadet.video.reader import open_video
from avadet.video.sampling import random_view_seconds, view_seconds


@dataclass(frozen=True)
class ClassificationSample:
    """One view of a labelled clip.

    Attributes:
        name: the clip, as the list gives it.
        view: number of the view of the clip.
        video: (3,T,H,W) uint8, RGB.
        label: class index.
    """

    name: str
    view: int
    video: Tensor
    label: int


@dataclass(frozen=True)
class ClassificationBatch:
    """Samples of one size, stacked.

    Attributes:
        names: B clips.
        views: B numbers of views.
        video: (B,3,T,H,W) uint8.
        labels: (B,) int64.
    """

    names: Sequence[str]
    views: Sequence[int]
    video: Tensor
    labels: Tensor

    @classmethod
    def collate(cls, samples: Sequence[ClassificationSample]) -> ClassificationBatch:
        """Stacks samples of one size.

        Raises:
            ValueError: the sizes differ.
        """
        sizes = {tuple(sample.video.shape) for sample in samples}
        if len(sizes) > 1:
            raise ValueError(f"clips of different sizes {sorted(sizes)} cannot be stacked")
        return cls(
            names=[sample.name for sample in samples],
            views=[sample.view for sample in samples],
            video=torch.stack([sample.video for sample in samples]),
            labels=torch.tensor([sample.label for sample in samples], dtype=torch.int64),
        )

    def to(self, device: torch.device | str, non_blocking: bool = True) -> ClassificationBatch:
        """The batch with its tensors on ``device``."""
        return ClassificationBatch(
            names=self.names,
            views=self.views,
            video=self.video.to(device, non_blocking=non_blocking),
            labels=self.labels.to(device, non_blocking=non_blocking),
        )

    def pin_memory(self) -> ClassificationBatch:
        """Called by the data loader where a GPU is in use."""
        return ClassificationBatch(
            self.names, self.views, self.video.pin_memory(), self.labels.pin_memory()
        )


class ClipDataset(Dataset[ClassificationSample]):
    """Clips of a list ``path,label``.

    In training a sample is a random stretch of its clip. In test every clip gives
    ``temporal_views * spatial_crops`` samples, one after the other: view ``v`` is stretch
    ``v // spatial_crops`` and crop ``v % spatial_crops``, as in the published testing.

    Args:
        clips: a list, or a file or folder in any form of ``data.clip_lists``: CSV ``path,label``,
            Kinetics' own, class folders, ...; paths are relative to ``root``.
        classes: names, in the order of the network's outputs, or a file with one a line; None
            where labels are indices.
        root: folder of the clips; that of the list when None.
        left_out: names of clips that cannot be read (``data.clip_scan``); they are no samples.
        train: random stretches and the policy's draws; else the views.
        policy: draws the transforms in training; whole frames when None.
        num_frames, frame_stride, fps: the clip: frames ``frame_stride / fps`` seconds apart.
        temporal_views, spatial_crops: of the test.
        test_short_side: side of the test's square crops.
        test_scale: short side that frames are scaled to for them; ``test_short_side`` when None.
            Published tests of one crop scale as in training (256) and cut the middle (224).
        reach_end: spread the views from the first to the last frame (see ``view_seconds``).
        cache_short_side: decode every clip once, keep it in memory at this short side.
        replace_unreadable: in training, a clip that cannot be read after all is replaced by
            another one, always the same, and a warning names it. Else it is an error.
        seed: of the augmentation.

    Attributes:
        unlisted: clips of the list that were left out.

    Raises:
        UserError: the list is missing, empty or has a wrong row; (on use) a clip cannot be read,
            or ten in a row.
    """

    collate = staticmethod(ClassificationBatch.collate)

    def __init__(
        self,
        clips: str | os.PathLike[str] | ClipList,
        *,
        classes: str | os.PathLike[str] | Sequence[str] | None = None,
        root: str | os.PathLike[str] | None = None,
        left_out: Collection[str] = (),
        train: bool = False,
        policy: Policy | None = None,
        num_frames: int = 32,
        frame_stride: int = 2,
        fps: float = 30.0,
        temporal_views: int = 10,
        spatial_crops: int = 3,
        test_short_side: int = 256,
        test_scale: int | None = None,
        reach_end: bool = False,
        cache_short_side: int | None = None,
        replace_unreadable: bool = False,
        seed: int = 0,
    ) -> None:
        self.class_names = _class_names(classes)
        listed = (
            clips
            if isinstance(clips, ClipList)
            else read_clips(clips, self.class_names, root=root, train=train)
        )
        self.root = listed.root
        self.clips = [clip for clip in listed.clips if clip[0] not in left_out]
        self.unlisted = len(listed.clips) - len(self.clips)
        if not self.clips:
            raise UserError(f"{self.root}: none of the {len(listed.clips)} clips can be read")
        self.train = train
        self._replacement = Replacement("clip") if replace_unreadable and train else None
        self.policy = policy if policy is not None else TestPolicy(test_short_side)
        self.num_frames, self.frame_stride, self.fps = num_frames, frame_stride, fps
        self.temporal_views = 1 if train else temporal_views
        self.spatial_crops = 1 if train else spatial_crops
        self.test_short_side, self.reach_end = test_short_side, reach_end
        self.test_scale = test_short_side if test_scale is None else test_scale
        if self.test_scale < test_short_side:
            raise ValueError(f"a crop of {test_short_side} does not fit in {self.test_scale}")
        self.seed = seed
        self._media: _ClipMedia | CachedMedia = _ClipMedia(self.root)
        if cache_short_side is not None:
            names = sorted({name for name, _ in self.clips})
            self._media = CachedMedia(self._media, names, cache_short_side, fps)
        # Lengths are read from the ends of the files, once each and process.
        self._durations: dict[str, float] = {}

    @property
    def num_views(self) -> int:
        """Samples per clip."""
        return self.temporal_views * self.spatial_crops

    @property
    def num_classes(self) -> int:
        """K: the length of the class list, or the largest label + 1."""
        if self.class_names is not None:
            return len(self.class_names)
        return max(label for _, label in self.clips) + 1

    @property
    def groups(self) -> list[str]:
        """The clip of every sample."""
        return [name for name, _ in self.clips for _ in range(self.num_views)]

    def label_pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """(sample, class), each (M,)."""
        labels = np.asarray([label for _, label in self.clips], dtype=np.int64)
        return np.arange(len(self)), np.repeat(labels, self.num_views)

    def summary(self) -> str:
        """One line for the log."""
        absent = f" ({self.unlisted} more cannot be read)" if self.unlisted else ""
        return f"{len(self.clips)} clips{absent}, {len(self)} views, {self.num_classes} classes"

    def __len__(self) -> int:
        return len(self.clips) * self.num_views

    def __getitem__(self, draw: int | Draw) -> ClassificationSample:
        draw = Draw.of(draw, len(self))
        if self._replacement is None:
            return self._sample(draw)
        return self._replacement.read(draw, len(self), self._sample, lambda i: self.clips[i][0])

    def _sample(self, draw: Draw) -> ClassificationSample:
        place, view = divmod(draw.sample, self.num_views)
        name, label = self.clips[place]
        rng = draw_generator(self.seed, draw)
        with self._media.open(name) as reader:
            if name not in self._durations:
                self._durations[name] = reader.duration
            duration = self._durations[name]
            if self.train:
                frames, stride = self.num_frames, self.frame_stride
                if draw.shape is not None:
                    frames, stride = draw.shape.num_frames, draw.shape.frame_stride
                times = random_view_seconds(duration, frames, stride, rng.random(), self.fps)
                transform = resized(self.policy, draw.shape).draw(rng)
            else:
                times = view_seconds(
                    duration,
                    self.num_frames,
                    self.frame_stride,
                    view // self.spatial_crops,
                    self.temporal_views,
                    self.fps,
                    self.reach_end,
                )
                transform = ClipTransform(self.test_scale, self.test_short_side)
            clip = reader.read(times, short_side=transform.short_side, fps=self.fps)
        if not self.train:
            places = spatial_crops(*clip.size, self.spatial_crops)
            transform = ClipTransform(
                crop=self.test_short_side, places=(places[view % self.spatial_crops],)
            )
        video = transform.frames(clip.frames, transform.corner(*clip.size))
        return ClassificationSample(name=name, view=view, video=video, label=label)


class _ClipMedia:
    """Clips by their path relative to a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def open(self, video: str) -> FrameReader:
        return open_video(self.root / video)

    def missing(self, videos: Iterable[str]) -> list[str]:
        return [video for video in videos if not (self.root / video).exists()]

    def where(self) -> str:
        return f"looked in {self.root}"


def _class_names(
    classes: str | os.PathLike[str] | Sequence[str] | None,
) -> tuple[str, ...] | None:
    if classes is None:
        return None
    if not isinstance(classes, str | os.PathLike):
        return tuple(classes)
    lines = read_text(classes, "a list of classes").splitlines()
    names = tuple(line.strip() for line in lines if line.strip())
    if not names:
        raise UserError(f"{classes}: holds no class names")
    return names
