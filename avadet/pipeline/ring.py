"""The frames of a movie in its own order, decoded once, for clips that overlap.

Clips of neighbouring keyframes share most of their frames, so frames are decoded once, in order,
into a ring that holds the current clip's stretch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch

from avadet.data.transforms import ClipTransform
from avadet.models.preprocess import Preprocessing
from avadet.pipeline.background import Ahead
from avadet.pipeline.cuts import ShotCuts
from avadet.structures import Clip, Keyframe, Sample
from avadet.video.ring import FrameRing, points_of_all
from avadet.video.sampling import GRID_FPS, clip_seconds, grid_index, grid_indices

# Small enough that a cut moves histograms by much, and nothing else of the picture is needed.
_CUT_SHORT_SIDE = 64
_CUT_STRIDE = 3
# A cut just before a keyframe is certain only some frames after it.
_CUT_LOOK_AHEAD = 2 * _CUT_STRIDE
FRAMES_AHEAD = 32


class Reader(Protocol):
    """What this room needs of ``VideoReader``."""

    width: int
    height: int
    fps: float
    duration: float

    def stream(
        self,
        seconds_sorted: Sequence[float],
        *,
        short_side: int | None = None,
        size: tuple[int, int] | None = None,
        fps: float = GRID_FPS,
    ) -> Iterator[tuple[float, np.ndarray]]: ...


class ClipRing:
    """The clips of keyframes in order, from frames that pass once.

    Args:
        reader: an open movie.
        keyframes: in order.
        shape: how clips are cut; None for no clips, only the frames that ``cuts`` wants.
        cuts: is shown all frames that pass.
        movie_start: second of the source movie at which the file's first frame lies.

    Attributes:
        stream: (second, frame) of every frame that some clip needs, once, in order; whoever reads
            it gives it back by ``take_from``.
    """

    _frames: FrameRing

    def __init__(
        self,
        reader: Reader,
        keyframes: Sequence[Keyframe],
        shape: Preprocessing | None,
        cuts: ShotCuts | None = None,
        movie_start: float = 0.0,
    ) -> None:
        self._cuts = cuts
        self._start = movie_start
        self._shape = shape
        self._fps = shape.fps if shape else GRID_FPS
        needed = [] if shape is None else points_of_all([self._points(each) for each in keyframes])
        if cuts is not None:
            # Between clips that do not touch, cuts would go unseen.
            first, last = self._index(keyframes[0]), self._index(keyframes[-1])
            needed = sorted({*needed, *range(first, last + _CUT_LOOK_AHEAD + 1, _CUT_STRIDE)})
        side = shape.test_short_side if shape else _CUT_SHORT_SIDE
        seconds = [point / self._fps for point in needed]
        self.stream = (
            reader.stream(seconds, short_side=side, fps=self._fps) if seconds else iter(())
        )

    def take_from(self, passing: Iterable[tuple[float, np.ndarray]]) -> None:
        """``stream``, perhaps by way of another thread; before the first ``clip``."""
        self._frames = FrameRing(self._seen(passing))

    def clip(self, keyframe: Keyframe, *, wanted: bool) -> Clip | None:
        """Moves on to a keyframe; its clip where one is wanted."""
        if self._shape is None:
            self._frames.advance(self._index(keyframe) + _CUT_LOOK_AHEAD)
            return None
        points = self._points(keyframe)
        if not wanted:
            self._frames.advance(int(points[-1]), keep_from=int(points[0]))
            return None
        return Clip(self._frames.clip(points), points / self._fps + self._start)

    def _index(self, keyframe: Keyframe) -> int:
        return grid_index(keyframe.second - self._start, self._fps)

    def _points(self, keyframe: Keyframe) -> np.ndarray:
        shape = self._shape
        assert shape is not None
        times = clip_seconds(keyframe.second, shape.num_frames, shape.frame_stride, shape.fps)
        return grid_indices(times - self._start, self._fps)

    def _seen(
        self, passing: Iterable[tuple[float, np.ndarray]]
    ) -> Iterator[tuple[int, np.ndarray]]:
        for second, frame in passing:
            if self._cuts is not None:
                self._cuts.see(second + self._start, frame)
            yield grid_index(second, self._fps), frame


def clips_in_order(
    reader: Reader,
    keyframes: Sequence[Keyframe],
    shape: Preprocessing,
    *,
    movie_start: float = 0.0,
    ahead: bool = True,
) -> Iterator[Clip]:
    """The clip around each keyframe, in order, every frame decoded once.

    Args:
        reader: an open movie.
        keyframes: of this movie, seconds increasing.
        shape: how clips are cut.
        movie_start: second of the source movie at which the file's first frame lies.
        ahead: decode in a thread of its own.
    """
    ring = ClipRing(reader, keyframes, shape, movie_start=movie_start)
    with Ahead(ring.stream, FRAMES_AHEAD * ahead, "clips") as passing:
        ring.take_from(passing)
        for keyframe in keyframes:
            clip = ring.clip(keyframe, wanted=True)
            assert clip is not None
            yield clip


def make_sample(
    keyframe: Keyframe, clip: Clip, boxes_norm: np.ndarray, scores: np.ndarray
) -> Sample:
    """What the data set makes of a clip at test time: whole frames, boxes in their pixels."""
    transform = ClipTransform()  # the reader has scaled already
    return Sample(
        keyframe=keyframe,
        video=transform.frames(clip.frames),
        boxes_px=torch.from_numpy(transform.boxes_px(boxes_norm, *clip.size)),
        boxes_norm=torch.from_numpy(np.ascontiguousarray(boxes_norm)),
        labels=None,
        box_scores=torch.from_numpy(np.ascontiguousarray(scores)),
    )
