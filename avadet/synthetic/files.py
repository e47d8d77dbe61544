"""What both generators do with files: names, worker processes, resuming."""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from avadet.errors import UserError
from avadet.files import write_json
from avadet.machine import usable_cores

Job = TypeVar("Job")


def read_note(path: Path, recipe: str, movie: Path) -> dict[str, Any] | None:
    """The note left beside a finished movie, if it is of this recipe and the movie is there."""
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(note, dict) or note.get("recipe") != recipe:
        return None
    # A movie that was replaced or cut short since does not count.
    if not movie.is_file() or movie.stat().st_size != note.get("bytes"):
        return None
    return note


def write_note(path: Path, recipe: str, movie: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Writes the note that says that ``movie`` is finished, and returns it."""
    note = {"recipe": recipe, "bytes": movie.stat().st_size, **content}
    write_json(path, note)
    return note


def make_all(
    make: Callable[[Job], dict[str, Any]],
    jobs: Sequence[Job],
    workers: int | None,
    label: str,
    progress: bool,
) -> list[dict[str, Any]]:
    """Runs ``make`` over ``jobs`` in processes; the results come in the order of ``jobs``.

    Args:
        make: a module-level function.
        jobs: its arguments.
        workers: processes; one for each usable core when None; 1 works in this process.
        label: words beside the progress bar.
        progress: show the bar (on a terminal).

    Raises:
        UserError: fewer than one worker.
    """
    if workers is None:
        workers = usable_cores()
    if workers < 1:
        raise UserError(f"workers={workers}: must be at least 1")
    workers = min(workers, max(1, len(jobs)))
    bar = tqdm(total=len(jobs), desc=label, unit="movie", disable=None if progress else True)
    results: list[dict[str, Any]] = [{} for _ in jobs]
    with bar:
        if workers == 1:
            for index, job in enumerate(jobs):
                results[index] = make(job)
                bar.update()
            return results
        # Forked workers need no importable main module, so that generating works from any
        # script or notebook; they touch neither torch nor a GPU.
        method = "fork" if sys.platform == "linux" else "spawn"
        context = multiprocessing.get_context(method)
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            waiting = {pool.submit(make, job): index for index, job in enumerate(jobs)}
            try:
                for future in as_completed(waiting):
                    results[waiting[future]] = future.result()
                    bar.update()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return results
