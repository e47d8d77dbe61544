"""Batch-norm modes, precise statistics and the moving average."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from avadet.engine import norm
from avadet.engine.ema import Ema
from avadet.errors import UserError

CPU = torch.device("cpu")


def test_precise_statistics_are_those_of_all_batches() -> None:
    values = torch.randn(7, 3, 2, 4, 4) * 3 + 1
    model = nn.Sequential(nn.BatchNorm3d(3), nn.Dropout(0.5)).eval()
    seen = []

    def forward(batch: torch.Tensor) -> None:
        seen.append(model[1].training)
        model(batch)

    assert norm.precise_statistics(model, [values[:1], values[1:5], values[5:]], forward) == 3
    flat = values.transpose(0, 1).flatten(1)
    torch.testing.assert_close(model[0].running_mean, flat.mean(1))
    torch.testing.assert_close(model[0].running_var, flat.var(1))
    assert seen == [False] * 3
    assert not model[0].training


def test_precise_statistics_follow_the_layers_before() -> None:
    """The second norm sees what the first makes of each batch with the batch's own statistics."""
    model = nn.Sequential(nn.BatchNorm3d(2), nn.ReLU(), nn.BatchNorm3d(2))
    batches = [torch.randn(4, 2, 2, 3, 3) + shift for shift in (0.0, 5.0)]
    norm.precise_statistics(model, batches, model)
    inner = torch.cat([nn.functional.batch_norm(b, None, None, training=True) for b in batches])
    flat = inner.relu().transpose(0, 1).flatten(1)
    torch.testing.assert_close(model[2].running_mean, flat.mean(1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model[2].running_var, flat.var(1), rtol=1e-4, atol=1e-4)


def test_precise_statistics_without_norms_or_batches() -> None:
    assert norm.precise_statistics(nn.Linear(2, 2), iter(()), print) == 0
    model = nn.BatchNorm3d(2)
    model.running_mean.fill_(3)
    assert norm.precise_statistics(model, [], model) == 0
    assert (model.running_mean == 3).all()


def test_frozen_norms_are_never_in_training_mode() -> None:
    model = nn.Sequential(nn.Conv3d(3, 2, 1), nn.BatchNorm3d(2))
    assert norm.prepare(model, "frozen", CPU) is model
    norm.set_training(model, "frozen")
    assert model[0].training
    assert not model[1].training
    assert not model[1].weight.requires_grad
    norm.set_training(model, "batch")
    assert model[1].training


def test_modes() -> None:
    model = nn.Sequential(nn.BatchNorm3d(2))
    assert norm.prepare(model, "sync", CPU) is model  # one process: nothing to synchronise
    with pytest.raises(UserError, match="Known: batch, frozen, sync, sub_batch"):
        norm.prepare(model, "group", CPU)  # type: ignore[arg-type]


def test_groups_of_a_batch_are_batches_of_their_own() -> None:
    torch.manual_seed(0)
    plain = nn.BatchNorm3d(3)
    nn.init.normal_(plain.weight)
    nn.init.normal_(plain.bias)
    model = norm.prepare(copy.deepcopy(plain), "sub_batch", CPU, 4)
    assert list(model.state_dict()) == list(plain.state_dict())
    # 11 clips: two groups, of 6 and 5.
    video = (torch.randn(11, 3, 2, 4, 4) * 2 + torch.arange(11).view(-1, 1, 1, 1, 1)).double()
    model, plain, whole = model.double(), plain.double(), copy.deepcopy(plain).double()
    mine, other = video.clone().requires_grad_(), video.clone().requires_grad_()
    found = model(mine)
    expected = torch.cat([plain(other[:6]), plain(other[6:])])
    torch.testing.assert_close(found, expected)
    found.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(mine.grad, other.grad)
    torch.testing.assert_close(model.weight.grad, plain.weight.grad)
    # What evaluation uses is that of the whole batch, as a plain batch norm would keep it.
    whole(video)
    torch.testing.assert_close(model.running_mean, whole.running_mean)
    torch.testing.assert_close(model.running_var, whole.running_var)
    assert model.num_batches_tracked == 1
    torch.testing.assert_close(model.eval()(video), whole.eval()(video))


def test_small_batches_are_one_group_and_precise_statistics_are_pooled() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(3, 2, 1), nn.BatchNorm3d(2), nn.ReLU())
    grouped = norm.prepare(copy.deepcopy(model), "sub_batch", CPU, 8)
    assert grouped[1].weight is not model[1].weight
    video = torch.randn(15, 3, 2, 4, 4)
    assert torch.equal(grouped.train()(video), model.train()(video))
    assert torch.equal(grouped[1].running_var, model[1].running_var)
    large = torch.randn(32, 3, 2, 4, 4)
    for each in (grouped, model):
        norm.precise_statistics(each, [video, large], each)
    torch.testing.assert_close(grouped[1].running_mean, model[1].running_mean)
    torch.testing.assert_close(grouped[1].running_var, model[1].running_var)
    with pytest.raises(UserError, match="norm_clips: 0"):
        norm.prepare(model, "sub_batch", CPU, 0)


def test_sync_needs_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(norm.distributed, "world_size", lambda: 2)
    with pytest.raises(UserError, match="needs GPUs"):
        norm.prepare(nn.Sequential(nn.BatchNorm3d(2)), "sync", CPU)
    model = norm.prepare(nn.Sequential(nn.BatchNorm3d(2)), "sync", torch.device("cuda"))
    assert isinstance(model[0], nn.SyncBatchNorm)


def test_moving_average_by_hand() -> None:
    model = nn.BatchNorm1d(1)
    model.weight.data.fill_(0.0)
    ema = Ema(model, 0.25)
    for value in (1.0, 2.0):
        model.weight.data.fill_(value)
        model.running_mean.fill_(value)
        model.num_batches_tracked += 1
        ema.update(model)
    # Decays min(0.25, 2/11) and min(0.25, 3/12): 0 -> 9/11 -> 0.25 * 9/11 + 0.75 * 2.
    assert ema.model.weight.item() == pytest.approx(0.25 * 9 / 11 + 1.5)
    assert ema.model.running_mean.item() == pytest.approx(0.25 * 9 / 11 + 1.5)
    assert ema.model.num_batches_tracked.item() == 2
    assert not ema.model.training
    assert not ema.model.training
    twin = Ema(nn.BatchNorm1d(1), 0.25)
    twin.load_state_dict(ema.state_dict())
    assert twin.updates == 2
    assert torch.equal(twin.model.weight, ema.model.weight)
    with pytest.raises(ValueError, match="between 0 and 1"):
        Ema(model, 1.0)


def test_precise_statistics_reach_the_moving_average_but_no_frozen_norm() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm3d(2), nn.BatchNorm3d(2))
    model[1].requires_grad_(False)
    average = Ema(model, 0.9).model
    values = 3 + torch.randn(4, 2, 2, 3, 3)
    assert norm.precise_statistics(average, [values], average) == 1
    torch.testing.assert_close(average[0].running_mean, values.mean((0, 2, 3, 4)))
    assert not average[1].running_mean.any()
