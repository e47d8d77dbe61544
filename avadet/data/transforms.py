"""Augmentation: a random policy draws a deterministic transform of frames and boxes.

The short side is scaled by the decoder's scaler while reading; crop, flip and colour work on the
uint8 frames that come out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from avadet import boxes as box_ops
from avadet.data.flow import mirror

# Variances and directions of the colours of ImageNet (Krizhevsky et al. 2012, section 4.1), RGB.
_COLOR_STD = np.asarray([0.225, 0.224, 0.229])
_COLOR_AXES = np.asarray(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
)
_LUMA = np.asarray([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True)
class ColorTransform:
    """Changes of colour, the same for all frames of a clip.

    Attributes:
        steps: ("brightness" | "contrast" | "saturation", factor), in the order applied.
        shift: what is added to red, green and blue, in shares of full scale.
    """

    steps: tuple[tuple[str, float], ...] = ()
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Shape: (T,H,W,3) uint8 -> the same.

        Every step is linear in red, green, blue and the mean of the frame, so all of them are
        one matrix and one shift per frame, applied and rounded once.
        """
        count, height, width, _ = frames.shape
        pixels = frames.reshape(count, height * width, 3).astype(np.float32)
        mean = (np.full((1, height * width), 1 / (height * width), np.float32) @ pixels)[:, 0]
        matrix, shift = np.eye(3), np.zeros((count, 3))
        for kind, factor in self.steps:
            grey = np.zeros((count, 1))
            if kind == "contrast":
                grey = (mean @ matrix.T + shift) @ _LUMA[:, None]
            mixing = factor * np.eye(3)
            if kind == "saturation":
                mixing += (1 - factor) * _LUMA
            matrix, shift = mixing @ matrix, shift @ mixing.T + (1 - factor) * grey
        shift += np.asarray(self.shift) * 255
        values = pixels @ matrix.T.astype(np.float32)
        values += (shift + 0.5).astype(np.float32)[:, None]
        np.clip(values, 0, 255.5, out=values)
        return values.astype(np.uint8).reshape(frames.shape)


@dataclass(frozen=True)
class ClipTransform:
    """What happens to one clip and its boxes; nothing in it is random any more.

    Attributes:
        short_side: the decoder scales the short side to this; None keeps the size.
        crop: side of the square that is cut out; None keeps the whole frame.
        places: (y, x) shares in [0,1] of the room that the crop leaves. The first that shows
            part of a box is taken, else the first: a clip without a visible person teaches
            nothing.
        flip: mirror left and right, after the crop.
        color: applied last.
        flow: the frames are pictures of optical flow, whose motion a mirror turns round too.
    """

    short_side: int | None = None
    crop: int | None = None
    places: tuple[tuple[float, float], ...] = ((0.5, 0.5),)
    flip: bool = False
    color: ColorTransform | None = None
    flow: bool = False

    def corner(
        self, height: int, width: int, boxes_norm: np.ndarray | None = None
    ) -> tuple[int, int]:
        """(top, left) of the crop in scaled frames of ``height`` x ``width``.

        Raises:
            ValueError: the crop does not fit.
        """
        if self.crop is None:
            return 0, 0
        if self.crop > min(height, width):
            raise ValueError(f"a crop of {self.crop} does not fit into {height}x{width}")
        corners = [
            (int(y * (height - self.crop) + 0.5), int(x * (width - self.crop) + 0.5))
            for y, x in self.places
        ]
        if boxes_norm is not None and len(boxes_norm):
            scaled = box_ops.norm_to_px(boxes_norm, height, width)
            for top, left in corners:
                cut = box_ops.clip(box_ops.shift(scaled, -left, -top), self.crop, self.crop)
                if (box_ops.area(cut) >= 1).any():
                    return top, left
        return corners[0]

    def frames(self, frames: np.ndarray, corner: tuple[int, int] = (0, 0)) -> torch.Tensor:
        """Cut, mirrored and coloured frames.

        Shape: (T,H,W,3) uint8 -> (3,T,h,w) uint8.
        """
        if self.crop is not None:
            top, left = corner
            frames = frames[:, top : top + self.crop, left : left + self.crop]
        if self.color is not None:
            frames = self.color(frames)
        if self.flip:
            frames = mirror(frames) if self.flow else frames[:, :, ::-1]
        return torch.from_numpy(np.ascontiguousarray(frames.transpose(3, 0, 1, 2)))

    def boxes_px(
        self, boxes_norm: np.ndarray, height: int, width: int, corner: tuple[int, int] = (0, 0)
    ) -> np.ndarray:
        """Boxes in pixels of the transformed frames, cut to them.

        Args:
            height, width: of the scaled frames, before the crop.

        Shape: (N,4) -> (N,4) float32; boxes outside the crop come out with no area.
        """
        scaled = box_ops.norm_to_px(np.asarray(boxes_norm, dtype=np.float32), height, width)
        out_height, out_width = height, width
        if self.crop is not None:
            scaled = box_ops.shift(scaled, -corner[1], -corner[0])
            out_height = out_width = self.crop
        cut = box_ops.clip(scaled, out_height, out_width)
        return box_ops.flip(cut, out_width) if self.flip else cut


