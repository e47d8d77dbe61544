"""What a network expects of its clips: how many frames, how far apart, how pixels are scaled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor

from avadet.errors import UserError

CHANNEL_ORDERS = ("rgb", "bgr")
MODALITIES = ("rgb", "flow")
# Optical flow is kept as pictures: 128 is no motion, the first two channels are x and y
# (``data.flow``). So scaled it lies in [-1,1].
FLOW_MEAN = (128 / 255, 128 / 255, 128 / 255)
FLOW_STD = (127 / 255, 127 / 255, 127 / 255)


@dataclass(frozen=True)
class Preprocessing:
    """Facts that belong to weights.

    Attributes:
        num_frames: T, of the fastest pathway.
        frame_stride: between frames, on the grid of ``fps``.
        test_short_side: pixels of the shorter side at test time.
        mean, std: per channel in the order fed, of pixels in [0,1].
        channel_order: "rgb", or "bgr" for weights trained so.
        fps: of the grid; 30 for most public weights.
        modality: "rgb", or "flow" for networks of optical flow, which get its two channels.
        one_crop_side: shorter side where a test cuts one square from the middle instead of three:
            the smallest in training, as PySlowFast does (256 pixels around MViT's 224); None takes
            ``test_short_side``.
    """

    num_frames: int
    frame_stride: int
    test_short_side: int = 256
    mean: tuple[float, float, float] = (0.45, 0.45, 0.45)
    std: tuple[float, float, float] = (0.225, 0.225, 0.225)
    channel_order: str = "rgb"
    fps: float = 30.0
    modality: str = "rgb"
    one_crop_side: int | None = None

    def __post_init__(self) -> None:
        for name in ("num_frames", "frame_stride", "test_short_side"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise UserError(f"preprocessing.{name}: {value!r} must be an integer of at least 1")
        side = self.one_crop_side
        if side is not None and not (isinstance(side, int) and side >= self.test_short_side):
            raise UserError(
                f"preprocessing.one_crop_side: {side!r} must be an integer that leaves room for a "
                f"crop of {self.test_short_side}"
            )
        for name in ("mean", "std"):
            values = tuple(float(value) for value in getattr(self, name))
            odd = len(values) != 3 or not all(map(math.isfinite, values))
            if odd or (name == "std" and min(values) <= 0):
                raise UserError(f"preprocessing.{name}: {values} must be three numbers, std > 0")
            object.__setattr__(self, name, values)
        if self.channel_order not in CHANNEL_ORDERS:
            raise UserError(
                f"preprocessing.channel_order: '{self.channel_order}' is not rgb or bgr"
            )
        if not 0 < self.fps < math.inf:
            raise UserError(f"preprocessing.fps: {self.fps} must be a positive number")
        if self.modality not in MODALITIES:
            raise UserError(f"preprocessing.modality: '{self.modality}' is not rgb or flow")
        if self.modality == "flow" and self.channel_order != "rgb":
            raise UserError("preprocessing.channel_order: flow has x before y, that is 'rgb'")

    @property
    def channels(self) -> int:
        """Of the clips that the network gets: 3, or 2 of flow."""
        return 2 if self.modality == "flow" else 3

    def test_scale(self, crops: int) -> int:
        """The shorter side that frames are scaled to where a test cuts so many square crops."""
        if crops == 1 and self.one_crop_side is not None:
            return self.one_crop_side
        return self.test_short_side

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        values = asdict(self)
        return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """The inverse of ``to_dict``.

        Raises:
            UserError: unknown or missing keys, or values that make no sense.
        """
        unknown = set(values) - {each.name for each in fields(cls)}
        if unknown:
            raise UserError(f"preprocessing: unknown keys {sorted(unknown)}")
        try:
            return cls(**values)
        except (OverflowError, TypeError, ValueError) as error:
            raise UserError(f"preprocessing: {error}") from error


def normalize(video: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Pixels to what the network was trained on: (x / 255 - mean) / std.

    Args:
        video: (B,3,T,H,W) or (3,T,H,W), RGB or pictures of flow, values 0..255, uint8 or
            floating point.
        preprocessing: the network's.

    Returns:
        float32 of the same shape, on the same device and in the same memory format; channels
        reversed where the network wants BGR, the first two of them where it wants flow.
    """
    axis = video.ndim - 4
    if axis not in (0, 1) or video.shape[axis] != 3:
        raise ValueError(f"video must be (B,3,T,H,W) or (3,T,H,W): {tuple(video.shape)}")
    if preprocessing.channel_order == "bgr":
        video = video.flip(axis)
    # The result is always a new tensor, so that the arithmetic can run in place.
    x = video.to(torch.float32, copy=True)
    x.div_(255.0)
    # Numbers rather than tensors of them, which would travel to the GPU and be waited for.
    for part, mean, std in _channels(x, axis, preprocessing):
        part.sub_(mean).div_(std)
    return x.narrow(axis, 0, 2) if preprocessing.modality == "flow" else x


def _channels(
    x: Tensor, axis: int, preprocessing: Preprocessing
) -> list[tuple[Tensor, float, float]]:
    """What has one mean and one deviation: all of the clip, or a channel at a time."""
    pairs = list(zip(preprocessing.mean, preprocessing.std, strict=True))
    if len(set(pairs)) == 1:
        return [(x, *pairs[0])]
    return [(x.select(axis, c), *pair) for c, pair in enumerate(pairs)]
