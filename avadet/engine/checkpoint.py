"""Checkpoints: written whole or not at all, read without running code.

A checkpoint is a dictionary of plain containers and tensors, written with ``torch.save`` and read
with ``torch.load(weights_only=True)``. Names carry the optimiser step, so that the newest is the
last in order.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import torch

from avadet.errors import UserError
from avadet.files import atomic_path

FORMAT = 1
_logger = logging.getLogger(__name__)


def folder(run_dir: str | os.PathLike[str]) -> Path:
    """Where a run keeps its checkpoints."""
    return Path(run_dir) / "checkpoints"


def list_checkpoints(run_dir: str | os.PathLike[str]) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    return sorted(folder(run_dir).glob("step_*.pt"))


def find_latest(run_dir: str | os.PathLike[str]) -> Path | None:
    """The newest complete checkpoint of a run, or None."""
    found = list_checkpoints(run_dir)
    return found[-1] if found else None


def check_unused(run_dir: str | os.PathLike[str]) -> None:
    """Raises UserError where a run has left checkpoints, which a new one would mix with its own."""
    if list_checkpoints(run_dir):
        raise UserError(f"{run_dir}: holds a run already; resume it, or choose another folder")


def save(run_dir: str | os.PathLike[str], step: int, state: dict[str, Any], keep: int = 2) -> Path:
    """Writes ``state`` as the checkpoint of ``step`` and removes all but the newest ``keep``.

    The file is flushed to the disk before it takes its name: a process killed or a machine that
    loses power at any moment leaves the earlier checkpoints as they were.

    Raises:
        UserError: it cannot be written; the message names the checkpoint that is left.
    """
    path = folder(run_dir) / f"step_{step:09d}.pt"
    earlier = find_latest(run_dir)
    try:
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, UserError) as error:
        left = f"the checkpoint {earlier} is intact" if earlier else "there is no checkpoint yet"
        raise UserError(f"cannot write a checkpoint: {error}; {left}") from error
    for old in list_checkpoints(run_dir)[: -max(keep, 1)]:
        old.unlink(missing_ok=True)
    return path


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads one checkpoint onto the CPU.

    Raises:
        UserError: the file is missing, damaged, holds more than plain containers and tensors, or
            comes from another version.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    # A damaged zip archive raises RuntimeError, EOFError, OSError, UnpicklingError by where.
    except Exception as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: not a readable checkpoint ({first_line})") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise UserError(f"{path}: not a checkpoint of this version (format {FORMAT})")
    return state


def load_latest(run_dir: str | os.PathLike[str]) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint that can be read, or None where there is none at all.

    Raises:
        UserError: there are checkpoints, but none can be read.
    """
    found = list_checkpoints(run_dir)
    problem: UserError | None = None
    for path in reversed(found):
        try:
            return path, load(path)
        except UserError as error:
            _logger.warning("%s; trying the one before", error)
            problem = problem or error
    if problem:
        raise problem
    return None


def remove_unfinished(run_dir: str | os.PathLike[str]) -> None:
    """Deletes what a killed process left half-written."""
    for path in folder(run_dir).glob(".step_*.tmp.pt"):
        path.unlink(missing_ok=True)
