"""Pictures into the detector: resizing, channel order, normalisation, padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class ImagePreprocessing:
    """What a detector's weights expect.

    Attributes:
        short_side: the shorter edge is resized to this; 0 leaves pictures as they are.
        max_side: the longer edge's limit, which wins.
        mean, std: per channel, in the channel order below, of values 0..255.
        channel_order: "bgr" for weights that come from Caffe2, "rgb" otherwise.
        divisor: pictures are padded with zeros (after normalisation) to multiples of it.
    """

    short_side: int = 800
    max_side: int = 1333
    mean: tuple[float, float, float] = (103.53, 116.28, 123.675)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    channel_order: str = "bgr"
    divisor: int = 32

    def __post_init__(self) -> None:
        if self.channel_order not in ("rgb", "bgr"):
            raise ValueError(f"channel_order must be 'rgb' or 'bgr', not '{self.channel_order}'")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != 3 or not np.isfinite(np.asarray(values, np.float64)).all():
                raise ValueError(f"{name} must be 3 finite numbers, not {values}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be above 0, not {self.std}")
        if self.short_side < 0 or self.max_side < 1:
            raise ValueError(f"no picture fits sides of {self.short_side} and {self.max_side}")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ImagePreprocessing:
        """The inverse of :meth:`to_dict`."""
        values = dict(values)
        for name in ("mean", "std"):
            values[name] = tuple(values[name])
        return cls(**values)


def resized_size(height: int, width: int, short_side: int, max_side: int) -> tuple[int, int]:
    """(height, width) after resizing the shorter edge to ``short_side`` (0: unchanged).

    Halves are rounded up and the limit on the longer edge is applied to the unrounded size, as
    Detectron2's ResizeShortestEdge does it.
    """
    if short_side == 0:
        return height, width
    scale = short_side / min(height, width)
    new_height, new_width = (
        (float(short_side), scale * width) if height < width else (scale * height, short_side * 1.0)
    )
    longest = max(new_height, new_width)
    if longest > max_side:
        shrink = max_side / longest
        new_height, new_width = new_height * shrink, new_width * shrink
    return int(new_height + 0.5), int(new_width + 0.5)


def resize(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H,W,3) uint8 resized by Pillow's bilinear filter (which widens when it shrinks)."""
    if frame.shape[:2] == (height, width):
        return frame
    image = Image.fromarray(np.ascontiguousarray(frame))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def to_batch(
    frames: Sequence[np.ndarray], preprocessing: ImagePreprocessing, device: torch.device | str
) -> tuple[Tensor, list[tuple[int, int]]]:
    """Stacks RGB frames of any sizes into one normalised, padded batch.

    Frames are resized first. Returns the batch (B,3,H,W) float32 and each picture's (h, w) within.
    """
    resized = []
    for frame in frames:
        size = resized_size(*frame.shape[:2], preprocessing.short_side, preprocessing.max_side)
        resized.append(resize(frame, *size))
    return stack(resized, preprocessing, device)


def stack(
    frames: Sequence[np.ndarray], preprocessing: ImagePreprocessing, device: torch.device | str
) -> tuple[Tensor, list[tuple[int, int]]]:
    """Like :func:`to_batch` for frames that already have their final size."""
    sizes = [(frame.shape[0], frame.shape[1]) for frame in frames]
    divisor = max(preprocessing.divisor, 1)
    height = -(-max(h for h, _ in sizes) // divisor) * divisor
    width = -(-max(w for _, w in sizes) // divisor) * divisor
    if len(set(sizes)) == 1:
        pixels = torch.from_numpy(np.stack(frames)).to(device)
        batch = F.pad(_normalize(pixels, preprocessing), _margins(sizes[0], height, width))
        return batch, sizes
    padded = []
    for frame, size in zip(frames, sizes):
        pixels = torch.from_numpy(np.ascontiguousarray(frame))[None].to(device)
        padded.append(F.pad(_normalize(pixels, preprocessing), _margins(size, height, width)))
    return torch.cat(padded), sizes


def _margins(size: tuple[int, int], height: int, width: int) -> tuple[int, int, int, int]:
    return 0, width - size[1], 0, height - size[0]


def _normalize(pixels: Tensor, preprocessing: ImagePreprocessing) -> Tensor:
    """(B,H,W,3) uint8 RGB -> (B,3,H,W) float32."""
    if preprocessing.channel_order == "bgr":
        pixels = pixels.flip(-1)
    values = pixels.permute(0, 3, 1, 2).float()
    mean = torch.tensor(preprocessing.mean, device=pixels.device).view(1, 3, 1, 1)
    std = torch.tensor(preprocessing.std, device=pixels.device).view(1, 3, 1, 1)
    return (values - mean) / std
