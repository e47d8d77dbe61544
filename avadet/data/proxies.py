"""Proxies for a folder of movies: in parallel, resumable, corrupt movies listed and left out."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from avadet.data.media import MovieFolder
from avadet.errors import UserError
from avadet.machine import usable_cores
from avadet.video.proxy import ProxySettings, UnreadableMovie, read_note, write_proxy


@dataclass
class ProxyReport:
    """What came of a folder.

    Attributes:
        made: proxies written now.
        kept: proxies that were there already, of the same movie and settings.
        damaged: movies some of whose packets could not be decoded, and how many.
        unreadable: movies that have no proxy, and why.
        source_bytes, proxy_bytes: of the movies that have a proxy, and of the proxies.
    """

    made: int = 0
    kept: int = 0
    damaged: dict[str, int] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    source_bytes: int = 0
    proxy_bytes: int = 0


@dataclass(frozen=True)
class _Job:
    source: Path
    target: Path
    settings: ProxySettings


@dataclass(frozen=True)
class _Result:
    kept: bool = False
    damage: int = 0
    unreadable: str = ""


def find_movies(places: Sequence[Path]) -> list[Path]:
    """The movies of folders, and movie files, sorted by name; of one name one file only.

    Raises:
        UserError: a place is missing, holds no movie, or two places have movies of one name.
    """
    found: dict[str, Path] = {}
    for place in places:
        files = [place] if place.is_file() else MovieFolder(place).files()
        if not files:
            raise UserError(f"{place}: holds no movie ({MovieFolder(place).where()})")
        for path in files:
            if path.stem in found:
                raise UserError(
                    f"{path}: a movie of this name was given already ({found[path.stem]}); "
                    "a proxy is called after its movie, so names must differ"
                )
            found[path.stem] = path
    return [found[name] for name in sorted(found)]


def make_proxies(
    movies: Sequence[Path],
    out: Path,
    settings: ProxySettings,
    *,
    workers: int | None = None,
    progress: bool = True,
) -> ProxyReport:
    """Writes ``out/<name>.mp4`` for each movie; what is finished there is kept.

    Each proxy appears whole or not at all, so an interrupted run goes on where it stopped.

    Args:
        workers: processes of one thread each; one per usable core when None.

    Raises:
        UserError: the folder cannot be written, holds a movie given, or the disk is full.
    """
    jobs = [_Job(path, out / f"{path.stem}.mp4", settings) for path in movies]
    # Also where names differ (a.mkv, a.mp4): a folder of both would be read as one of movies.
    inside = {path.parent.resolve() for path in movies} | {path.resolve().parent for path in movies}
    if out.resolve() in inside:
        raise UserError(
            f"--out {out}: holds the movies themselves, which proxies would mix with or replace; "
            "choose another folder"
        )
    for job in jobs:
        if job.target.exists() and job.target.samefile(job.source):
            raise UserError(f"--out {job.target}: is the movie itself; choose another folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: cannot write here: {error.strerror}") from error
    report = ProxyReport()
    bar = tqdm(total=len(jobs), desc="proxies", unit="movie", disable=None if progress else True)
    with bar:
        for job, result in _run(jobs, workers):
            bar.update()
            if result.unreadable:
                report.unreadable[job.source.name] = result.unreadable
                continue
            report.kept += result.kept
            report.made += not result.kept
            if result.damage:
                report.damaged[job.source.name] = result.damage
            report.source_bytes += job.source.stat().st_size
            report.proxy_bytes += job.target.stat().st_size
    return report


def _run(jobs: Sequence[_Job], workers: int | None) -> Iterator[tuple[_Job, _Result]]:
    """Results as they come."""
    workers = min(usable_cores() if workers is None else workers, len(jobs))
    if workers <= 1:
        yield from ((job, _make(job)) for job in jobs)
        return
    method = "fork" if sys.platform == "linux" else "spawn"
    with ProcessPoolExecutor(workers, multiprocessing.get_context(method)) as pool:
        waiting = {pool.submit(_make, job): job for job in jobs}
        try:
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _make(job: _Job) -> _Result:
    if _is_finished(job):
        return _Result(kept=True)
    try:
        return _Result(damage=write_proxy(job.source, job.target, job.settings))
    except UnreadableMovie as error:
        return _Result(unreadable=str(error))


def _is_finished(job: _Job) -> bool:
    note = read_note(job.target) if job.target.is_file() else None
    if note is None or note.settings != str(job.settings):
        return False
    try:
        return note.source_bytes == job.source.stat().st_size
    except OSError:
        return False
