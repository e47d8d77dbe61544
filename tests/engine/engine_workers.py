"""A run whose batches come from worker processes; a program of its own for Ctrl-C."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
from engine_tiny import sample, train

from avadet.data.draws import Draw
from avadet.data.loader import build_loader
from avadet.engine.train import FitResult
from avadet.structures import Batch, Sample


class SlowClips:
    """Twenty clips that take a while to decode."""

    collate = staticmethod(Batch.collate)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __len__(self) -> int:
        return 20

    def __getitem__(self, draw: int | Draw) -> Sample:
        time.sleep(self.seconds)
        return sample(Draw.of(draw, len(self)).sample)


def run(run_dir: Path, workers: int, seconds: float = 0.0) -> FitResult:
    loader = build_loader(SlowClips(seconds), 2, train=True, num_workers=workers)
    return train(run_dir, loader=loader, resume=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(run(Path(sys.argv[1]), workers=2, seconds=0.1).message)
