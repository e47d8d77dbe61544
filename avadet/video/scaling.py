"""From a decoded frame to an RGB array: scaled in libswscale, then turned upright."""

from __future__ import annotations

import math
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

# libswscale's SWS_BILINEAR | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT. Without the latter two,
# frames that keep their size take a short cut that is up to two grey levels darker than scaled
# ones; scaling itself costs the same either way.
SCALING = 0x2 | 0x40000 | 0x2000

# Red, green and blue in planes of their own: libswscale makes those with vector instructions, but
# interleaved pixels one by one. Interleaving afterwards included, that is half the time for the
# same bytes (0.45 ms against 1.0 for 854x480 to 455x256).
_PLANAR = "gbrp"


def scaled_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """(height, width) with the short side brought to ``short_side``; the long side is floored.

    The floor is PySlowFast's, so that boxes and maps have the published sizes.
    """
    if height <= width:
        return short_side, max(short_side, math.floor(width / height * short_side))
    return max(short_side, math.floor(height / width * short_side)), short_side


def output_size(
    height: int, width: int, short_side: int | None, size: tuple[int, int] | None
) -> tuple[int, int]:
    """(height, width) of the picture asked for.

    Raises:
        ValueError: both ``short_side`` and ``size`` are given, or one is below 1.
    """
    if short_side is not None and size is not None:
        raise ValueError("give short_side or size, not both")
    wanted = scaled_size(height, width, short_side) if short_side is not None else size
    if wanted is None:
        return height, width
    if min(wanted) < 1:
        raise ValueError(f"frames of height and width {wanted} cannot be made")
    return int(wanted[0]), int(wanted[1])


def quarter_turns(frame: av.VideoFrame) -> int:
    """How often the picture must be turned by 90 degrees counter-clockwise to stand upright."""
    return round(getattr(frame, "rotation", 0) / 90) % 4


def display_size(frame: av.VideoFrame) -> tuple[int, int]:
    """(height, width) as displayed. Pixels count: the sample aspect ratio is not applied."""
    if quarter_turns(frame) % 2:
        return frame.width, frame.height
    return frame.height, frame.width


class FrameScaler:
    """Turns the frames of one movie into arrays of one size.

    Args:
        short_side: scales the short side to this, keeping the shape.
        size: (height, width) to scale to. Neither: the size of the first frame.
        shape: (height, width) that counts as the frames' own, where they are a smaller copy.
    """

    def __init__(
        self,
        short_side: int | None = None,
        size: tuple[int, int] | None = None,
        shape: tuple[int, int] | None = None,
    ) -> None:
        self._short_side = short_side
        self._wanted = size
        self._shape = shape
        self._size: tuple[int, int] | None = None
        self._reformatter = VideoReformatter()
        self._arguments: dict[str, Any] = {"threads": 1}

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """Shape: (H,W,3) uint8 RGB, as displayed.

        All frames come out in the size of the first, also where the movie changes its size.
        """
        if self._size is None:
            shape = self._shape or display_size(frame)
            self._size = output_size(*shape, self._short_side, self._wanted)
        turns = quarter_turns(frame)
        height, width = self._size[::-1] if turns % 2 else self._size
        picture = self._convert(frame, height, width).to_ndarray()
        return np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture

    def _convert(self, frame: av.VideoFrame, height: int, width: int) -> av.VideoFrame:
        try:
            return self._reformatter.reformat(
                frame,
                width=width,
                height=height,
                format=_PLANAR,
                interpolation=SCALING,
                **self._arguments,
            )
        except TypeError:
            # Older PyAV always scales in one thread and has no such argument.
            if not self._arguments:
                raise
            self._arguments = {}
            return self._convert(frame, height, width)
