"""The training loop in one process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_tiny import TinyDetector, TinyLoader, make_task, sample, train
from safetensors.torch import load_file
from torch import Tensor, nn

from avadet.engine.optim import create_optimizer
from avadet.engine.progress import Progress
from avadet.engine.train import _schedule_position
from avadet.errors import UserError
from avadet.models.losses import bce_loss
from avadet.structures import Sample


def lines(run_dir: Path, kind: str = "train") -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]
    return [entry for entry in entries if entry["kind"] == kind]


def plain_task() -> Any:
    """Without batch norm and dropout: batches can be cut anywhere."""
    torch.manual_seed(0)
    return make_task(TinyDetector(batch_norm=False, dropout=0.0))


def test_a_run_learns_and_leaves_what_it_promises(tmp_path: Path) -> None:
    task = make_task(TinyDetector(dropout=0.0))
    optimizer = create_optimizer(task.model, "adamw", lr=0.1)
    result = train(
        tmp_path, task, optimizer=optimizer, epochs=20, accumulate=1, clip_grad_norm=None,
        settings={"data": {"crop": 8}, "rates": (1, 2.0)}, tensorboard=True, checkpoint_steps=None,
    )  # fmt: skip
    assert result.finished
    assert result.progress.step == 200
    assert result.progress.position == 20
    assert result.weights == tmp_path / "model.safetensors"
    assert (tmp_path / "best.safetensors").is_file()
    assert list((tmp_path / "tensorboard").iterdir())
    entries = lines(tmp_path)
    assert [entry["step"] for entry in entries] == list(range(1, 201))
    assert sum(e["loss"] for e in entries[-10:]) < 0.9 * sum(e["loss"] for e in entries[:10])
    assert entries[4]["lr"] == pytest.approx(0.01 + 0.8 * (lines(tmp_path)[5]["lr"] - 0.01), 0.02)
    assert len(lines(tmp_path, "eval")) == 20
    saved = torch.load(result.checkpoint, weights_only=True)
    assert saved["settings"] == {"data": {"crop": 8}, "rates": [1, 2.0]}
    exported = load_file(result.weights)
    for name, value in saved["ema"]["model"].items():
        assert torch.equal(exported[name], value)


def test_accumulation_equals_the_large_batch(tmp_path: Path) -> None:
    """The clips have 0 to 3 boxes, so parts weigh differently."""
    small, large = plain_task(), plain_task()
    for task, batch_size, accumulate in ((small, 2, 3), (large, 6, 1)):
        loader = TinyLoader(clips=24, batch_size=batch_size)
        run_dir = tmp_path / str(batch_size)
        result = train(run_dir, task, loader=loader, accumulate=accumulate, ema_decay=None)
        assert result.progress.step == 12
    start = plain_task().model.state_dict()
    for (name, a), b in zip(small.model.state_dict().items(), large.model.state_dict().values()):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
        assert not torch.equal(a, start[name])
    for a, b in zip(lines(tmp_path / "2"), lines(tmp_path / "6")):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-4)


def no_boxes(number: int) -> Sample:
    return sample(number, boxes=0)


def test_no_box_at_all_is_no_news(tmp_path: Path) -> None:
    task = plain_task()
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    optimizer = create_optimizer(task.model, "sgd", lr=0.1)
    train(tmp_path, task, optimizer=optimizer, loader=TinyLoader(make=no_boxes), epochs=1)
    for name, value in task.model.state_dict().items():
        assert torch.equal(value, before[name])
    assert {entry["loss"] for entry in lines(tmp_path)} == {0.0}


class Burst:
    """A loss that goes wrong at one call."""

    def __init__(self, call: int, how: str) -> None:
        self.calls, self.call, self.how = 0, call, how

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        self.calls += 1
        loss = bce_loss(logits, labels)
        if self.calls != self.call:
            return loss
        # sqrt has an infinite slope at 0: the loss is fine, its gradient is not.
        return loss * float("nan") if self.how == "loss" else loss + (logits.sum() * 0).sqrt()


@pytest.mark.parametrize("how", ["loss", "gradient"])
def test_not_a_number_stops_names_and_saves(tmp_path: Path, how: str) -> None:
    task = make_task()
    task._loss = Burst(5, how)
    with pytest.raises(UserError, match=how) as caught:
        train(tmp_path, task, loader=TinyLoader(make=lambda n: sample(n, 2)), eval_every=None)
    # The fifth batch is the second of the second group of three.
    path = tmp_path / "nonfinite_step000000001_rank0.pt"
    assert str(path) in str(caught.value)
    saved = torch.load(path, weights_only=True)
    assert len(saved["names"]) == 6
    assert all(name in str(caught.value) for name in saved["names"])
    assert saved["batches"][1]["video"].shape == (2, 3, 2, 8, 8)
    assert saved["batches"][1]["keyframes"][0]["video"].startswith("movie")
    assert torch.isfinite(torch.cat([v.flatten() for v in task.model.state_dict().values()])).all()


def test_weights_that_are_not_numbers_fail_the_evaluation(tmp_path: Path) -> None:
    task = make_task()
    task.model.fc.weight.data[0, 0] = float("nan")
    with pytest.raises(UserError, match=r"scores that are not finite on movie1@900\.333s"):
        task.evaluate(task.model)


def test_frozen_norms_stay(tmp_path: Path) -> None:
    task = make_task()
    task.model.norm.running_mean.fill_(0.5)
    task.model.norm.weight.data.fill_(2.0)
    train(tmp_path, task, norm="frozen", precise_bn_batches=0, epochs=1)
    assert (task.model.norm.running_mean == 0.5).all()
    assert (task.model.norm.weight == 2).all()
    assert task.model.norm.num_batches_tracked == 0


def test_limits_end_a_run(tmp_path: Path) -> None:
    result = train(tmp_path / "steps", max_steps=2)
    assert result.finished
    assert result.progress.step == 2
    assert result.metrics
    result = train(tmp_path / "minutes", max_minutes=1e-6)
    assert result.finished
    assert result.progress.step == 1
    assert train(tmp_path / "part", epochs=0.5).progress.step == 2
    assert not train(tmp_path / "never", eval_every=None, epochs=1).metrics
    result = train(tmp_path / "end", eval_every=0, epochs=2)
    assert [entry["step"] for entry in lines(tmp_path / "end", "eval")] == [8]
    train(tmp_path / "half", eval_every=0.5, epochs=1.5)
    assert [e["step"] for e in lines(tmp_path / "half", "eval")] == [2, 4, 6]


def test_slow_machines_go_through_the_schedule_by_the_clock() -> None:
    progress = Progress(batches_per_epoch=10, world_size=1, epoch=1, minutes=2.0)
    assert _schedule_position(progress, epochs=10, max_minutes=None) == 1
    assert _schedule_position(progress, epochs=10, max_minutes=10) == 1  # too early to tell
    progress.minutes = 5.0
    assert _schedule_position(progress, epochs=10, max_minutes=10) == 5
    assert _schedule_position(progress, epochs=10, max_minutes=4) == 10
    progress.epoch = 8  # fast enough: steps lead
    assert _schedule_position(progress, epochs=10, max_minutes=10) == 8


class Shorter(TinyLoader):
    """As class-balanced sampling does: a few batches more or fewer in later epochs."""

    def _orders(self, epoch: int) -> list[list[int]]:
        orders = super()._orders(epoch)
        return orders[:-2] if epoch == 1 else orders + orders[:2] if epoch == 2 else orders


def test_epochs_may_differ_in_length(tmp_path: Path) -> None:
    result = train(tmp_path, loader=Shorter(), accumulate=1)
    assert result.progress.position == 3
    assert result.progress.step == 10 + 8 + 12
    assert [entry["step"] for entry in lines(tmp_path, "eval")] == [10, 18, 30]
    positions = [entry["epoch"] for entry in lines(tmp_path, "train")]
    assert positions[13] == pytest.approx(1 + 4 / 8)
    assert positions[23] == pytest.approx(2 + 6 / 12)


def test_an_empty_set_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gives no batch"):
        train(tmp_path, loader=TinyLoader(clips=0))


@pytest.mark.parametrize("precision", ["bf16", "fp16", "auto"])
def test_precisions(tmp_path: Path, precision: str) -> None:
    result = train(tmp_path, precision=precision, epochs=1, channels_last=True)
    assert result.finished
    assert all(torch.isfinite(p).all() for p in nn.ParameterList(make_task().model.parameters()))
    state = torch.load(result.checkpoint, weights_only=True)
    assert bool(state["scaler"]) == (precision == "fp16")
    assert all(value.dtype != torch.bfloat16 for value in state["model"].values())


def test_float16_overflow_skips_the_step(tmp_path: Path) -> None:
    task = make_task()

    def huge(logits: Tensor, labels: Tensor) -> Tensor:
        # A gradient times the first loss scales overflows float32 too.
        return bce_loss(logits, labels) * 1e35

    task._loss = huge
    result = train(tmp_path, task, precision="fp16", epochs=1, eval_every=None)
    assert result.progress.skipped > 0
    assert all(torch.isfinite(p).all() for p in task.model.parameters())
