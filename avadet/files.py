"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from avadet.errors import UserError


def keep_inputs(
    out: str | os.PathLike[str], inputs: Iterable[str | os.PathLike[str]], option: str
) -> None:
    """Refuses, before any work, to write over what is read or a folder.

    Raises:
        UserError: ``out`` is one of the inputs, by whatever path, or a folder.
    """
    target = os.path.realpath(out)
    for path in inputs:
        # By another link too; what does not exist yet has its path alone.
        there = os.path.exists(path) and os.path.exists(target)
        same = os.path.samefile(path, target) if there else os.path.realpath(path) == target
        if same:
            raise UserError(f"{option} {out}: is an input and would be lost; name another file")
    if os.path.isdir(target):
        raise UserError(f"{option} {out}: is a folder; name a file in it")


def disk_is_full(error: BaseException) -> bool:
    """Whether an error of writing comes from a full disk.

    Libraries that write by themselves tell it by its text (safetensors), or fail a second time over
    what they could not write (torch).
    """
    each: BaseException | None = error
    while each is not None:
        if isinstance(each, OSError) and each.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if os.strerror(errno.ENOSPC) in str(each):
            return True
        each = each.__context__
    return False


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path beside ``path`` and renames it into place when the block succeeds.

    The temporary name keeps the suffix of ``path``, so that writers which choose a format by the
    name work unchanged. When the block fails, the temporary file is removed and ``path`` is as
    it was.

    Raises:
        UserError: the directory cannot be written or the disk is full.
    """
    target = Path(path)
    if target.is_dir():
        raise UserError(f"{target}: is a folder, a file is to be written; give another name")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{target.stem}-", suffix=f".tmp{target.suffix}", dir=target.parent
        )
        os.close(handle)
    except OSError as error:
        raise UserError(f"{target}: cannot write here: {error.strerror}") from error
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp, and some writers, make private files; results are ordinary ones.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, target)
    except Exception as error:
        if disk_is_full(error):
            raise UserError(f"{target}: the disk is full; free some space and run again") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def read_text(path: str | os.PathLike[str], what: str) -> str:
    """A text file as UTF-8, without a byte order mark.

    Args:
        what: it is read as, for messages: "a list of clips".

    Raises:
        UserError: it is missing, unreadable or no text.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read as {what}: {error.strerror}") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path}:{line}: cannot be read as {what}: not UTF-8 text; save it as UTF-8"
        ) from error


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes ``text`` as UTF-8 in one step."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes ``value`` as indented JSON in one step; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")
