"""The detector over movies: resumable movie by movie, shared out over processes.

Beside the result lies a folder ``<out>.parts`` with one file per finished movie. A run that was
killed continues after the last finished movie; processes that work together (``torchrun``, or
``RANK`` and ``WORLD_SIZE`` set by hand on machines with a common folder) take movies in turn and
the first of them joins the parts. A movie belongs to one process only, so nothing is there twice.
"""

from __future__ import annotations

import json
import logging
import math
import os
import queue
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from avadet import boxes as box_math
from avadet.errors import UserError
from avadet.files import atomic_path, write_json, write_text
from avadet.persons.base import PersonDetector
from avadet.persons.proposals import Proposals
from avadet.structures import Keyframe
from avadet.video.reader import open_video

_log = logging.getLogger(__name__)

MOVIE_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".ts", ".flv")


@dataclass(frozen=True)
class Schedule:
    """Which keyframes of a movie to look at.

    Attributes:
        rate: keyframes per second of the source movie.
        first_second, last_second: inclusive; None means the file's own first and last.
        movie_start: second of the source movie at which the file begins.
    """

    rate: float = 1.0
    first_second: float | None = None
    last_second: float | None = None
    movie_start: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1000:
            raise UserError(f"rate {self.rate:g}: must be above 0 and at most 1000 per second")
        for second in (self.first_second, self.last_second, self.movie_start):
            if second is not None and not math.isfinite(second):
                raise UserError(f"second {second}: must be finite")
        if (
            self.first_second is not None
            and self.last_second is not None
            and self.last_second < self.first_second
        ):
            raise UserError("the last second lies before the first")

    def seconds(self, duration: float) -> np.ndarray:
        """Keyframes of a file of ``duration`` seconds, multiples of 1/rate, ascending.

        Only what lies in the file: beyond its end the last frame would be shown again and again.
        """
        low = self.movie_start if self.first_second is None else self.first_second
        end = self.movie_start + duration
        high = end if self.last_second is None else self.last_second
        slack = 1e-6
        first = int(np.ceil(max(low, self.movie_start) * self.rate - slack))
        last = int(np.floor(high * self.rate + slack))
        grid = np.arange(first, last + 1) / self.rate
        return grid[grid < end - slack]


def list_movies(paths: Sequence[str | os.PathLike[str]]) -> dict[str, Path]:
    """Movie files by name (no folder, no suffix), from files and folders.

    Raises:
        UserError: a path that is not there, a folder without movies, two movies of one name.
    """
    found: dict[str, Path] = {}
    for given in map(Path, paths):
        if given.is_dir():
            files = sorted(p for p in given.iterdir() if p.suffix.lower() in MOVIE_SUFFIXES)
            if not files:
                raise UserError(f"{given}: a folder without movies ({', '.join(MOVIE_SUFFIXES)})")
        elif given.is_file():
            files = [given]
        else:
            raise UserError(f"{given}: no such movie")
        for path in files:
            if path.stem in found and not found[path.stem].samefile(path):
                raise UserError(f"two movies are called '{path.stem}': {found[path.stem]}, {path}")
            found[path.stem] = path
    return dict(sorted(found.items()))


