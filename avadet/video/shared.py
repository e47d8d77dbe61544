"""One pass over a movie for several who look at it: each frame is decoded once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple

import av
import numpy as np

from avadet.errors import UserError
from avadet.video.movie import Movie
from avadet.video.nearest import Choice, choose_frames
from avadet.video.reader import VideoReader, sorted_seconds
from avadet.video.sampling import GRID_FPS, grid_indices
from avadet.video.scaling import FrameScaler


class _Shown(NamedTuple):
    """A decoded frame, not yet scaled, and the time it was asked for."""

    asked: float
    time: float
    frame: av.VideoFrame
    exact: bool


@dataclass
class _Looker:
    """One stream: what it wants, what waits for it."""

    asked: list[float]
    grid: np.ndarray
    short_side: int | None
    size: tuple[int, int] | None
    fps: float
    places: list[int] = field(default_factory=list)
    given: int = 0
    waiting: deque[_Shown] = field(default_factory=deque)
    gone: bool = False

    @property
    def wants_more(self) -> bool:
        return not self.gone and self.given < len(self.places)


class SharedPass:
    """Streams that share their decoding; each shows what ``VideoReader.stream`` would.

    All streams are taken before the first is read. Whoever needs a frame that nobody has reached
    yet decodes up to there, so that streams may be read from one thread or from several. Frames
    wait, as they came from the decoder, for the streams that are behind: the caller bounds how
    far one gets ahead of another.

    Args:
        reader: of the movie; its size, rate and length are the pass's.
        timed: entered while decoding, for those who measure.
    """

    def __init__(
        self,
        reader: VideoReader,
        timed: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._reader = reader
        self._timed = timed
        self._lock = threading.Lock()
        self._lookers: list[_Looker] = []
        self._movie: Movie | None = None
        self._choices: Iterator[Choice] | None = None
        self._shape: tuple[int, int] | None = None
        self._failure: UserError | None = None

    def __enter__(self) -> SharedPass:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; streams end where they are."""
        with self._lock:
            for looker in self._lookers:
                looker.gone = True
                looker.waiting.clear()
            self._close_file()

    @property
    def width(self) -> int:
        """Pixels, as displayed."""
        return self._reader.width

    @property
    def height(self) -> int:
        """Pixels, as displayed."""
        return self._reader.height

    @property
    def fps(self) -> float:
        """See ``VideoReader.fps``."""
        return self._reader.fps

    @property
    def duration(self) -> float:
        """See ``VideoReader.duration``."""
        return self._reader.duration

    def stream(
        self,
        seconds_sorted: Iterable[float],
        *,
        short_side: int | None = None,
        size: tuple[int, int] | None = None,
        fps: float = GRID_FPS,
    ) -> Iterator[tuple[float, np.ndarray]]:
        """Arguments, results and errors of ``VideoReader.stream``; nothing is decoded yet.

        Raises:
            RuntimeError: the pass has begun.
        """
        if self._choices is not None:
            raise RuntimeError("all streams must be taken before one is read")
        asked = sorted_seconds(seconds_sorted)
        grid = grid_indices(asked, fps) / fps
        looker = _Looker(asked.tolist(), grid, short_side, size, fps)
        self._lookers.append(looker)
        return self._read(looker)

    def _read(self, looker: _Looker) -> Iterator[tuple[float, np.ndarray]]:
        scaler: FrameScaler | None = None
        last: tuple[float, np.ndarray] | None = None
        try:
            while (shown := self._next(looker)) is not None:
                if not shown.exact:
                    picture = self._alone(looker, shown.asked)
                    last = None
                elif last is not None and last[0] == shown.time:
                    picture = last[1]
                else:
                    with self._timed():
                        if scaler is None:
                            scaler = FrameScaler(looker.short_side, looker.size, self._shape)
                        picture = scaler(shown.frame)
                    last = shown.time, picture
                yield shown.asked, picture
        finally:
            self._leave(looker)

    def _next(self, looker: _Looker) -> _Shown | None:
        with self._lock:
            if self._choices is None and looker.asked:
                self._begin()
            while not looker.waiting and looker.wants_more:
                if self._failure is not None:
                    raise UserError(str(self._failure))
                with self._timed():
                    self._advance()
            return looker.waiting.popleft() if looker.waiting else None

    def _begin(self) -> None:
        union = np.unique(np.concatenate([looker.grid for looker in self._lookers]))
        for looker in self._lookers:
            looker.places = np.searchsorted(union, looker.grid).tolist()
        self._movie = Movie(self._reader.path)
        self._shape = self._movie.shape
        self._choices = choose_frames(self._movie, union)

    def _advance(self) -> None:
        """Decodes up to the next time that somebody wants, and hands the frame out."""
        assert self._choices is not None
        try:
            choice = next(self._choices, None)
        except UserError as error:
            self._failure = error
            raise
        if choice is None:
            # The one reason for an end before all have what they want.
            self._failure = self._reader.nothing_decodable()
            raise self._failure
        for looker in self._lookers:
            while looker.wants_more and looker.places[looker.given] == choice.place:
                asked = looker.asked[looker.given]
                looker.waiting.append(_Shown(asked, choice.time, choice.frame, choice.exact))
                looker.given += 1

    def _alone(self, looker: _Looker, asked: float) -> np.ndarray:
        """A frame that was left out in passing, decoded for itself."""
        with VideoReader(self._reader.path) as other:
            return other.read(
                [asked], short_side=looker.short_side, size=looker.size, fps=looker.fps
            ).frames[0]

    def _leave(self, looker: _Looker) -> None:
        with self._lock:
            looker.gone = True
            looker.waiting.clear()
            if not any(each.wants_more for each in self._lookers):
                self._close_file()

    def _close_file(self) -> None:
        if self._movie is not None:
            self._reader.account(self._movie)
            self._movie.close()
            self._movie = None
