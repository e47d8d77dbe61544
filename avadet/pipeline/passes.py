"""How often a movie is decoded: once for analysis and drawing, where the frames between fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from avadet.models.preprocess import Preprocessing
from avadet.pipeline.analyse import KEYFRAMES_AHEAD
from avadet.pipeline.clock import StageClock
from avadet.pipeline.ring import FRAMES_AHEAD, Reader
from avadet.video.reader import VideoReader
from avadet.video.sampling import GRID_FPS
from avadet.video.shared import SharedPass

# Detections that may wait to be drawn: decoded frames wait along with them.
MOMENTS_TO_DRAW = 2
# Bytes of decoded frames that may wait between analysis and drawing.
_MOST_WAITING = 256_000_000
_BYTES_PER_PIXEL = 1.5  # 4:2:0, as frames come from the decoder


class TimedReader:
    """A reader whose streams count as decoding."""

    def __init__(self, reader: Reader, clock: StageClock) -> None:
        self._reader, self._clock = reader, clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def stream(
        self,
        seconds_sorted: Sequence[float],
        *,
        short_side: int | None = None,
        size: tuple[int, int] | None = None,
        fps: float = GRID_FPS,
    ) -> Iterator[tuple[float, np.ndarray]]:
        """See ``VideoReader.stream``."""
        frames = self._reader.stream(seconds_sorted, short_side=short_side, size=size, fps=fps)
        return self._clock.each("decode", frames)


@contextmanager
def passes(
    reader: Reader, clock: StageClock, waiting_bytes: float
) -> Iterator[tuple[Reader, Reader]]:
    """Yields readers for the analysis and for the drawing.

    They are one, and the movie is decoded once, where it is a movie and what waits between the
    two fits into memory. All streams must be taken before the first is read.

    Args:
        waiting_bytes: see ``waiting_bytes``.
    """
    if not isinstance(reader, VideoReader):
        timed = TimedReader(reader, clock)
        yield timed, timed
        return
    with SharedPass(reader, timed=lambda: clock("decode")) as shared:
        fits = waiting_bytes <= _MOST_WAITING
        yield shared, shared if fits else TimedReader(reader, clock)


def waiting_bytes(
    reader: Reader,
    fps: float,
    shape: Preprocessing | None,
    *,
    interval: float,
    gap: float,
    batch_size: int,
) -> float:
    """What the frames between analysis and drawing take at most.

    The analysis stands at the end of a clip, with frames and keyframes ready for the next ones;
    the drawing where no later keyframe can change a box.

    Args:
        fps: frames per second drawn.
        shape: of the clips; None where there are none.
        interval: seconds between keyframes.
        gap: the longest that is bridged where a person is missed.
        batch_size: keyframes analysed at a time.
    """
    seconds = gap + (batch_size + MOMENTS_TO_DRAW + KEYFRAMES_AHEAD) * interval
    seconds += FRAMES_AHEAD / GRID_FPS
    if shape is not None:
        seconds += shape.num_frames * shape.frame_stride / shape.fps / 2
    return seconds * fps * reader.height * reader.width * _BYTES_PER_PIXEL