class PartFolder:
    """Finished movies of one run.

    Args:
        out: the result file; the folder lies beside it.
        settings: plain data that decides the boxes; parts made with others are refused.
        restart: forget finished parts.
        alone: no other process works in the folder.

    Raises:
        UserError: the folder holds parts of other settings.
    """

    def __init__(
        self, out: Path, settings: dict[str, Any], restart: bool = False, alone: bool = True
    ) -> None:
        self.path = out.with_name(out.name + ".parts")
        self.began = time.time()
        record = self.path / "settings.json"
        if restart and self.path.is_dir():
            for old in self.path.iterdir():
                # Another process of this run may have begun a little earlier.
                if alone or old.stat().st_mtime < self.began - 5:
                    old.unlink(missing_ok=True)
        if record.is_file():
            try:
                before = dict(json.loads(record.read_text(encoding="utf-8")))
            except (TypeError, ValueError) as error:
                raise UserError(f"{record}: damaged; give --restart to begin anew") from error
            changed = sorted(k for k in {*before, *settings} if before.get(k) != settings.get(k))
            if changed:
                raise UserError(
                    f"{self.path}: finished movies were made with other settings "
                    f"({', '.join(changed)}); give --restart to make them again"
                )
        else:
            write_json(record, settings)

    def _part(self, video: str) -> Path:
        return self.path / f"{video}.npz"

    def _failure(self, video: str) -> Path:
        return self.path / f"{video}.failed"

    def is_done(self, video: str, movie: Path) -> bool:
        """Whether a movie's part is there and belongs to the file as it is now."""
        part = self._part(video)
        if not part.is_file():
            return False
        try:
            with np.load(part, allow_pickle=False) as content:
                return int(content["movie_bytes"]) == _bytes(movie)
        except (ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile):
            _log.warning("%s: damaged, so the movie is looked at again", part)
            return False

    def failure(self, video: str) -> str | None:
        """Why a movie could not be read in this run, or None."""
        path = self._failure(video)
        try:
            # Older ones are from an earlier run, whose cause may have been mended.
            if path.stat().st_mtime < self.began - 1:
                return None
            return path.read_text(encoding="utf-8")
        except OSError:
            return None

    def failed_before(self, video: str) -> bool:
        """Whether a failure is noted, of this run or of an earlier one."""
        return self._failure(video).is_file()

    def note_failure(self, video: str, reason: str) -> None:
        """Tells the other processes not to wait for this movie."""
        write_text(self._failure(video), reason)

    def write(
        self,
        video: str,
        movie: Path,
        seconds: Sequence[float],
        found: Sequence[tuple[np.ndarray, np.ndarray]],
        size: tuple[int, int],
    ) -> None:
        """Stores a finished movie in one step."""
        counts = [len(boxes) for boxes, _ in found]
        with atomic_path(self._part(video)) as temporary:
            np.savez(
                temporary,
                seconds=np.asarray(seconds, np.float64),
                counts=np.asarray(counts, np.int64),
                boxes_norm=np.concatenate([np.zeros((0, 4), np.float32), *(b for b, _ in found)]),
                scores=np.concatenate([np.zeros(0, np.float32), *(s for _, s in found)]),
                size=np.asarray(size, np.int64),
                movie_bytes=np.asarray(_bytes(movie), np.int64),
            )
        self._failure(video).unlink(missing_ok=True)

    def join(self, videos: Sequence[str]) -> Proposals:
        """The parts of all ``videos`` as one."""
        boxes_norm: dict[Keyframe, np.ndarray] = {}
        scores: dict[Keyframe, np.ndarray] = {}
        sizes: dict[str, tuple[int, int]] = {}
        for video in videos:
            with np.load(self._part(video), allow_pickle=False) as part:
                ends = np.cumsum(part["counts"])[:-1]
                split_boxes = np.split(part["boxes_norm"], ends)
                split_scores = np.split(part["scores"], ends)
                sizes[video] = (int(part["size"][0]), int(part["size"][1]))
                for second, boxes, values in zip(part["seconds"], split_boxes, split_scores):
                    keyframe = Keyframe(video, float(second))
                    boxes_norm[keyframe], scores[keyframe] = boxes, values
        return Proposals(boxes_norm, scores, sizes)


def _bytes(movie: Path) -> int:
    """Size of a movie file; of a frame folder, the number of its files."""
    return sum(1 for _ in movie.iterdir()) if movie.is_dir() else movie.stat().st_size


