"""Two processes over gloo do what one does with twice the batch, and neither waits for ever."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import subprocess
import sys
from pathlib import Path

import engine_ddp
import pytest
import torch
from safetensors.torch import load_file
from test_engine_resume import assert_same_end

from avadet.engine import distributed
from avadet.errors import UserError

CONTEXT = multiprocessing.get_context("forkserver")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def together(run_dir: Path, job: str, world: int = 2) -> None:
    """Runs a job of ``engine_ddp`` on ``world`` processes; fails if one does, or hangs."""
    run_dir.mkdir(exist_ok=True)
    port = free_port()
    processes = [
        CONTEXT.Process(target=engine_ddp.start, args=(rank, world, port, str(run_dir), job))
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


@pytest.mark.parametrize("job", ["equal_to_one_process", "without_boxes"])
def test_two_processes_equal_one_with_the_double_batch(tmp_path: Path, job: str) -> None:
    together(tmp_path / "two", job)
    (tmp_path / "one").mkdir()
    engine_ddp.JOBS[job](tmp_path / "one")
    one = load_file(tmp_path / "one/model.safetensors")
    two = load_file(tmp_path / "two/model.safetensors")
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-5, atol=1e-6)
    results = [
        json.loads((tmp_path / path).read_text())
        for path in ("one/result0.json", "two/result0.json", "two/result1.json")
    ]
    assert results[1] == results[2]
    assert results[0]["step"] == results[1]["step"]
    assert results[0]["metrics"]["keyframes"] == results[1]["metrics"]["keyframes"] == 7
    assert results[0]["metrics"]["score"] == pytest.approx(results[1]["metrics"]["score"], 1e-5)
    # The log tells the loss of all processes.
    logs = [
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert len(logs[0]) == len(logs[1])
    for a, b in zip(*logs):
        for name in ("step", "epoch", "lr", "loss", "grad_norm", "score"):
            assert a.get(name, 0) == pytest.approx(b.get(name, 0), rel=1e-4)


def test_evaluation_has_each_keyframe_once_and_the_same_bits(tmp_path: Path) -> None:
    together(tmp_path / "two", "evaluation")
    (tmp_path / "one").mkdir()
    engine_ddp.evaluation(tmp_path / "one")
    texts = {
        (tmp_path / path).read_text()
        for path in ("one/detections0.txt", "two/detections0.txt", "two/detections1.txt")
    }
    assert len(texts) == 1


def test_one_process_asked_to_stop_stops_both_and_resumes_exactly(tmp_path: Path) -> None:
    together(tmp_path / "whole", "whole_run")
    together(tmp_path / "parts", "interrupted_run")
    assert_same_end(tmp_path / "whole", tmp_path / "parts")


def test_not_a_number_on_one_process_stops_both(tmp_path: Path) -> None:
    together(tmp_path, "not_a_number")
    texts = [(tmp_path / f"error{rank}.txt").read_text() for rank in (0, 1)]
    assert texts[0] == texts[1]
    assert texts[0].startswith("UserError: step 1: the loss is not finite")
    assert [path.name for path in tmp_path.glob("nonfinite*")] == [
        "nonfinite_step000000001_rank1.pt"
    ]
    saved = torch.load(next(tmp_path.glob("nonfinite*")), weights_only=True)
    assert all(name in texts[0] for name in saved["names"])


def test_messages(tmp_path: Path) -> None:
    together(tmp_path, "collectives")


def test_alone_nothing_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    with distributed.processes():
        assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
        assert distributed.gather_json([1]) == [[1]]
        distributed.barrier()
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="torchrun"):
        distributed.start()


@pytest.mark.slow
def test_torchrun(tmp_path: Path) -> None:
    """The real launcher, and what a process that dies does to the other."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    program = str(Path(engine_ddp.__file__))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, program, str(tmp_path), "equal_to_one_process"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = [json.loads((tmp_path / f"result{rank}.json").read_text()) for rank in (0, 1)]
    assert results[0] == results[1]
