"""Which clips of a large data set can be read: looked up once, remembered beside the run."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from avadet.errors import UserError
from avadet.video.reader import open_video

_SIDE = 32
_AT_ONCE = 256


def scan_clips(
    paths: Mapping[str, Path],
    record: Path,
    *,
    workers: int = 4,
    progress: bool = True,
) -> dict[str, str]:
    """Opens every clip, finds its end and decodes its first frame.

    What was found is appended to ``record`` clip by clip, so that a scan that was stopped goes
    on where it was; a file that changed since (by size and time) is looked at again.

    Args:
        paths: name of each clip -> its movie, or its folder of frames.
        record: the notes of this scan; notes of other processes beside it (``scan.*.jsonl``) are
            believed too.
        workers: clips looked at side by side.

    Returns:
        the clips that cannot be read, and why.

    Raises:
        UserError: the notes cannot be written.
    """
    known = dict(_notes(record.parent))
    unreadable: dict[str, str] = {}
    pending: list[str] = []
    for name, path in paths.items():
        noted = known.get(name)
        if noted is not None and noted[0] == _mark(path):
            if noted[1]:
                unreadable[name] = noted[1]
        else:
            pending.append(name)
    if not pending:
        return unreadable
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        with (
            open(record, "a", encoding="utf-8") as notes,
            ThreadPoolExecutor(max(workers, 1)) as pool,
            tqdm(
                total=len(pending),
                desc="looking at clips",
                unit="clip",
                disable=None if progress else True,
                leave=False,
            ) as bar,
        ):
            for start in range(0, len(pending), _AT_ONCE):
                group = pending[start : start + _AT_ONCE]
                for name, reason in zip(group, pool.map(lambda each: _reason(paths[each]), group)):
                    notes.write(json.dumps([name, _mark(paths[name]), reason]) + "\n")
                    if reason:
                        unreadable[name] = reason
                    bar.update()
                notes.flush()
    except OSError as error:
        raise UserError(
            f"{record}: cannot keep notes of the clips here: {error.strerror}"
        ) from error
    return unreadable


def _notes(folder: Path) -> Iterator[tuple[str, tuple[list[int], str]]]:
    for path in sorted(folder.glob("scan.*.jsonl")):
        with contextlib.suppress(OSError):
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                # The last line may be half of one, where a scan was killed.
                with contextlib.suppress(ValueError, TypeError):
                    name, mark, reason = json.loads(line)
                    yield str(name), (mark, str(reason))


def _mark(path: Path) -> list[int]:
    try:
        found = os.stat(path)
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]


def _reason(path: Path) -> str:
    if not path.exists():
        return "missing"
    try:
        with open_video(path) as reader:
            if reader.duration <= 0:
                return f"{path}: lasts no time"
            reader.read([0.0], short_side=_SIDE)
    except UserError as error:
        return str(error)
    except OSError as error:
        return f"{path}: {error.strerror}"
    return ""
