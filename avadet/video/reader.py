"""Reading the frames of a movie by time, straight from the file."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from avadet.errors import UserError
from avadet.structures import Clip
from avadet.video.decoding import FrameDecoder
from avadet.video.frame_folder import FrameFolderReader
from avadet.video.movie import Movie
from avadet.video.nearest import choose_frames
from avadet.video.sampling import GRID_FPS, clamp_to_window, grid_indices
from avadet.video.scaling import FrameScaler, display_size

_log = logging.getLogger(__name__)

# Movies whose damage was reported already: a data set opens the same one thousands of times.
_reported: set[str] = set()


class VideoReader:
    """Frame-exact random access to a movie, by seconds.

    Times are taken to the nearest point of a 30 Hz grid (halves up), and for each grid point the
    frame nearest in time is shown (the later one of two as near); before the first and after the
    last frame the edge repeats. At 24, 25, 29.97 and 30 frames per second these are the frames
    that ``ffmpeg -r 30`` extracts. Time zero is ffmpeg's, see ``decoding.Movie``.

    Pictures are shown upright (rotation flags are followed) and in stored pixels (the sample
    aspect ratio is not). Where packets cannot be decoded the nearest decodable frames stand in;
    ``num_warnings`` counts the failures and one warning per movie is logged.

    The file is opened on first use and the open file is not pickled, so readers may travel to
    data-loader workers.

    Args:
        path: any file that FFmpeg reads.

    Raises:
        UserError: (on use) the file is missing, unreadable, or holds no decodable picture.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.num_warnings = 0
        self._decoded = 0
        self._movie: Movie | None = None
        self._size: tuple[int, int] | None = None
        self._duration: float | None = None

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_movie": None}

    def close(self) -> None:
        """Closes the file; the reader opens it again when used again."""
        if self._movie is not None:
            self._decoded += self._movie.decoded
            self._movie.close()
            self._movie = None

    @property
    def frames_decoded(self) -> int:
        """Frames that came out of the decoder so far, wanted or only passed on the way.

        Those of a ``stream`` count once it has ended.
        """
        return self._decoded + (self._movie.decoded if self._movie is not None else 0)

    @property
    def height(self) -> int:
        """Pixels, as displayed."""
        return self._display_size()[0]

    @property
    def width(self) -> int:
        """Pixels, as displayed."""
        return self._display_size()[1]

    @property
    def fps(self) -> float:
        """Frames per second by the header (the mean, where the rate varies)."""
        return self._open().fps

    @property
    def duration(self) -> float:
        """Seconds to the end of the last frame that is really in the file.

        The header is not believed: the end of the file is read (without decoding) once.
        """
        if self._duration is None:
            movie = Movie(self.path)
            try:
                self._duration = movie.find_end()
            finally:
                movie.close()
        return self._duration

    def read(
        self,
        seconds: ArrayLike,
        *,
        short_side: int | None = None,
        size: tuple[int, int] | None = None,
        window: tuple[float, float] | None = None,
        fps: float = GRID_FPS,
    ) -> Clip:
        """The frames shown at ``seconds``, in the order asked for.

        Args:
            seconds: (T,) times, in any order, repeats allowed.
            short_side: scale the short side to this many pixels, in the decoder's scaler.
            size: or scale to this (height, width).
            window: (start, end) seconds; what lies outside repeats the window's edge frames.
            fps: points per second of the grid.

        Shape: (T,) -> frames (T,H,W,3), seconds (T,): the frames' own times.

        Raises:
            UserError: the file is missing or unreadable, or not one frame of it can be decoded.
            ValueError: no times, or times that are not finite.
        """
        indices = clamp_to_window(grid_indices(_checked(seconds), fps), window, fps)
        unique, places = np.unique(indices, return_inverse=True)
        movie = self._open()
        scaler = FrameScaler(short_side, size, movie.shape)
        times, pictures = self._read_grid(movie, unique / fps, scaler)
        return Clip(
            frames=np.stack([pictures[times[place]] for place in places]),
            seconds=np.asarray([times[place] for place in places], dtype=np.float64),
        )

    def stream(
        self,
        seconds_sorted: Iterable[float],
        *,
        short_side: int | None = None,
        size: tuple[int, int] | None = None,
        fps: float = GRID_FPS,
    ) -> Iterator[tuple[float, np.ndarray]]:
        """The frames shown at increasing times, every frame of the movie decoded once at most.

        The pictures are bit-identical to those of ``read`` for the same times and size.

        Yields:
            (the time asked for, (H,W,3) uint8 RGB).

        Raises:
            UserError: as ``read``.
            ValueError: the times decrease or are not finite.
        """
        asked = sorted_seconds(seconds_sorted)
        if not asked.size:
            return
        wanted = grid_indices(asked, fps) / fps
        movie = Movie(self.path)
        scaler = FrameScaler(short_side, size, movie.shape)
        shown: tuple[float, np.ndarray] | None = None
        try:
            for place, time, frame, exact in choose_frames(movie, wanted):
                if not exact:
                    with VideoReader(self.path) as other:
                        clip = other.read(
                            wanted[place : place + 1], short_side=short_side, size=size, fps=fps
                        )
                        self._decoded += other.frames_decoded
                    shown = float(clip.seconds[0]), clip.frames[0]
                elif shown is None or shown[0] != time:
                    shown = time, scaler(frame)
                yield float(asked[place]), shown[1]
            if shown is None:
                raise self.nothing_decodable()
        finally:
            self.account(movie)
            movie.close()

    def _open(self) -> Movie:
        if self._movie is None:
            self._movie = Movie(self.path)
        return self._movie

    def account(self, movie: Movie) -> None:
        """Adds what a pass over the movie decoded, and failed to."""
        self._decoded += movie.decoded
        self._count_damage(movie.damage)

    def _display_size(self) -> tuple[int, int]:
        if self._size is None:
            # Only a decoded frame tells the rotation.
            movie = self._open()
            movie.rewind()
            for _, frame in FrameDecoder(movie, trusting=True):
                self._size = movie.shape or display_size(frame)
                break
            else:
                raise self.nothing_decodable()
        return self._size

    def _read_grid(
        self, movie: Movie, wanted: np.ndarray, scaler: FrameScaler
    ) -> tuple[list[float], dict[float, np.ndarray]]:
        """For each of the increasing ``wanted`` times the time of its frame; pictures by time."""
        skip = True
        while True:
            times: list[float] = []
            pictures: dict[float, np.ndarray] = {}
            exact = True
            for _, time, frame, exact in choose_frames(movie, wanted, skip):
                if not exact:
                    break
                times.append(time)
                if time not in pictures:
                    pictures[time] = scaler(frame)
            if exact:
                self._count_damage(movie.damage)
                if not times:
                    raise self.nothing_decodable()
                return times, pictures
            # A frame that was left out would have been nearer: nothing is left out now.
            skip = False

    def _count_damage(self, count: int) -> None:
        self.num_warnings += count
        name = str(self.path)
        if count and name not in _reported:
            _reported.add(name)
            _log.warning(
                "%s: damaged (%d packets cannot be decoded); the nearest frames stand in",
                name,
                count,
            )

    def nothing_decodable(self) -> UserError:
        """What is wrong with a movie without a frame."""
        return UserError(f"{self.path}: not one frame can be decoded; the file is damaged or empty")


def _checked(seconds: ArrayLike) -> np.ndarray:
    times = np.atleast_1d(np.asarray(seconds, dtype=np.float64))
    if times.ndim != 1 or not times.size or not np.isfinite(times).all():
        raise ValueError(f"times must be a non-empty list of finite seconds: {seconds!r}")
    return times


def sorted_seconds(seconds: Iterable[float]) -> np.ndarray:
    """Increasing times of a stream, none allowed.

    Shape: (T,) float64.

    Raises:
        ValueError: the times decrease or are not finite.
    """
    asked = np.asarray(list(seconds), dtype=np.float64)
    if asked.size and np.any(np.diff(_checked(asked)) < 0):
        raise ValueError("stream() needs times in increasing order; read() takes any")
    return asked


def open_video(path: str | os.PathLike[str]) -> VideoReader | FrameFolderReader:
    """A reader for a movie file, or for a folder of extracted frames.

    Raises:
        UserError: a folder without frames.
    """
    return FrameFolderReader(path) if Path(path).is_dir() else VideoReader(path)
