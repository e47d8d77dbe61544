"""Checkpoints are whole or absent, and reading one runs no code."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from avadet.engine import checkpoint
from avadet.errors import UserError
from avadet.files import atomic_path


def state(value: float) -> dict[str, Any]:
    return {"model": {"w": torch.full((3,), value)}, "progress": {"step": 1, "best": None}}


def test_newest_are_kept(tmp_path: Path) -> None:
    assert checkpoint.find_latest(tmp_path) is None
    assert checkpoint.load_latest(tmp_path) is None
    for step in (1, 9, 10, 100):
        checkpoint.save(tmp_path, step, state(step), keep=2)
    names = [path.name for path in checkpoint.list_checkpoints(tmp_path)]
    assert names == ["step_000000010.pt", "step_000000100.pt"]
    loaded = checkpoint.load_latest(tmp_path)
    assert loaded is not None
    assert loaded[0] == checkpoint.find_latest(tmp_path)
    assert loaded[1]["model"]["w"].tolist() == [100, 100, 100]


def test_full_disk_keeps_the_previous(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path, 1, state(1))

    def full(_: Any, file: Any) -> None:
        file.write(b"some bytes")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match=r"disk is full.*step_000000001.pt is intact"):
        checkpoint.save(tmp_path, 2, state(2))
    assert [path.name for path in checkpoint.folder(tmp_path).iterdir()] == ["step_000000001.pt"]
    loaded = checkpoint.load_latest(tmp_path)
    assert loaded is not None
    assert loaded[1]["model"]["w"][0] == 1


def test_torch_reports_a_full_disk_as_such() -> None:
    """What the test above pretends: torch lets the system's error through."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(OSError, match="No space") as caught, open("/dev/full", "wb") as file:
        torch.save({"w": torch.zeros(100_000)}, file)
    assert caught.value.errno == errno.ENOSPC


class FullDisk:
    """A file on a disk with room for so many bytes."""

    def __init__(self, room: int) -> None:
        self.room = room

    def write(self, data: bytes) -> int:
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return len(data)

    def flush(self) -> None:
        pass


@pytest.mark.parametrize("room", [0, 1000, 100_000])
def test_a_disk_that_fills_up_while_torch_writes(tmp_path: Path, room: int) -> None:
    """torch then fails again in closing its archive, with an error that tells nothing."""
    target = tmp_path / "a.pt"
    target.write_text("before")
    with pytest.raises(UserError, match="disk is full"), atomic_path(target):
        torch.save({"w": torch.zeros(100_000)}, FullDisk(room))
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]


def test_other_errors_are_no_full_disk(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="odd"), atomic_path(tmp_path / "a.pt"):
        raise RuntimeError("odd")


def test_damaged_newest_falls_back(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, state(1))
    newest = checkpoint.save(tmp_path, 2, state(2))
    newest.write_bytes(newest.read_bytes()[:200])
    loaded = checkpoint.load_latest(tmp_path)
    assert loaded is not None
    assert loaded[1]["model"]["w"][0] == 1
    for path in checkpoint.list_checkpoints(tmp_path):
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"step_000000002.pt: not a readable checkpoint"):
        checkpoint.load_latest(tmp_path)


class Malicious:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("true",)


def test_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.pt"
    torch.save({"format": 1, "model": Malicious()}, path)
    with pytest.raises(UserError, match="not a readable checkpoint"):
        checkpoint.load(path)


def test_other_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such checkpoint"):
        checkpoint.load(tmp_path / "none.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(UserError, match="not a checkpoint of this version"):
        checkpoint.load(tmp_path / "list.pt")


def test_left_overs_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    kept = checkpoint.save(tmp_path, 1, state(1))
    (checkpoint.folder(tmp_path) / ".step_000000002-abc.tmp.pt").write_bytes(b"half")
    assert checkpoint.list_checkpoints(tmp_path) == [kept]
    checkpoint.remove_unfinished(tmp_path)
    assert list(checkpoint.folder(tmp_path).iterdir()) == [kept]
