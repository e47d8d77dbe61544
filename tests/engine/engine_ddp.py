"""What two processes do; a program of its own for torchrun."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from engine_tiny import TinyDetector, TinyLoader, make_task, mean_score, sample, train
from torch import Tensor

from avadet.engine import distributed
from avadet.engine.infer import gather_detections
from avadet.engine.norm import precise_statistics
from avadet.models.losses import bce_loss
from avadet.structures import Batch, Detections, Keyframe, Sample


def start(rank: int, world: int, port: int, run_dir: str, job: str) -> None:
    """One of ``world`` processes, with the environment that torchrun would give it."""
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    run(job, run_dir)


def run(job: str, run_dir: str) -> None:
    """A job, and the end of the process as ``cli.run`` makes it."""
    torch.set_num_threads(1)
    with distributed.processes():
        JOBS[job](Path(run_dir))
    sys.stdout.flush()
    os._exit(0)


def no_boxes_on_odd(number: int) -> Sample:
    return sample(number, boxes=0 if number % 2 else 2)


def equal_to_one_process(run_dir: Path) -> None:
    """Uneven: of 21 clips the last batch has one, which leaves nothing for rank 1."""
    plain_run(run_dir, clips=21)


def without_boxes(run_dir: Path) -> None:
    """Rank 1 never has a box (clips are not shuffled, and cut one by one)."""
    plain_run(run_dir, clips=20, shuffle=False, make=no_boxes_on_odd)


def plain_run(run_dir: Path, **data: Any) -> None:
    """No batch norm, no dropout: comparable with another number of processes."""
    rank, world = distributed.rank(), distributed.world_size()
    torch.manual_seed(rank)  # the main process's weights must win
    task = make_task(TinyDetector(batch_norm=False, dropout=0.0))
    if rank == 0:
        torch.manual_seed(0)
        task.model.load_state_dict(TinyDetector(batch_norm=False).state_dict())
    loader = TinyLoader(batch_size=4 // world, rank=rank, world=world, **data)
    result = train(run_dir, task, loader=loader, accumulate=2)
    (run_dir / f"result{rank}.json").write_text(
        json.dumps({"metrics": result.metrics, "step": result.progress.step})
    )


class Signalling(TinyLoader):
    """Asks rank 1 alone to stop, while it fetches its seventh batch."""

    count = 0

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for batch in super().epoch(epoch, start):
            self.count += 1
            if self.count == 7 and self.rank == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch


def whole_run(run_dir: Path) -> None:
    train(run_dir)


def interrupted_run(run_dir: Path) -> None:
    """Stops both processes and goes on, with batch norm and dropout."""
    result = train(run_dir, loader=Signalling(rank=distributed.rank(), world=2))
    assert not result.finished
    assert train(run_dir, resume=True).finished


def not_a_number(run_dir: Path) -> None:
    """Rank 1's loss breaks; both must stop and tell rank 1's clips."""
    task = make_task()
    calls = 0

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        bad = calls == 4 and distributed.rank() == 1
        return bce_loss(logits, labels) * (float("nan") if bad else 1.0)

    task._loss = loss
    try:
        loader = TinyLoader(rank=distributed.rank(), world=2, make=lambda n: sample(n, 2))
        train(run_dir, task, loader=loader)
    except Exception as error:
        (run_dir / f"error{distributed.rank()}.txt").write_text(f"{type(error).__name__}: {error}")


def collectives(run_dir: Path) -> None:
    """Messages of different sizes, duplicates, empty parts."""
    rank = distributed.rank()
    assert distributed.gather_numbers([rank, 2.5]).tolist() == [[0, 2.5], [1, 2.5]]
    assert distributed.gather_json({"rank": rank, "text": "ü" * rank})[1] == {
        "rank": 1,
        "text": "ü",
    }
    assert distributed.from_main(["main"] if rank == 0 else None) == ["main"]
    mine = [found(k, rank) for k in ((3, 1, 0) if rank == 0 else (2, 1))]
    merged = gather_detections(mine)
    assert [each.keyframe.second for each in merged] == [0.0, 1 / 3, 2 / 3, 1.0]
    # Keyframe 1 was on both: the lowest rank's counts.
    assert [each.person_scores.tolist() for each in merged] == [[], [0.0], [1, 1], [0, 0, 0]]
    assert merged[2].scores.shape == (2, 3)
    assert gather_detections([found(2, 1)] if rank else [])[0].scores.shape == (2, 3)
    assert gather_detections([]) == []
    # Statistics over both processes are those of all the data.
    values = torch.randn(6, 2, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    norm = torch.nn.BatchNorm3d(2)
    precise_statistics(norm, [values[:1], values[1:4]] if rank == 0 else [values[4:]], norm)
    flat = values.transpose(0, 1).flatten(1)
    torch.testing.assert_close(norm.running_mean, flat.mean(1))
    torch.testing.assert_close(norm.running_var, flat.var(1))


def found(number: int, rank: int) -> Detections:
    return Detections(
        keyframe=Keyframe("ä", number / 3),
        boxes_norm=np.zeros((number, 4), np.float32),
        person_scores=np.full(number, rank, np.float32),
        scores=np.full((number, 3), number, np.float32),
    )


def evaluation(run_dir: Path) -> None:
    """Scores seven clips, which two processes cannot share evenly."""
    task = make_task()
    detections = task.detect(task.model)
    lines = [f"{each.keyframe} {each.scores.tolist()}" for each in detections]
    (run_dir / f"detections{distributed.rank()}.txt").write_text("\n".join(lines))
    assert mean_score(detections)["keyframes"] == 7


JOBS = {
    each.__name__: each
    for each in (
        equal_to_one_process,
        without_boxes,
        whole_run,
        interrupted_run,
        not_a_number,
        collectives,
        evaluation,
    )
}

if __name__ == "__main__":
    run(sys.argv[2], sys.argv[1])
