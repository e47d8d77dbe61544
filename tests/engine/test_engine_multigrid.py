"""Multigrid training in the loop: lengths of epochs, statistics at full size, exact resumption."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from engine_tiny import export_state
from torch import nn
from torch.utils.data import Dataset

from avadet import build
from avadet.config import load_config
from avadet.data.draws import ClipShape, Draw
from avadet.data.kinetics import ClassificationBatch, ClassificationSample
from avadet.data.label_map import LabelMap
from avadet.data.loader import build_loader
from avadet.data.multigrid import plan
from avadet.engine.clip_task import ClipTask
from avadet.engine.norm import SubBatchNorm
from avadet.engine.optim import create_optimizer
from avadet.engine.schedule import create_schedule
from avadet.engine.train import FitResult, fit
from avadet.errors import UserError
from avadet.models.losses import cross_entropy_loss
from avadet.models.preprocess import Preprocessing

CYCLES = plan(ClipShape(8, 1, 16), epochs=6, steps=[0, 4], factors=[1, 0.1], epoch_factor=1)
CLIPS, BATCH = 70, 2


class Noise(Dataset[ClassificationSample]):
    """Clips of noise, bright or dark, in the size asked for; may send a signal while drawing."""

    collate = staticmethod(ClassificationBatch.collate)

    def __init__(self, countdown: int | None = None) -> None:
        self.countdown = countdown
        self.sizes: list[tuple[int, ...]] = []

    def __len__(self) -> int:
        return CLIPS

    def __getitem__(self, draw: int | Draw) -> ClassificationSample:
        draw = Draw.of(draw, len(self))
        if self.countdown is not None:
            if self.countdown == 0:
                os.kill(os.getpid(), signal.SIGINT)
            self.countdown -= 1
        shape = draw.shape or CYCLES.base
        rng = np.random.default_rng((draw.sample, draw.epoch))
        low = 60 * (draw.sample % 2)
        side = shape.side
        pixels = rng.integers(low, low + 190, (3, shape.num_frames, side, side))
        self.sizes.append((shape.num_frames, side))
        return ClassificationSample(
            str(draw.sample), 0, torch.from_numpy(pixels.astype(np.uint8)), draw.sample % 2
        )


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(3, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(), nn.Dropout(0.2),
        nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 2),
    )  # fmt: skip


def run(folder: Path, countdown: int | None = None, **options: Any) -> tuple[FitResult, Noise]:
    dataset = Noise(countdown)
    task = ClipTask(
        network(),
        loss=cross_entropy_loss,
        preprocessing=Preprocessing(8, 1),
        eval_batches=[ClassificationBatch.collate([Noise()[n] for n in range(6)])],
    )
    task.export = export_state  # type: ignore[method-assign]
    schedule = create_schedule(
        "step", lr=0.05, epochs=CYCLES.epochs, steps=CYCLES.steps, factors=CYCLES.factors
    )
    result = fit(
        task,
        build_loader(dataset, BATCH, train=True, multigrid=CYCLES),
        create_optimizer(task.model, "sgd", lr=0.05),
        schedule,
        epochs=CYCLES.epochs,
        run_dir=folder,
        norm="sub_batch",
        norm_clips=4,
        precise_bn_batches=2,
        precision="fp32",
        log_every=1,
        tensorboard=False,
        checkpoint_steps=1,
        **options,
    )
    assert isinstance(task.model[1], SubBatchNorm)
    return result, dataset


def train_lines(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == "train"]


def test_epochs_steps_and_rates(tmp_path: Path) -> None:
    result, dataset = run(tmp_path)
    assert result.finished
    lines = train_lines(tmp_path)
    # Of 70 clips in base batches of 2: at 8 bases a turn is 32, 16, 16: then 6 are left: 3 steps.
    loader = build_loader(Noise(), BATCH, train=True, multigrid=CYCLES)
    lengths = [loader.batches_in(epoch) for epoch in range(CYCLES.epochs)]
    assert lengths[0] == 3
    assert len(set(lengths)) > 2
    assert result.progress.step == len(lines) == sum(lengths)
    assert result.progress.position == CYCLES.epochs
    ends = np.cumsum(lengths)
    for epoch, end in enumerate(ends):
        assert lines[end - 1]["epoch"] == pytest.approx(epoch + 1)
        assert lines[end - lengths[epoch]]["epoch"] == pytest.approx(epoch + 1 / lengths[epoch])
        rate = next(p.rate for p in CYCLES.phases if epoch < p.end)
        assert lines[end - 1]["lr"] == pytest.approx(0.05 * rate)
    # Statistics for the evaluation come from full clips, whatever the epoch's size is.
    assert dataset.sizes[64:68] == [(8, 16)] * 4
    assert set(dataset.sizes[:64]) == {(2, 8), (2, 11)}


@pytest.mark.parametrize("countdown", [5, 40, 110, 200])
def test_resumed_runs_end_with_the_same_bits(tmp_path: Path, countdown: int) -> None:
    run(tmp_path / "whole")
    stopped, _ = run(tmp_path / "parts", countdown)
    assert not stopped.finished
    result, _ = run(tmp_path / "parts", resume=True)
    assert result.finished
    one, two = (
        safetensors.torch.load_file(tmp_path / name / "model.safetensors")
        for name in ("whole", "parts")
    )
    assert one.keys() == two.keys() == network().state_dict().keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    kept = [
        [(line["step"], line["epoch"], line["loss"]) for line in train_lines(tmp_path / name)]
        for name in ("whole", "parts")
    ]
    assert kept[0] == kept[1]


def test_a_network_that_cannot_take_a_quarter_of_the_frames_says_so() -> None:
    words = ["data.classes=", "model.init={source: none}", "data.num_frames=8"]
    config = load_config("configs/charades/slowfast_r50_16x8_multigrid.yaml", words)
    cycles = build.build_multigrid(config)
    assert cycles is not None
    description = build.describe(config, LabelMap.numbered(157))
    message = "slowfast_r50 cannot take clips of 2 frames of .* too few for alpha 4"
    with pytest.raises(UserError, match=message):
        build.check_multigrid(description, cycles)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train.schedule=cosine"], r"long cycle follows the steps of train.schedule=step"),
        (["train.steps=[0]", "train.factors=[1]"], "at least two steps"),
        (["train.multigrid.short_cycl=true"], "short_cycl"),
        (["task=ava"], "train.multigrid is for the tasks clips and charades"),
        (["data.crop=null"], r"train.multigrid needs data.crop"),
        (["train.multigrid.epoch_factor=0"], "epoch_factor"),
    ],
)
def test_settings_that_do_not_go_together(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build.build_multigrid(
            load_config("configs/charades/slowfast_r50_16x8_multigrid.yaml", words)
        )


def test_the_short_cycle_goes_with_any_schedule() -> None:
    words = ["train.schedule=cosine", "train.multigrid.long_cycle=false"]
    config = load_config("configs/charades/slowfast_r50_16x8_multigrid.yaml", words)
    cycles = build.build_multigrid(config)
    assert cycles is not None
    assert (cycles.epochs, cycles.steps, len(cycles.phases[0].grids)) == (85, [0.0], 3)
