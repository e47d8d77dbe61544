"""What several processes with a sharded model do; jobs for ``engine_ddp.start``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from engine_ddp import Signalling
from engine_tiny import CLASSES, TinyLoader, make_task, train
from torch import Tensor, nn

from avadet.engine import distributed, sharding
from avadet.engine.ava_task import AvaTask
from avadet.engine.optim import create_optimizer
from avadet.models.losses import bce_loss
from avadet.models.recompute import recompute_blocks


class Block(nn.Module):
    """Residual; 3 channels do not divide among 2 processes."""

    def __init__(self, batch_norm: bool) -> None:
        super().__init__()
        self.conv = nn.Conv3d(4, 3, (1, 3, 3), padding=(0, 1, 1))
        self.norm = nn.BatchNorm3d(3) if batch_norm else nn.Identity()
        self.out = nn.Conv3d(3, 4, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.out(self.norm(self.conv(x)).relu())


class BlockDetector(nn.Module):
    """A stem, two blocks, a box head; the first bias is frozen."""

    block_types = (Block,)

    def __init__(self, batch_norm: bool = True) -> None:
        super().__init__()
        self.stem = nn.Conv3d(3, 4, (1, 3, 3), padding=(0, 1, 1))
        self.stem.bias.requires_grad_(False)
        self.blocks = nn.Sequential(Block(batch_norm), Block(batch_norm))
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, video: Tensor, boxes: list[Tensor]) -> Tensor:
        maps = self.blocks(self.stem(video)).mean((2, 3, 4))
        counts = torch.tensor([len(each) for each in boxes])
        features = torch.cat([maps.repeat_interleave(counts, 0), torch.cat(boxes) / 8], 1)
        return self.fc(features)


def task(batch_norm: bool) -> AvaTask:
    torch.manual_seed(0)
    return make_task(BlockDetector(batch_norm))


def run(run_dir: Path, *, batch_norm: bool = False, **options: Any) -> Any:
    """Four clips a step, however many processes there are."""
    rank, world = distributed.rank(), distributed.world_size()
    own = task(batch_norm)
    own._loss = options.pop("loss", own._loss)
    recompute_blocks(own.model)
    kind = options.pop("optimizer", "sgd")
    optimizer = create_optimizer(own.model, kind, lr=0.1, weight_decay=1e-3)
    make_loader = options.pop("make_loader", TinyLoader)
    loader = make_loader(clips=20, batch_size=4 // world, rank=rank, world=world)
    return train(run_dir, own, loader=loader, optimizer=optimizer, accumulate=2, **options)


def sharded(run_dir: Path) -> None:
    """Everything at once: moving average, clipping, accumulation, recomputed blocks."""
    result = run(run_dir, sharding="fsdp2")
    assert result.finished
    (run_dir / f"score{distributed.rank()}.txt").write_text(repr(result.metrics))


def plain(run_dir: Path) -> None:
    run(run_dir)


def sharded_adamw(run_dir: Path) -> None:
    run(run_dir, sharding="fsdp2", optimizer="adamw")


def plain_adamw(run_dir: Path) -> None:
    run(run_dir, optimizer="adamw")


def sharded_norms(run_dir: Path) -> None:
    """Batch norms with precise statistics, in bfloat16."""
    run(run_dir, batch_norm=True, sharding="fsdp2", precision="bf16")


def plain_norms(run_dir: Path) -> None:
    run(run_dir, batch_norm=True, precision="bf16")


def sharded_half_floats(run_dir: Path) -> None:
    """float16 with loss scaling: one process's gradient overflows, and both leave that step out."""
    calls = 0

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        far = calls == 3 and distributed.rank() == 1
        return bce_loss(logits, labels) * (1e30 if far else 1.0)

    result = run(run_dir, loss=loss, sharding="fsdp2", precision="fp16")
    (run_dir / f"skipped{distributed.rank()}.txt").write_text(str(result.progress.skipped))


class Later(Signalling):
    """Asks in the middle of the second epoch."""

    count = -1


def half(run_dir: Path) -> None:
    """Stopped by a signal to one process in the middle of the second epoch, sharded."""
    assert not run(run_dir, sharding="fsdp2", make_loader=Later).finished


def rest(run_dir: Path) -> None:
    run(run_dir, sharding="fsdp2", resume=True)


def rest_plain(run_dir: Path) -> None:
    run(run_dir, resume=True)


def parts_of_the_memory(run_dir: Path) -> None:
    """Each process holds its part of the weights, and can put them together again."""
    model = task(batch_norm=False).model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = create_optimizer(model, "sgd", lr=0.1)
    skeleton = sharding.shard_model(model, optimizer, None, torch.device("cpu"))
    held = sum(each.to_local().numel() for each in model.parameters())
    whole = sum(value.numel() for value in before.values())
    assert distributed.gather_numbers([held]).sum() == whole
    assert held < 0.65 * whole  # three rows are two and one
    assert all(each.is_meta for each in skeleton.parameters())
    for name, value in sharding.assemble(skeleton, model).state_dict().items():
        assert torch.equal(value, before[name]), name
    for name, value in distributed.whole(model.state_dict(), main_only=True).items():
        assert (value is None) == (distributed.rank() > 0), name
    (run_dir / f"held{distributed.rank()}.txt").write_text(str(held))


JOBS = {
    each.__name__: each
    for each in (
        sharded,
        plain,
        sharded_adamw,
        plain_adamw,
        sharded_norms,
        plain_norms,
        sharded_half_floats,
        half,
        rest,
        rest_plain,
        parts_of_the_memory,
    )
}


def start(rank: int, world: int, port: int, run_dir: str, job: str) -> None:
    """One of ``world`` processes, with the environment that torchrun would give it."""
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    torch.set_num_threads(1)
    with distributed.processes():
        JOBS[job](Path(run_dir))
    # As the command does, see cli.run.
    sys.stdout.flush()
    os._exit(0)
