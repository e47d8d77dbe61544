"""Parameter groups and the updates of the optimisers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from avadet.engine.optim import create_optimizer, parameter_groups, set_lr
from avadet.errors import UserError


def network() -> nn.Module:
    return nn.ModuleDict(
        {
            "backbone": nn.Sequential(nn.Conv3d(3, 4, 1), nn.BatchNorm3d(4), nn.LayerNorm(4)),
            "head": nn.Linear(4, 2),
        }
    )


def test_norms_do_not_decay() -> None:
    groups = parameter_groups(network(), lr=0.1, weight_decay=0.5)
    assert [(group["weight_decay"], group["names"]) for group in groups] == [
        (0.5, ["backbone.0.weight", "backbone.0.bias", "head.weight", "head.bias"]),
        (
            0.0,
            ["backbone.1.weight", "backbone.1.bias", "backbone.2.weight", "backbone.2.bias"],
        ),
    ]


def test_biases_may_have_their_own_decay() -> None:
    groups = parameter_groups(
        network(), lr=0.1, weight_decay=0.5, norm_weight_decay=0.1, bias_weight_decay=0.0
    )
    by_decay = {group["weight_decay"]: group["names"] for group in groups}
    assert by_decay[0.0] == ["backbone.0.bias", "head.bias"]
    assert by_decay[0.5] == ["backbone.0.weight", "head.weight"]
    assert len(by_decay[0.1]) == 4


def test_lr_scales_take_the_longest_prefix() -> None:
    model = network()
    optimizer = create_optimizer(
        model, "adamw", lr=1.0, lr_scales={"backbone": 0.1, "backbone.0": 0.01}
    )
    set_lr(optimizer, 2.0)
    rates = {name: group["lr"] for group in optimizer.param_groups for name in group["names"]}
    assert rates["backbone.0.weight"] == pytest.approx(0.02)
    assert rates["backbone.1.weight"] == pytest.approx(0.2)
    assert rates["head.weight"] == pytest.approx(2.0)
    with pytest.raises(UserError, match="back"):
        parameter_groups(model, lr=1.0, weight_decay=0.0, lr_scales={"back": 0.1})


def test_fixed_and_shared_parameters() -> None:
    model = network()
    model["head"].requires_grad_(False)
    model["again"] = model["backbone"]
    groups = parameter_groups(model, lr=0.1, weight_decay=0.0)
    assert sum(len(group["params"]) for group in groups) == 6
    with pytest.raises(UserError, match="no trainable"):
        parameter_groups(model.requires_grad_(False), lr=0.1, weight_decay=0.0)


def test_nesterov_by_hand() -> None:
    weight = nn.Linear(1, 1, bias=False)
    weight.weight.data.fill_(1.0)
    optimizer = create_optimizer(weight, "sgd", lr=0.1, momentum=0.9, weight_decay=0.5)
    for _ in range(2):
        weight.weight.grad = torch.full((1, 1), 2.0)
        optimizer.step()
    # g = 2 + 0.5 w; v = 0.9 v + g (v = g at first); w -= 0.1 (g + 0.9 v).
    # Step 1: g 2.5, v 2.5, w 1 - 0.475 = 0.525. Step 2: g 2.2625, v 4.5125, w 0.525 - 0.632375.
    assert weight.weight.item() == pytest.approx(-0.107375, rel=1e-5)


def test_adamw_first_step_by_hand() -> None:
    weight = nn.Linear(1, 1, bias=False)
    weight.weight.data.fill_(1.0)
    optimizer = create_optimizer(weight, "adamw", lr=0.1, weight_decay=0.5)
    weight.weight.grad = torch.full((1, 1), 3.0)
    optimizer.step()
    # Decay first: 1 - 0.1 * 0.5; the first Adam step is lr * sign(g).
    assert weight.weight.item() == pytest.approx(0.85, rel=1e-5)


def test_unknown_optimizer() -> None:
    with pytest.raises(UserError, match="Known: adamw, sgd"):
        create_optimizer(network(), "lion", lr=0.1)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="optimizer 'sgd'"):
        create_optimizer(network(), "sgd", lr=-1.0)
