"""The movie with people and actions drawn on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avadet import boxes as box_math
from avadet.pipeline.background import Ahead
from avadet.pipeline.clock import StageClock
from avadet.pipeline.ring import Reader
from avadet.structures import Detections
from avadet.tracking import Timeline, TrackedBox
from avadet.video.sampling import GRID_FPS
from avadet.video.writer import VideoWriter
from avadet.visualize import Painter, Person, short_names

_FRAMES_AHEAD = 8
_MOST_FPS = 60.0


@dataclass(frozen=True)
class Moment:
    """A keyframe's tracked people, and the cuts since the keyframe before."""

    detections: Detections
    cuts: tuple[float, ...] = ()


@dataclass(frozen=True)
class Labels:
    """Which actions are written beside a person.

    Attributes:
        names: of the classes.
        threshold: least probability.
        top_k: the most probable ones instead, whatever their probability.
    """

    names: Sequence[str]
    threshold: float = 0.5
    top_k: int | None = None

    def of(self, scores: np.ndarray) -> tuple[tuple[str, float], ...]:
        """(name, probability), most probable first."""
        order = np.argsort(-scores, kind="stable")[: self.top_k]
        return tuple(
            (self.names[k], float(scores[k]))
            for k in order
            if self.top_k is not None or scores[k] >= self.threshold
        )


@dataclass(frozen=True)
class Stretch:
    """The frames of the written movie.

    Attributes:
        start: second of the file at which it begins.
        end: second at which it ends.
        fps: constant frame rate.
        height: pixels.
        width: pixels.
        movie_start: second of the source movie at which the file begins.
    """

    start: float
    end: float
    fps: float
    height: int
    width: int
    movie_start: float = 0.0

    @classmethod
    def of(
        cls,
        reader: Reader,
        start: float = 0.0,
        end: float | None = None,
        *,
        movie_start: float = 0.0,
        scale: float | None = None,
        min_height: int = 0,
    ) -> Stretch:
        """The frames between two times of the source, enlarged where they are small.

        A movie of more than 60 frames a second is written at a half, a third, ... of its rate; a
        variable rate becomes its mean.

        Args:
            scale: factor of both sides; overrides ``min_height``.
            min_height: lower movies are enlarged to it, so that labels fit.
        """
        fps = reader.fps if 0 < reader.fps < 1000 else GRID_FPS
        fps /= np.ceil(fps / _MOST_FPS - 1e-3)
        factor = scale or max(1.0, min_height / reader.height)
        height, width = (
            max(2, 2 * round(side * factor / 2)) for side in (reader.height, reader.width)
        )
        first = max(0.0, start - movie_start)
        last = reader.duration if end is None else min(end - movie_start, reader.duration)
        return cls(first, last, float(fps), height, width, movie_start)

    @property
    def seconds(self) -> list[float]:
        """Times of the frames in the file; one at least."""
        count = max(1, int((self.end - self.start) * self.fps + 0.5))
        return [self.start + k / self.fps for k in range(count)]

    def frames(self, reader: Reader) -> Iterator[tuple[float, np.ndarray]]:
        """The frames, each with its second in the file.

        Shape: (height,width,3) uint8, RGB.
        """
        return reader.stream(self.seconds, size=(self.height, self.width), fps=self.fps)


def render(
    moments: Iterator[Moment],
    frames: Iterator[tuple[float, np.ndarray]],
    stretch: Stretch,
    out: Path,
    labels: Labels,
    timeline: Timeline,
    *,
    painter: Painter | None = None,
    audio_from: Path | None = None,
    stop: Callable[[], bool] = bool,
    on_frame: Callable[[], object] = bool,
    clock: StageClock | None = None,
    ahead: bool = True,
) -> int:
    """Writes the movie while moments arrive; returns the number of frames written.

    A frame is drawn as soon as no later keyframe can change its boxes, so that only a second or
    two of detections and a handful of frames are in memory.

    Args:
        moments: in movie order, one per keyframe.
        frames: ``stretch.frames`` of the movie.
        stretch: which frames they are.
        out: the movie to write, .mp4.
        labels: what to say of people.
        timeline: an empty one.
        painter: of the stretch's size.
        audio_from: movie whose sound is kept.
        stop: asked before each frame: whether the movie ends here (interrupted).
        on_frame: called after each frame.
        clock: gathers the time of drawing and encoding.
        ahead: take the frames in a thread of its own.
    """
    clock = clock or StageClock()
    painter = painter or Painter(stretch.height, stretch.width)
    shown = Labels(short_names(labels.names), labels.threshold, labels.top_k)
    written = 0
    with (
        Ahead(frames, _FRAMES_AHEAD * ahead, "drawing") as passing,
        VideoWriter(
            out,
            stretch.width,
            stretch.height,
            stretch.fps,
            audio_from=audio_from,
            audio_start=stretch.start,
        ) as writer,
    ):
        for shown_at, frame in passing:
            second = shown_at + stretch.movie_start
            while timeline.settled_until <= second:
                moment = next(moments, None)
                if moment is None:
                    timeline.finish()
                    break
                timeline.add(moment.detections, cuts=moment.cuts)
            if stop() and written:
                break
            with clock("draw"):
                people = [_person(box, stretch, shown) for box in timeline.at(second)]
                picture = painter.draw(frame, people)
            with clock("encode"):
                writer.write(picture)
            timeline.forget(second)
            written += 1
            on_frame()
    return written


def _person(box: TrackedBox, stretch: Stretch, labels: Labels) -> Person:
    pixels = box_math.norm_to_px(box.box_norm[None], stretch.height, stretch.width)[0]
    return Person(
        tuple(float(v) for v in pixels),
        box.track_id,
        f"person {box.track_id}",
        labels.of(box.scores),
        box.opacity,
    )
