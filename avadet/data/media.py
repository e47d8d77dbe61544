"""Where the pictures of a named movie lie: movie files, frame folders, or frame lists."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from avadet.errors import UserError
from avadet.structures import Clip
from avadet.video.frame_folder import FrameFolderReader, list_frames
from avadet.video.reader import VideoReader

MOVIE_SUFFIXES = (
    ".mp4",
    ".mkv",
    ".webm",
    ".avi",
    ".mov",
    ".m4v",
    ".flv",
    ".wmv",
    ".mpg",
    ".mpeg",
    ".ts",
    ".3gp",
    ".gif",
)


class FrameReader(Protocol):
    """What data sets need of a reader: ``VideoReader``, ``FrameFolderReader``, a cached one."""

    def __enter__(self) -> FrameReader:
        """Itself."""

    def __exit__(self, *exception: object) -> None:
        """Closes it."""

    @property
    def duration(self) -> float:
        """Seconds."""

    def read(
        self,
        seconds: ArrayLike,
        *,
        short_side: int | None = None,
        size: tuple[int, int] | None = None,
        window: tuple[float, float] | None = None,
        fps: float = 30.0,
    ) -> Clip:
        """The frames shown at ``seconds``."""

    def stream(
        self,
        seconds_sorted: Iterable[float],
        *,
        short_side: int | None = None,
        size: tuple[int, int] | None = None,
        fps: float = 30.0,
    ) -> Iterator[tuple[float, np.ndarray]]:
        """The frames shown at increasing times, one after the other."""


class Media(Protocol):
    """Finds movies by name."""

    def open(self, video: str) -> FrameReader:
        """A reader for the movie; it may open the file later."""

    def missing(self, videos: Iterable[str]) -> list[str]:
        """Those of the names that are not there."""

    def where(self) -> str:
        """Where it looks, for error messages."""


class MovieFolder:
    """Movie files ``<folder>/<video>.<suffix>``; of several suffixes the first of the list.

    Raises:
        UserError: no such folder.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        try:
            names = sorted(os.listdir(self.folder))
        except OSError as error:
            raise UserError(
                f"{self.folder}: cannot be read as a folder of movies: {error.strerror}"
            ) from error
        rank = {suffix: place for place, suffix in enumerate(MOVIE_SUFFIXES)}
        self._files: dict[str, str] = {}
        for name in names:
            stem, suffix = os.path.splitext(name)
            place = rank.get(suffix.lower())
            if place is None or name.startswith("."):
                continue
            known = self._files.get(stem)
            if known is None or place < rank[os.path.splitext(known)[1].lower()]:
                self._files[stem] = name

    def files(self) -> list[Path]:
        """The file of every movie, by name."""
        return [self.folder / self._files[video] for video in sorted(self._files)]

    def open(self, video: str) -> VideoReader:
        """A reader for ``video``.

        Raises:
            UserError: there is no such movie.
        """
        if video not in self._files:
            raise UserError(f"{self.folder / video}: no movie of this name ({self.where()})")
        return VideoReader(self.folder / self._files[video])

    def path(self, video: str) -> Path:
        """The file of ``video``, or where there is none a name that does not exist."""
        return self.folder / self._files.get(video, video)

    def missing(self, videos: Iterable[str]) -> list[str]:
        """Names without a file."""
        return [video for video in videos if video not in self._files]

    def where(self) -> str:
        """Folder and suffixes."""
        return f"looked in {self.folder} for names ending in {', '.join(MOVIE_SUFFIXES)}"


class FrameFolders:
    """Extracted frames ``<folder>/<video>/<anything><number>.jpg``.

    That covers the usual layouts ``<video>/<video>_000001.jpg`` and ``<video>/img_00001.jpg``.

    Args:
        fps: frames per second of the extraction.

    Raises:
        UserError: no such folder.
    """

    def __init__(self, folder: str | os.PathLike[str], fps: float = 30.0) -> None:
        self.folder = Path(folder)
        self.fps = fps
        if not self.folder.is_dir():
            raise UserError(f"{self.folder}: is not a folder of frame folders")
        self._frames: dict[str, Sequence[Path]] = {}

    def open(self, video: str) -> FrameFolderReader:
        """A reader over the frames of ``video``.

        Raises:
            UserError: no such folder, or one without images.
        """
        if video not in self._frames:
            files = list_frames(self.folder / video)
            self._frames[video] = compact([str(path) for path in files])
        return FrameFolderReader(self._frames[video], self.fps)

    def path(self, video: str) -> Path:
        """The folder of ``video``, there or not."""
        return self.folder / video

    def missing(self, videos: Iterable[str]) -> list[str]:
        """Names without a folder."""
        return [video for video in videos if not (self.folder / video).is_dir()]

    def where(self) -> str:
        """The folder."""
        return f"looked for folders of frames in {self.folder}"