class Policy(Protocol):
    """Draws transforms."""

    def draw(self, rng: np.random.Generator) -> ClipTransform:
        """A transform; the same one for the same state of ``rng``."""


@dataclass(frozen=True)
class TrainPolicy:
    """Augmentation as published for SlowFast on AVA and Kinetics.

    Attributes:
        short_side: inclusive range of the jittered short side, pixels.
        sampling: ``inverse`` draws 1/uniform(1/high, 1/low), the published way; ``uniform``
            draws the side itself.
        crop: side of the random square crop; None keeps the whole frame.
        flip: probability of mirroring.
        color: add PCA lighting (standard deviation ``lighting``) and brightness, contrast and
            saturation within ``1 +- jitter``, in random order. The published recipes leave
            it off.
        tries: places drawn for the crop.
        flow: see ``ClipTransform``.

    Raises:
        ValueError: values that cannot work together.
    """

    short_side: tuple[int, int] = (256, 320)
    sampling: str = "inverse"
    crop: int | None = 224
    flip: float = 0.5
    color: bool = False
    lighting: float = 0.1
    jitter: float = 0.4
    tries: int = 10
    flow: bool = False

    def __post_init__(self) -> None:
        low, high = self.short_side
        if not 1 <= low <= high:
            raise ValueError(f"short_side must be (low, high): {self.short_side}")
        if self.crop is not None and self.crop > low:
            raise ValueError(f"crop {self.crop} does not fit into the short side {low}")
        if self.color and self.flow:
            raise ValueError("optical flow has no colours to change")
        if self.sampling not in ("inverse", "uniform"):
            raise ValueError(f"sampling must be 'inverse' or 'uniform': {self.sampling!r}")

    def draw(self, rng: np.random.Generator) -> ClipTransform:
        """A transform. The numbers drawn do not depend on one another's outcome."""
        low, high = self.short_side
        side = rng.uniform(1 / high, 1 / low) if self.sampling == "inverse" else None
        places = rng.random((self.tries, 2)).tolist()
        flip = bool(rng.random() < self.flip)
        return ClipTransform(
            short_side=round(1 / side) if side is not None else round(rng.uniform(low, high)),
            crop=self.crop,
            places=tuple((y, x) for y, x in places),
            flip=flip,
            color=self._draw_color(rng) if self.color else None,
            flow=self.flow,
        )

    def _draw_color(self, rng: np.random.Generator) -> ColorTransform:
        kinds = ["brightness", "contrast", "saturation"]
        factors = rng.uniform(1 - self.jitter, 1 + self.jitter, size=3)
        order = rng.permutation(3)
        shift = _COLOR_AXES @ (rng.normal(0, self.lighting, size=3) * _COLOR_STD)
        return ColorTransform(
            steps=tuple((kinds[k], float(factors[k])) for k in order),
            shift=(float(shift[0]), float(shift[1]), float(shift[2])),
        )


@dataclass(frozen=True)
class TestPolicy:
    """Whole frames at one scale, or one fixed crop of them.

    Attributes:
        short_side: pixels; None keeps the size.
        crop: side of a square crop; None keeps the whole frame.
        place: (y, x) share of the room where the crop lies.
        flip: mirror.
        flow: see ``ClipTransform``.
    """

    __test__ = False  # not a test case, whatever pytest thinks of the name

    short_side: int | None = 256
    crop: int | None = None
    place: tuple[float, float] = (0.5, 0.5)
    flip: bool = False
    flow: bool = False

    def draw(self, rng: np.random.Generator) -> ClipTransform:
        """Always the same transform."""
        return ClipTransform(
            short_side=self.short_side,
            crop=self.crop,
            places=(self.place,),
            flip=self.flip,
            flow=self.flow,
        )


def spatial_crops(height: int, width: int, count: int) -> Sequence[tuple[float, float]]:
    """Places of the 1 or 3 crops of Kinetics testing: centre, or along the longer side.

    Raises:
        ValueError: another count.
    """
    if count == 1:
        return [(0.5, 0.5)]
    if count != 3:
        raise ValueError(f"1 or 3 spatial crops, not {count}")
    ends = (0.0, 0.5, 1.0)
    return [(0.5, end) for end in ends] if width > height else [(end, 0.5) for end in ends]