def detect_movie(
    detector: PersonDetector, movie: Path, schedule: Schedule, batch_size: int = 8
) -> tuple[list[float], list[tuple[np.ndarray, np.ndarray]], tuple[int, int]]:
    """One movie: keyframe seconds, (boxes_norm, scores) of each, and the frame size (h, w).

    Frames are decoded ahead in a thread while the detector works.

    Raises:
        UserError: the movie cannot be read.
    """
    with open_video(movie) as reader:
        seconds = schedule.seconds(reader.duration)
        size = (reader.height, reader.width)
        found: list[tuple[np.ndarray, np.ndarray]] = []
        times = seconds - schedule.movie_start
        bar = tqdm(total=len(seconds), desc=movie.stem, unit="frame", leave=False, disable=None)
        with bar:
            for frames in _ahead(_batches((f for _, f in reader.stream(times)), batch_size)):
                for frame, people in zip(frames, detector.detect(frames)):
                    boxes = box_math.px_to_norm(people.boxes_px, *frame.shape[:2])
                    found.append((boxes.astype(np.float32), people.scores.astype(np.float32)))
                bar.update(len(frames))
    return [float(second) for second in seconds], found, size


def _batches(frames: Iterator[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    batch: list[np.ndarray] = []
    for frame in frames:
        batch.append(frame)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _ahead(source: Iterator[list[np.ndarray]], depth: int = 2) -> Iterator[list[np.ndarray]]:
    """The same items, made up to ``depth`` ahead by a thread; its exceptions are raised here."""
    items: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def put(kind: str, value: Any) -> None:
        while not stopped.is_set():
            try:
                items.put((kind, value), timeout=0.2)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in source:
                if stopped.is_set():
                    return
                put("item", item)
            put("end", None)
        except BaseException as error:  # handed over to the consumer, whatever it is
            put("error", error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            kind, value = items.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        stopped.set()
        thread.join()


def detect_movies(
    detector: PersonDetector,
    movies: dict[str, Path],
    parts: PartFolder,
    schedule: Schedule,
    *,
    rank: int = 0,
    world_size: int = 1,
    batch_size: int = 8,
) -> list[str]:
    """This process's share of the movies, each into its part; returns those it made.

    A movie that cannot be read is reported and left out; the others go on.
    """
    todo = [v for v in _share(movies, rank, world_size) if not parts.is_done(v, movies[v])]
    for video in tqdm(todo, "movies", unit="movie", disable=None):
        try:
            seconds, found, size = detect_movie(detector, movies[video], schedule, batch_size)
        except UserError as error:
            _log.warning("%s", error)
            parts.note_failure(video, str(error))
            continue
        if not seconds:
            _log.warning("%s: no keyframe lies inside the movie", movies[video])
        parts.write(video, movies[video], seconds, found, size)
    return todo


def _share(movies: dict[str, Path], rank: int, world_size: int) -> list[str]:
    # Long ones first and dealt out in turn, so that shares are about equal.
    order = sorted(movies, key=lambda v: (-_bytes(movies[v]), v))
    return order[rank::world_size]


def wait_for_all(
    movies: dict[str, Path],
    parts: PartFolder,
    poll: float = 1.0,
    retry: Callable[[dict[str, Path]], object] | None = None,
) -> dict[str, str]:
    """Waits until every movie is done or has failed; returns the failures.

    Meant for the first process, which joins the parts. It waits for as long as the others work:
    ``torchrun`` ends it when one of them dies.

    Args:
        movies: all of them.
        parts: where they end.
        poll: seconds between two looks.
        retry: makes movies whose failure was noted before this process began. Nobody else may
            come back to them: a process that began earlier in the same run has given them up.
    """
    failed: dict[str, str] = {}
    waiting = list(movies)
    while True:
        waiting = [v for v in waiting if not parts.is_done(v, movies[v])]
        failed = {v: reason for v in waiting if (reason := parts.failure(v)) is not None}
        if len(failed) == len(waiting):
            return failed
        old = {v: movies[v] for v in waiting if v not in failed and parts.failed_before(v)}
        if old and retry is not None:
            retry(old)
        else:
            time.sleep(poll)
