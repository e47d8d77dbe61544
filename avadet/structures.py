"""The values that travel between the rooms: keyframes, clips, samples, batches, detections.

Shapes: B clips, C channels, T frames, H W pixels, N boxes, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, order=True)
class Keyframe:
    """A moment of a movie, and the only key of the system.

    Attributes:
        video: name of the movie, as in the annotation files (no folder, no suffix).
        second: seconds of the source movie.
    """

    video: str
    second: float

    def __str__(self) -> str:
        return f"{self.video}@{self.second:g}s"


@dataclass(frozen=True)
class Clip:
    """Decoded frames.

    Attributes:
        frames: (T,H,W,3) uint8, RGB.
        seconds: (T,) float64, the timestamp in the source movie of each frame shown.
    """

    frames: np.ndarray
    seconds: np.ndarray

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.shape[-1] != 3 or self.frames.dtype != np.uint8:
            raise ValueError(
                f"frames must be (T,H,W,3) uint8: {self.frames.shape} {self.frames.dtype}"
            )
        if self.seconds.shape != (len(self.frames),):
            raise ValueError(f"{len(self.frames)} frames but seconds {self.seconds.shape}")

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.frames.shape[1], self.frames.shape[2]


@dataclass(frozen=True)
class BankWindow:
    """Which entries of a long-term feature bank a keyframe is shown.

    Steps lie at whole multiples of 1 / ``rate`` seconds from the keyframe, half of them before it;
    of an even number the keyframe itself is the first of the second half, as in Long-Term Feature
    Banks (CVPR 2019): -30..29 s of 60.

    Attributes:
        seconds: length of the window.
        rate: steps per second.
        max_persons: entries per step; of more, training draws and a test takes the surest.
        include_own: whether the keyframe's own step is shown, as published.

    Raises:
        ValueError: a value that leaves no entry.
    """

    seconds: float = 60.0
    rate: float = 1.0
    max_persons: int = 5
    include_own: bool = True

    def __post_init__(self) -> None:
        for name in ("seconds", "rate", "max_persons"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: {getattr(self, name)!r} must be above 0")
        if self.steps < 1:
            raise ValueError(f"seconds: {self.seconds:g} at {self.rate:g} per second is no step")

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return round(self.seconds * self.rate)

    @property
    def size(self) -> int:
        """L: entries of a window, empty ones included."""
        return self.steps * self.max_persons


def _check_boxes(boxes: Tensor, name: str) -> None:
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not boxes.is_floating_point():
        raise ValueError(f"{name} must be (N,4) floating point: {tuple(boxes.shape)} {boxes.dtype}")


@dataclass(frozen=True)
class Sample:
    """One clip with the boxes of its keyframe, ready to be collated.

    Attributes:
        keyframe: what the boxes belong to.
        video: (3,T,H,W) uint8, RGB; scaling and normalisation happen on the device.
        boxes_px: (N,4) float32 xyxy in pixels of ``video``.
        boxes_norm: (N,4) float32 xyxy in [0,1] of the source frame, before augmentation: what
            results are written with.
        labels: (N,K) float32 of 0 and 1, or None where there is no ground truth.
        box_scores: (N,) float32, the person detector's; 1 for ground truth.
        bank: (L,D) float32, the window of a long-term feature bank around the keyframe, or None.
        bank_mask: (L,) bool, True where ``bank`` has an entry; the others are zeros.
    """

    keyframe: Keyframe
    video: Tensor
    boxes_px: Tensor
    boxes_norm: Tensor
    labels: Tensor | None
    box_scores: Tensor
    bank: Tensor | None = None
    bank_mask: Tensor | None = None

    def __post_init__(self) -> None:
        if self.video.ndim != 4 or self.video.shape[0] != 3:
            raise ValueError(f"video must be (3,T,H,W): {tuple(self.video.shape)}")
        _check_boxes(self.boxes_px, "boxes_px")
        _check_boxes(self.boxes_norm, "boxes_norm")
        counts = {len(self.boxes_px), len(self.boxes_norm), len(self.box_scores)}
        if self.labels is not None:
            counts.add(len(self.labels))
        if len(counts) != 1:
            raise ValueError(f"{self.keyframe}: boxes, scores and labels differ in number")
        if (self.bank is None) != (self.bank_mask is None):
            raise ValueError(f"{self.keyframe}: a bank and its mask belong together")


@dataclass(frozen=True)
class Batch:
    """Samples of one size, stacked.

    Attributes:
        keyframes: B keyframes.
        video: (B,3,T,H,W) uint8, or float once normalised.
        boxes_px: B tensors (N_i,4).
        boxes_norm: B tensors (N_i,4).
        labels: (sum N_i, K) or None.
        box_scores: B tensors (N_i,).
        bank: (B,L,D) or None.
        bank_mask: (B,L) bool or None.
    """

    keyframes: Sequence[Keyframe]
    video: Tensor
    boxes_px: list[Tensor]
    boxes_norm: list[Tensor]
    labels: Tensor | None
    box_scores: list[Tensor]
    bank: Tensor | None = None
    bank_mask: Tensor | None = None

    @property
    def bank_inputs(self) -> tuple[Tensor, ...]:
        """What a model takes after video and boxes: (bank, mask), or () without a bank."""
        if self.bank is None or self.bank_mask is None:
            return ()
        return self.bank, self.bank_mask

    @classmethod
    def collate(cls, samples: Sequence[Sample]) -> Batch:
        """Stacks samples whose clips have one size.

        Raises:
            ValueError: the clips differ in size (use ``batch_size: 1`` with uncropped clips).
        """
        sizes = {tuple(sample.video.shape) for sample in samples}
        if len(sizes) > 1:
            raise ValueError(
                f"clips of different sizes {sorted(sizes)} cannot be stacked; crop them or use "
                "a batch size of 1"
            )
        labels = [sample.labels for sample in samples if sample.labels is not None]
        if labels and len(labels) != len(samples):
            raise ValueError("some samples have labels and some have none")
        banks = [sample.bank for sample in samples if sample.bank is not None]
        masks = [sample.bank_mask for sample in samples if sample.bank_mask is not None]
        if banks and len(banks) != len(samples):
            raise ValueError("some samples have a bank and some have none")
        return cls(
            keyframes=[sample.keyframe for sample in samples],
            video=torch.stack([sample.video for sample in samples]),
            boxes_px=[sample.boxes_px for sample in samples],
            boxes_norm=[sample.boxes_norm for sample in samples],
            labels=torch.cat(labels) if labels else None,
            box_scores=[sample.box_scores for sample in samples],
            bank=torch.stack(banks) if banks else None,
            bank_mask=torch.stack(masks) if masks else None,
        )

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Batch:
        """The batch with every tensor the model needs on ``device``."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=non_blocking)

        return Batch(
            keyframes=self.keyframes,
            video=move(self.video),
            boxes_px=[move(boxes) for boxes in self.boxes_px],
            boxes_norm=self.boxes_norm,
            labels=None if self.labels is None else move(self.labels),
            box_scores=self.box_scores,
            bank=None if self.bank is None else move(self.bank),
            bank_mask=None if self.bank_mask is None else move(self.bank_mask),
        )

    def pin_memory(self) -> Batch:
        """Called by the data loader where a GPU is in use."""
        return Batch(
            keyframes=self.keyframes,
            video=self.video.pin_memory(),
            boxes_px=[boxes.pin_memory() for boxes in self.boxes_px],
            boxes_norm=self.boxes_norm,
            labels=None if self.labels is None else self.labels.pin_memory(),
            box_scores=self.box_scores,
            bank=None if self.bank is None else self.bank.pin_memory(),
            bank_mask=None if self.bank_mask is None else self.bank_mask.pin_memory(),
        )


@dataclass(frozen=True)
class Detections:
    """What was found at one keyframe.

    Attributes:
        keyframe: where and when.
        boxes_norm: (N,4) float32 xyxy in [0,1].
        person_scores: (N,) float32, the detector's.
        scores: (N,K) float32 probabilities of the classes 0..K-1; (N,0) before the action model.
        track_ids: (N,) int64, or None where people were not followed.
    """

    keyframe: Keyframe
    boxes_norm: np.ndarray
    person_scores: np.ndarray
    scores: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    track_ids: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.boxes_norm.ndim != 2 or self.boxes_norm.shape[1] != 4:
            raise ValueError(f"boxes_norm must be (N,4): {self.boxes_norm.shape}")
        count = len(self.boxes_norm)
        if self.person_scores.shape != (count,):
            raise ValueError(f"{count} boxes but person_scores {self.person_scores.shape}")
        if self.scores.ndim != 2 or (self.scores.shape[1] and len(self.scores) != count):
            raise ValueError(f"{count} boxes but scores {self.scores.shape}")
        if self.track_ids is not None and self.track_ids.shape != (count,):
            raise ValueError(f"{count} boxes but track_ids {self.track_ids.shape}")

    def __len__(self) -> int:
        return len(self.boxes_norm)
