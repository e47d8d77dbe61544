"""Layers of every backbone from the input on, and what does not train at all."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from avadet.engine.norm import precise_statistics
from avadet.engine.optim import create_optimizer
from avadet.models.action import ActionClassifier
from avadet.models.backbones import BACKBONES
from avadet.models.depth import layer_names, layer_scales
from avadet.models.freeze import freeze
from avadet.models.heads import PoolHead


@pytest.mark.parametrize("name", [name for name in BACKBONES.names() if name.endswith("_tiny")])
def test_every_parameter_has_one_layer(name):
    with torch.device("meta"):
        backbone = BACKBONES.get(name)()
    layers = layer_names(backbone)
    assert len(layers) >= 5
    flat = [each for layer in layers for each in layer]
    assert sorted(flat) == sorted(name for name, _ in backbone.named_parameters())
    assert len(set(flat)) == len(flat)
    stem = ("stem.", "patch", "conv1", "norms.1", "class_token", "position", "cls", "pos")
    assert any(part in layers[0][0] for part in stem), layers[0][0]


@pytest.mark.parametrize(("name", "count"), [("vit_b", 13), ("mvit_v2_s", 17), ("slowfast_r50", 5)])
def test_how_many_layers(name, count):
    with torch.device("meta"):
        assert len(layer_names(BACKBONES.get(name)())) == count


def test_slow_and_fast_stages_of_one_depth_are_one_layer():
    with torch.device("meta"):
        layers = layer_names(BACKBONES.get("slowfast_tiny")())
    assert {each.split(".")[0] for each in layers[1]} == {"slow", "fast", "lateral"}
    assert all(".res3." in each for each in layers[2])


def test_factors_fall_towards_the_input():
    model = ActionClassifier(backbone := BACKBONES.get("vit_tiny")(), _head(backbone))
    scales = layer_scales(model, 0.5)
    assert scales["backbone.blocks.3.norm1.weight"] == 0.5
    assert scales["backbone.norm.weight"] == 0.5
    assert scales["backbone.blocks.0.norm1.weight"] == 0.5**4
    assert scales["backbone.patch.weight"] == 0.5**5
    optimizer = create_optimizer(model, "adamw", lr=1.0, lr_scales=scales)
    rates = {name: group["lr"] for group in optimizer.param_groups for name in group["names"]}
    assert rates["head.projection.weight"] == 1.0
    assert rates["backbone.patch.bias"] == 0.5**5
    with pytest.raises(ValueError, match="at most 1"):
        layer_scales(model, 1.5)


def _head(backbone: nn.Module) -> PoolHead:
    return PoolHead(sum(backbone.out_channels), 4)


def test_a_frozen_backbone_keeps_its_weights_and_statistics():
    torch.manual_seed(0)
    backbone = BACKBONES.get("slow_tiny")()
    model = ActionClassifier(backbone, _head(backbone))
    freeze(model.backbone)
    freeze(model.backbone)
    assert isinstance(model.backbone, type(BACKBONES.get("slow_tiny")()))
    before = copy.deepcopy(model.backbone.state_dict())
    head = model.head.projection.weight.detach().clone()
    optimizer = create_optimizer(model, lr=0.1, weight_decay=0.1)
    model.train()
    assert model.head.training
    assert not any(module.training for module in model.backbone.modules())
    video = torch.randn(2, 3, 16, 32, 32)
    model(video).logsumexp(1).sum().backward()
    optimizer.step()
    assert precise_statistics(model, [video], model) == 0
    after = model.backbone.state_dict()
    assert all(after[key].equal(value) for key, value in before.items())
    assert not model.head.projection.weight.equal(head)
    twin = copy.deepcopy(model).train()
    assert not twin.backbone.training