class FrameLists:
    """Frames named by lists: ``original_vido_id video_id frame_id path labels`` (PySlowFast).

    Args:
        lists: files with that header line, fields separated by blanks; frames in order.
        folder: what the paths are relative to.
        fps: frames per second of the extraction.

    Raises:
        UserError: a list is missing, or its rows are of another form.
    """

    def __init__(
        self,
        lists: Sequence[str | os.PathLike[str]],
        folder: str | os.PathLike[str],
        fps: float = 30.0,
    ) -> None:
        self.folder = Path(folder)
        self.fps = fps
        self.lists = [Path(path) for path in lists]
        self._frames: dict[str, Sequence[Path]] = {}
        for path in self.lists:
            found: set[str] = set()
            for video, names in _read_frame_list(path):
                if video in found:
                    raise UserError(f"{path}: the frames of {video} do not follow one another")
                found.add(video)
                self._frames[video] = compact([str(self.folder / name) for name in names])

    def open(self, video: str) -> FrameFolderReader:
        """A reader over the listed frames of ``video``.

        Raises:
            UserError: the movie is in none of the lists.
        """
        if video not in self._frames:
            raise UserError(f"{video}: is in none of the frame lists ({self.where()})")
        return FrameFolderReader(self._frames[video], self.fps)

    def missing(self, videos: Iterable[str]) -> list[str]:
        """Names that no list has."""
        return [video for video in videos if video not in self._frames]

    def where(self) -> str:
        """The lists."""
        return f"looked in {', '.join(map(str, self.lists))}"


def find_media(
    media: str | os.PathLike[str] | Media,
    reader: str = "movies",
    frame_lists: Sequence[str | os.PathLike[str]] = (),
    fps: float = 30.0,
) -> tuple[Media, float]:
    """The media of a folder, and the second of the source movie at which its files begin.

    Args:
        media: a folder, or a ``Media``, which is given back.
        reader: "movies", or "frames" for a folder of frame folders.
        frame_lists: lists of extracted frames, paths relative to ``media``.
        fps: of extracted frames.

    Raises:
        UserError: no such folder, or a list that cannot be read.
    """
    if not isinstance(media, str | os.PathLike):
        return media, 0.0 if isinstance(media, MovieFolder) else 900.0
    if frame_lists:
        return FrameLists(frame_lists, media, fps), 900.0
    if reader == "frames":
        return FrameFolders(Path(media), fps), 900.0
    return MovieFolder(media), 0.0


class _NumberedFrames(Sequence[Path]):
    """``<prefix><number><suffix>`` for consecutive numbers: a movie has 27,030 of them."""

    def __init__(self, prefix: str, digits: int, suffix: str, first: int, count: int) -> None:
        self._parts = prefix, digits, suffix, first
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: int) -> Path:  # type: ignore[override]
        if not 0 <= place < self._count:
            raise IndexError(place)
        prefix, digits, suffix, first = self._parts
        return Path(f"{prefix}{first + place:0{digits}d}{suffix}")


def compact(names: Sequence[str]) -> Sequence[Path]:
    """The same files, held as a rule where they are numbered without gaps."""
    match = re.fullmatch(r"(.*?)(\d+)(\.\w+)", names[0])
    if match:
        frames = _NumberedFrames(match[1], len(match[2]), match[3], int(match[2]), len(names))
        if all(str(frames[place]) == name for place, name in enumerate(names)):
            return frames
    return [Path(name) for name in names]


def _read_frame_list(path: Path) -> Iterator[tuple[str, list[str]]]:
    """(movie, its paths) of each run of rows of one movie."""
    pending: tuple[str, list[str]] | None = None
    try:
        # The full lists have 8 million rows.
        chunks = pd.read_csv(path, sep=" ", usecols=[0, 3], dtype=str, chunksize=500_000)
        for chunk in chunks:
            if "path" not in chunk.columns:
                raise UserError(
                    f"{path}:1: expected the header "
                    "'original_vido_id video_id frame_id path labels'"
                )
            bad = chunk.isna().any(axis=1)
            if bad.any():
                raise UserError(f"{path}:{int(bad[bad].index[0]) + 2}: a movie or path is missing")
            names = chunk.iloc[:, 0].to_numpy()
            paths = chunk["path"].to_numpy()
            cuts = np.flatnonzero(names[1:] != names[:-1]) + 1
            for part in np.split(np.arange(len(names)), cuts):
                video, found = str(names[part[0]]), paths[part].tolist()
                if pending is not None and pending[0] == video:
                    pending[1].extend(found)
                    continue
                if pending is not None:
                    yield pending
                pending = video, found
    except OSError as error:
        raise UserError(f"{path}: cannot be read as a frame list: {error.strerror}") from error
    except ValueError as error:
        reason = " ".join(str(error).split())  # pandas ends lines of its own
        raise UserError(f"{path}: cannot be read as a frame list: {reason}") from error
    if pending is not None:
        yield pending
