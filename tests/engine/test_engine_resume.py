"""Killed at any moment and started again, a run ends with the same bits."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_tiny import TinyLoader, killed_run, killed_while_writing, make_task, train
from safetensors.torch import load_file

from avadet.engine import checkpoint
from avadet.engine.optim import create_optimizer
from avadet.errors import UserError
from avadet.structures import Batch

# The server has imported torch, so each forked run starts at once; it has run nothing yet.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["avadet.engine.train", "avadet.engine.ava_task"])


def run(target: Any, *args: Any) -> int:
    process = CONTEXT.Process(target=target, args=args)
    process.start()
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode


def assert_same_end(a: Path, b: Path) -> None:
    """Model, optimiser, average, position, best and exported weights are equal bit by bit."""

    def flat(value: Any, name: str = "") -> dict[str, Any]:
        if isinstance(value, dict):
            return {k: v for key in value for k, v in flat(value[key], f"{name}.{key}").items()}
        if isinstance(value, (list, tuple)):
            return {k: v for i, x in enumerate(value) for k, v in flat(x, f"{name}.{i}").items()}
        return {name: value}

    ends = []
    for run_dir in (a, b):
        loaded = checkpoint.load_latest(run_dir)
        assert loaded is not None
        state = flat(loaded[1])
        state.pop(".progress.minutes")
        for name in ("model.safetensors", "best.safetensors"):
            state.update(flat(load_file(run_dir / name), name))
        ends.append(state)
    assert ends[0].keys() == ends[1].keys()
    for name, value in ends[0].items():
        other = ends[1][name]
        same = torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other
        assert same, f"{name}: {value} {other}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was left alone."""
    run_dir = tmp_path_factory.mktemp("whole")
    train(run_dir)
    return run_dir


@pytest.fixture(scope="module")
def seconds(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> float:
    """How long such a run takes on this machine, once everything is loaded."""
    started = time.monotonic()
    train(tmp_path_factory.mktemp("timed"))
    return time.monotonic() - started


def test_sigkill_at_any_moment(whole: Path, seconds: float, tmp_path: Path) -> None:
    moments = random.Random(os.getpid())
    kills = 0
    for _ in range(6):
        # Each run has less left to do; the first one at least does not get to its end.
        exitcode = run(killed_run, str(tmp_path), seconds * moments.uniform(0.05, 0.6))
        kills += exitcode == -signal.SIGKILL
    assert run(killed_run, str(tmp_path), 0.0) == 0
    assert kills
    assert_same_end(whole, tmp_path)
    steps = [
        json.loads(line)["step"]
        for line in (tmp_path / "log.jsonl").read_text().splitlines()
        if '"train"' in line
    ]
    assert steps == list(range(1, 13))


def test_sigkill_while_a_checkpoint_is_written(whole: Path, tmp_path: Path) -> None:
    for writes in (1, 4, 3):
        assert run(killed_while_writing, str(tmp_path), writes) == -signal.SIGKILL
        left = list(checkpoint.folder(tmp_path).glob(".*"))
        assert len(left) == 1, "the kill should have left a half-written file"
    assert run(killed_run, str(tmp_path), 0.0) == 0
    assert not list(checkpoint.folder(tmp_path).glob(".*"))
    assert_same_end(whole, tmp_path)


class SignallingLoader(TinyLoader):
    """Sends this process a signal before one of its batches."""

    def __init__(self, number: int, before: int, **options: Any) -> None:
        super().__init__(**options)
        self.number, self.countdown = number, before

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for batch in super().epoch(epoch, start):
            if self.countdown == 0:
                os.kill(os.getpid(), self.number)
            self.countdown -= 1
            yield batch


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("before", [0, 4, 9, 17])
def test_ctrl_c_leaves_a_checkpoint(
    whole: Path, tmp_path: Path, number: signal.Signals, before: int
) -> None:
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    result = train(tmp_path, loader=SignallingLoader(number, before))
    assert not result.finished
    assert result.weights is None
    assert result.checkpoint is not None
    assert "resume" in result.message
    assert number.name in result.message
    assert str(result.checkpoint) in result.message
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert train(tmp_path, resume=True).finished
    assert_same_end(whole, tmp_path)


def test_second_ctrl_c_is_obeyed_at_once(tmp_path: Path) -> None:
    class Impatient(TinyLoader):
        def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            return super().epoch(epoch, start)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, loader=Impatient())


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_other_settings_resume_exactly(tmp_path: Path, precision: str) -> None:
    options = {"precision": precision, "channels_last": True, "accumulate": 2, "seed": 3}
    ends = []
    for name in ("whole", "parts"):
        for before in (4, 5) if name == "parts" else ():
            task = make_task()
            train(
                tmp_path / name, task, loader=SignallingLoader(signal.SIGINT, before),
                optimizer=create_optimizer(task.model, "adamw", lr=0.1), resume=True, **options,
            )  # fmt: skip
        task = make_task()
        optimizer = create_optimizer(task.model, "adamw", lr=0.1)
        train(tmp_path / name, task, optimizer=optimizer, resume=True, **options)
        ends.append(tmp_path / name)
    assert_same_end(*ends)


def test_a_finished_run_is_not_trained_again(whole: Path, tmp_path: Path) -> None:
    first = train(tmp_path, epochs=1)
    (tmp_path / "model.safetensors").unlink()
    again = train(tmp_path, epochs=1, resume=True)
    assert again.finished
    assert again.progress.step == first.progress.step
    assert again.metrics == first.metrics
    assert (tmp_path / "model.safetensors").is_file()


def test_a_finished_run_goes_on_where_more_is_allowed(tmp_path: Path) -> None:
    """As if it had been allowed from the start."""
    train(tmp_path / "whole", max_steps=6)
    assert train(tmp_path / "parts", max_steps=2).finished
    assert train(tmp_path / "parts", max_steps=6, resume=True).progress.step == 6
    ends = [load_file(tmp_path / each / "model.safetensors") for each in ("whole", "parts")]
    assert ends[0].keys() == ends[1].keys()
    for name, value in ends[0].items():
        # The evaluation at the end of the first part measured statistics anew.
        assert torch.equal(value, ends[1][name]) or "running" in name, name


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    train(tmp_path, max_steps=1)
    with pytest.raises(UserError, match="holds a run already"):
        train(tmp_path)
    with pytest.raises(UserError, match="batches_per_epoch 10, now it is 5"):
        train(tmp_path, resume=True, loader=TinyLoader(clips=10))
    with pytest.raises(UserError, match="seed 0, not 1"):
        train(tmp_path, resume=True, seed=1)
    with pytest.raises(UserError, match="moving average"):
        train(tmp_path, resume=True, ema_decay=None)
    task = make_task()
    task.model.fc = torch.nn.Linear(8, 5)
    with pytest.raises(UserError, match=r"do not fit the model.*fc.weight"):
        train(tmp_path, task, resume=True)


def test_full_disk_stops_with_the_previous_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = torch.save
    count = 0

    def filling(state: Any, file: Any) -> None:
        nonlocal count
        count += "optimizer" in state
        if count == 4:
            raise OSError(28, "No space left on device")
        save(state, file)

    monkeypatch.setattr(torch, "save", filling)
    with pytest.raises(UserError, match=r"disk is full.*step_000000003.pt is intact"):
        train(tmp_path, accumulate=1)
    monkeypatch.setattr(torch, "save", save)
    assert train(tmp_path, accumulate=1, resume=True).finished
