"""FSDP2 on two gloo processes: the same training, and checkpoints that go on anywhere."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import engine_sharded
import pytest
import torch
from safetensors.torch import load_file
from test_engine_distributed import free_port

from avadet.engine import checkpoint, distributed, sharding
from avadet.engine.progress import Progress
from avadet.errors import UserError

CONTEXT = multiprocessing.get_context("forkserver")


def together(run_dir: Path, job: str, world: int = 2) -> None:
    """Runs a job of ``engine_sharded``; fails if a process does, or hangs."""
    run_dir.mkdir(exist_ok=True)
    if world == 1:
        engine_sharded.JOBS[job](run_dir)
        return
    port = free_port()
    processes = [
        CONTEXT.Process(target=engine_sharded.start, args=(rank, world, port, str(run_dir), job))
        for rank in range(world)
    ]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join(60)
        assert [process.exitcode for process in processes] == [0] * world
    finally:
        for process in processes:
            process.kill()


def assert_near(a: Path, b: Path, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    """The same exported weights and the same last checkpoint, tensor by tensor."""
    first, second = load_file(a / "model.safetensors"), load_file(b / "model.safetensors")
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=rtol, atol=atol, msg=name)
    one, two = checkpoint.load_latest(a), checkpoint.load_latest(b)
    assert one is not None
    assert two is not None
    assert one[1].keys() == two[1].keys()
    torch.testing.assert_close(two[1]["model"], one[1]["model"], rtol=rtol, atol=atol)
    torch.testing.assert_close(two[1]["ema"], one[1]["ema"], rtol=rtol, atol=atol)
    states = [each[1]["optimizer"]["state"] for each in (one, two)]
    assert states[0].keys() == states[1].keys()
    torch.testing.assert_close(states[1], states[0], rtol=10 * rtol, atol=10 * atol)
    assert one[1]["progress"]["step"] == two[1]["progress"]["step"]


@pytest.mark.parametrize("kind", ["", "_adamw"])
def test_sharded_training_equals_plain_training(tmp_path: Path, kind: str) -> None:
    together(tmp_path / "sharded", f"sharded{kind}")
    together(tmp_path / "alone", f"plain{kind}", world=1)
    assert_near(tmp_path / "alone", tmp_path / "sharded", 1e-4, 1e-5)
    if not kind:
        scores = {path.read_text() for path in (tmp_path / "sharded").glob("score*.txt")}
        assert len(scores) == 1


def test_batch_norms_and_bfloat16_as_with_plain_processes(tmp_path: Path) -> None:
    """Statistics are the main process's in both, so two processes are compared with two."""
    together(tmp_path / "sharded", "sharded_norms")
    together(tmp_path / "two", "plain_norms")
    assert_near(tmp_path / "two", tmp_path / "sharded", 2e-2, 2e-3)


def test_half_floats_that_overflow_on_one_process(tmp_path: Path) -> None:
    together(tmp_path, "sharded_half_floats")
    assert [path.read_text() for path in tmp_path.glob("skipped*.txt")] == ["1", "1"]


@pytest.mark.slow
def test_a_sharded_run_goes_on_elsewhere(tmp_path: Path) -> None:
    """With as many processes, with one, and unsharded on two: all end as the unbroken run."""
    together(tmp_path / "whole", "sharded")
    for name, job, world in (
        ("again", "rest", 2),
        ("alone", "rest", 1),
        ("plain", "rest_plain", 2),
        ("four", "rest", 4),
    ):
        together(tmp_path / name, "half")
        stopped = checkpoint.load_latest(tmp_path / name)
        assert stopped is not None
        assert (stopped[1]["progress"]["epoch"], stopped[1]["progress"]["batch"]) == (1, 2)
        together(tmp_path / name, job, world)
        assert_near(tmp_path / "whole", tmp_path / name, 1e-4, 1e-5)


def test_where_a_run_may_go_on() -> None:
    """The same steps on another number of processes; other steps only between epochs."""
    middle = Progress(batches_per_epoch=10, world_size=2, epoch=1, batch=3)
    middle.check(10, 4, "run")
    assert (middle.world_size, middle.position) == (4, 1.3)
    with pytest.raises(UserError, match="batches_per_epoch 10, now it is 5"):
        middle.check(5, 1, "run")
    between = Progress(batches_per_epoch=10, world_size=2, epoch=1)
    between.check(5, 1, "run")
    assert (between.batches_per_epoch, between.world_size) == (5, 1)
    with pytest.raises(UserError, match="the data"):
        between.check(7, 1, "run")


def test_each_process_holds_its_part(tmp_path: Path) -> None:
    together(tmp_path, "parts_of_the_memory")
    assert len(list(tmp_path.glob("held*.txt"))) == 2


def test_what_does_not_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not sharding.check("fsdp2", None)  # one process: nothing to share
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    assert sharding.check("fsdp2", None)
    assert not sharding.check("none", True)
    with pytest.raises(UserError, match="channels-last"):
        sharding.check("fsdp2", True)
    with pytest.raises(UserError, match="not one of none, fsdp2"):
        sharding.check("fsdp1", None)


def test_an_old_torch_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch.distributed.fsdp as fsdp

    monkeypatch.delattr(fsdp, "fully_shard")
    with pytest.raises(UserError, match=r"needs torch 2\.6"):
        distributed.shard(torch.nn.Linear(2, 2), [], torch.device("cpu"))
