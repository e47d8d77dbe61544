"""A tiny task on drawn-from-a-formula data, and runs of it for other processes to start."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from avadet.engine import distributed
from avadet.engine.ava_task import AvaTask
from avadet.engine.optim import create_optimizer
from avadet.engine.schedule import create_schedule
from avadet.engine.train import FitResult, fit
from avadet.models.losses import bce_loss
from avadet.models.preprocess import Preprocessing
from avadet.structures import Batch, Detections, Keyframe, Sample

CLASSES = 3
PREPROCESSING = Preprocessing(num_frames=2, frame_stride=1, test_short_side=8)


class TinyDetector(nn.Module):
    """Conv, norm, ReLU, dropout; each box sees its clip's mean and its own coordinates."""

    def __init__(self, batch_norm: bool = True, dropout: float = 0.5) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 4, (1, 3, 3), padding=(0, 1, 1))
        self.norm = nn.BatchNorm3d(4) if batch_norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, video: Tensor, boxes: list[Tensor]) -> Tensor:
        maps = self.norm(self.conv(video)).relu().mean((2, 3, 4))
        counts = torch.tensor([len(each) for each in boxes])
        features = torch.cat([maps.repeat_interleave(counts, 0), torch.cat(boxes) / 8], 1)
        return self.fc(self.dropout(features))


def sample(number: int, boxes: int | None = None) -> Sample:
    """Clip ``number`` with 0 to 3 boxes, the same each time."""
    random = torch.Generator().manual_seed(number)
    count = number % 4 if boxes is None else boxes
    boxes_norm = torch.rand((count, 4), generator=random)
    return Sample(
        keyframe=Keyframe(f"movie{number % 3}", 900.0 + number / 3),
        video=torch.randint(0, 256, (3, 2, 8, 8), generator=random, dtype=torch.uint8),
        boxes_px=boxes_norm * 8,
        boxes_norm=boxes_norm,
        # Something to learn: the first three coordinates.
        labels=(boxes_norm[:, :CLASSES] > 0.5).float(),
        box_scores=torch.rand(count, generator=random),
    )


class TinyLoader:
    """Batches in an order made of the epoch; rank r takes every ``world``-th batch."""

    def __init__(
        self,
        clips: int = 20,
        batch_size: int = 2,
        rank: int = 0,
        world: int = 1,
        make: Callable[[int], Sample] = sample,
        shuffle: bool = True,
    ) -> None:
        self.clips, self.batch_size, self.make = clips, batch_size, make
        self.rank, self.world, self.shuffle = rank, world, shuffle

    def _orders(self, epoch: int) -> list[list[int]]:
        random = torch.Generator().manual_seed(1000 + epoch)
        order = (
            torch.randperm(self.clips, generator=random).tolist()
            if self.shuffle
            else list(range(self.clips))
        )
        # A global batch is cut into one part for each process.
        whole = self.batch_size * self.world
        starts = range(0, self.clips, whole)
        mine = [order[start : start + whole][self.rank :: self.world] for start in starts]
        return [part for part in mine if part]

    def __len__(self) -> int:
        return len(self._orders(0))

    def batches_in(self, epoch: int) -> int:
        return len(self._orders(epoch))

    def full_sized(self, epoch: int) -> Iterator[Batch]:
        return self.epoch(epoch)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for numbers in self._orders(epoch)[start:]:
            yield Batch.collate([self.make(number) for number in numbers])

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(0)


def mean_score(detections: list[Detections]) -> dict[str, float]:
    """A stand-in for frame-mAP: any number that depends on all scores."""
    total = sum(float(each.scores.sum()) for each in detections)
    return {"score": total, "keyframes": float(len(detections))}


def make_task(model: nn.Module | None = None, eval_clips: int = 7) -> AvaTask:
    """The tiny model, freshly initialised from seed 0, with a test set of ``eval_clips``."""
    torch.manual_seed(0)
    rank, world = distributed.rank(), distributed.world_size()
    task = AvaTask(
        model or TinyDetector(),
        loss=bce_loss,
        preprocessing=PREPROCESSING,
        eval_batches=TinyLoader(eval_clips, 1, rank, world, shuffle=False),
        evaluator=mean_score,
    )
    task.export = export_state  # type: ignore[method-assign]
    return task


def export_state(path: str | os.PathLike[str], model: nn.Module) -> None:
    """The tiny model has no description, which the project's own export wants."""
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    safetensors.torch.save_file(state, path)


def train(run_dir: Path, task: AvaTask | None = None, **changes: Any) -> FitResult:
    """A short run with everything in it: dropout, norm, EMA, accumulation, precise statistics."""
    task = task or make_task()
    loader = changes.pop("loader", None)
    if loader is None:
        loader = TinyLoader(rank=distributed.rank(), world=distributed.world_size())
    optimizer = changes.pop("optimizer", None) or create_optimizer(
        task.model, "sgd", lr=0.1, weight_decay=1e-3
    )
    options: dict[str, Any] = {
        "epochs": 3,
        "precision": "fp32",
        "accumulate": 3,
        "ema_decay": 0.9,
        "clip_grad_norm": 1.0,
        "precise_bn_batches": 2,
        "eval_every": 1.0,
        "checkpoint_steps": 1,
        "log_every": 1,
        "tensorboard": False,
    }
    options.update(changes)
    schedule = create_schedule(
        "cosine", lr=0.1, epochs=max(options["epochs"], 1), warmup_epochs=0.5, warmup_lr=0.01
    )
    return fit(task, loader, optimizer, schedule, run_dir=run_dir, **options)


def killed_run(run_dir: str, seconds: float) -> None:
    """Trains with ``resume``; an alarm kills the process without warning after ``seconds``."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    if seconds:
        signal.setitimer(signal.ITIMER_REAL, seconds)
    train(Path(run_dir), resume=True)


def killed_while_writing(run_dir: str, writes: int) -> None:
    """Trains with ``resume``; dies in the middle of writing checkpoint number ``writes``."""
    torch.set_num_threads(1)
    count = 0
    save = torch.save

    def dying_save(state: Any, file: Any) -> None:
        nonlocal count
        count += 1
        if count == writes and "optimizer" in state:
            file.write(b"half a checkpoint")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        save(state, file)

    torch.save = dying_save
    train(Path(run_dir), resume=True)


def report(path: Path, result: FitResult) -> None:
    """What the parent test wants to know of a run in another process."""
    path.write_text(
        json.dumps({"metrics": result.metrics, "step": result.progress.step}), encoding="utf-8"
    )
