"""From a movie to detections, in movie order and with bounded memory.

Clips of neighbouring keyframes share most of their frames, so frames are decoded once, in order,
into a ring that holds the current clip's stretch. The scores are bit-equal to those of the data
set read clip by clip, because the frames are (``VideoReader.stream`` gives those of ``read``),
the test transform is the data set's, and each clip goes through the network alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Protocol

import numpy as np
import torch

from avadet.data.transforms import ClipTransform
from avadet.pipeline.actions import ActionScorer
from avadet.pipeline.background import Ahead
from avadet.pipeline.clock import StageClock
from avadet.pipeline.cuts import ShotCuts
from avadet.pipeline.people import Found, PeopleFinder
from avadet.structures import Clip, Detections, Keyframe, Sample
from avadet.video.sampling import GRID_FPS, clip_seconds, grid_index, grid_indices

# Small enough that a cut moves histograms by much, and nothing else of the picture is needed.
_CUT_SHORT_SIDE = 64
_CUT_STRIDE = 3
# A cut just before a keyframe is certain only some frames after it.
_CUT_LOOK_AHEAD = 2 * _CUT_STRIDE
_FRAMES_AHEAD = 32
_KEYFRAMES_AHEAD = 2


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


def keyframe_seconds(start: float, end: float, rate: float = 1.0) -> list[float]:
    """Multiples of 1 / ``rate`` in [start, end); the middle where there is none.

    With AVA's one a second these are whole seconds, as in its annotations.
    """
    first = int(np.ceil(start * rate - 1e-9))
    last = int(np.ceil(end * rate - 1e-9))
    return [k / rate for k in range(first, last)] or [(start + max(end, start)) / 2]


def analyse(
    reader: Reader,
    video: str,
    seconds: Sequence[float],
    people: PeopleFinder,
    actions: ActionScorer | None,
    *,
    movie_start: float = 0.0,
    batch_size: int = 1,
    cuts: ShotCuts | None = None,
    clock: StageClock | None = None,
    ahead: bool = True,
) -> Iterator[Detections]:
    """Yields what is found at each keyframe, in order.

    Args:
        reader: an open movie.
        video: its name in the results.
        seconds: increasing times of the keyframes, in the source movie.
        people: finds boxes.
        actions: scores them; None for people only.
        movie_start: second of the source movie at which the file's first frame lies (900 for AVA's
            15-minute cuts).
        batch_size: keyframes per run of the networks. More than 1 is faster where the device is
            large, and equal up to rounding only.
        cuts: is shown all frames that pass; after a keyframe is yielded it knows the cuts up to
            there.
        clock: gathers the time per stage.
        ahead: decode in threads of their own.
    """
    clock = clock or StageClock()
    keyframes = [Keyframe(video, float(second)) for second in seconds]
    if not keyframes:
        return
    ring = _Ring(reader, keyframes, actions, cuts, movie_start)
    shown_at = [keyframe.second - movie_start for keyframe in keyframes]
    pictures = reader.stream(shown_at) if people.needs_frames else iter(())
    with (
        Ahead(clock.each("decode", ring.stream), _FRAMES_AHEAD * ahead, "clips") as passing,
        Ahead(clock.each("decode", pictures), _KEYFRAMES_AHEAD * ahead, "keyframes") as shown,
    ):
        ring.passing = iter(passing)
        frames = (frame for _, frame in shown)
        for start in range(0, len(keyframes), batch_size):
            group = keyframes[start : start + batch_size]
            looked_at = list(islice(frames, len(group))) if people.needs_frames else None
            with clock("people"):
                found = people.find(group, looked_at)
            samples = []
            for keyframe, (boxes, scores) in zip(group, found):
                clip = ring.clip(keyframe, wanted=bool(len(boxes)))
                if clip is not None:
                    samples.append(make_sample(keyframe, clip, boxes, scores))
            yield from _scored(group, found, samples, actions, clock)


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


def _scored(
    group: Sequence[Keyframe],
    found: Sequence[Found],
    samples: list[Sample],
    actions: ActionScorer | None,
    clock: StageClock,
) -> Iterator[Detections]:
    answers: dict[Keyframe, Detections] = {}
    if actions is not None and samples:
        with clock("actions"):
            answers = {each.keyframe: each for each in actions.score(samples)}
    classes = 0 if actions is None else len(actions.class_names)
    for keyframe, (boxes, scores) in zip(group, found):
        none = np.zeros((len(boxes), classes), np.float32)
        yield answers.get(keyframe, Detections(keyframe, boxes, scores, none))


class _Ring:
    """The stretch of frames that the current clip needs.

    Attributes:
        stream: (second, frame) of every frame that some clip needs, once, in order.
        passing: where those frames are taken from.
    """

    passing: Iterator[tuple[float, np.ndarray]]

    def __init__(
        self,
        reader: Reader,
        keyframes: Sequence[Keyframe],
        actions: ActionScorer | None,
        cuts: ShotCuts | None,
        movie_start: float,
    ) -> None:
        self._cuts = cuts
        self._start = movie_start
        self._frames: dict[int, np.ndarray] = {}
        self._newest = -np.inf
        self._shape = None if actions is None else actions.preprocessing
        self._fps = self._shape.fps if self._shape else GRID_FPS
        needed: set[int] = set()
        if self._shape is not None:
            for keyframe in keyframes:
                needed.update(self._indices(keyframe).tolist())
        if cuts is not None:
            # Between clips that do not touch, cuts would go unseen.
            first, last = self._index(keyframes[0]), self._index(keyframes[-1])
            needed.update(range(first, last + _CUT_LOOK_AHEAD + 1, _CUT_STRIDE))
        side = self._shape.test_short_side if self._shape else _CUT_SHORT_SIDE
        seconds = [index / self._fps for index in sorted(needed)]
        self.stream = (
            reader.stream(seconds, short_side=side, fps=self._fps) if seconds else iter(())
        )

    def _index(self, keyframe: Keyframe) -> int:
        return grid_index(keyframe.second - self._start, self._fps)

    def _indices(self, keyframe: Keyframe) -> np.ndarray:
        shape = self._shape
        assert shape is not None
        times = clip_seconds(keyframe.second, shape.num_frames, shape.frame_stride, shape.fps)
        return grid_indices(times - self._start, self._fps)

    def clip(self, keyframe: Keyframe, *, wanted: bool) -> Clip | None:
        """Moves on to a keyframe; its clip where one is wanted."""
        if self._shape is None:
            self._advance(self._index(keyframe) + _CUT_LOOK_AHEAD)
            self._frames.clear()
            return None
        indices = self._indices(keyframe)
        for old in [index for index in self._frames if index < indices[0]]:
            del self._frames[old]
        self._advance(int(indices[-1]), keep_from=int(indices[0]))
        if not wanted:
            return None
        frames = np.stack([self._frames[index] for index in indices.tolist()])
        return Clip(frames, indices / self._fps + self._start)

    def _advance(self, until: int, keep_from: int = 0) -> None:
        while self._newest < until:
            second, frame = next(self.passing, (np.inf, None))
            if frame is None:
                return
            self._newest = grid_index(second, self._fps)
            if self._newest >= keep_from:
                self._frames[self._newest] = frame
            if self._cuts is not None:
                self._cuts.see(second + self._start, frame)
