"""Compiled backbones and padded boxes in training."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from avadet.commands.tasks import compile_backbone
from avadet.engine.ava_task import AvaTask
from avadet.engine.optim import create_optimizer
from avadet.engine.train import _as_written
from avadet.errors import UserError
from avadet.models.action import ActionDetector
from avadet.models.backbones import BACKBONES
from avadet.models.heads import RoIHead
from avadet.models.preprocess import Preprocessing
from avadet.structures import Batch, Keyframe


def task(bucket: int) -> AvaTask:
    torch.manual_seed(0)
    backbone = BACKBONES.get("slow_tiny")()
    model = ActionDetector(backbone, RoIHead(backbone.out_channels, 4, dropout=0.0))
    loss = F.binary_cross_entropy_with_logits
    return AvaTask(model, loss=loss, preprocessing=Preprocessing(16, 2), box_bucket=bucket)


def batch(*counts: int) -> Batch:
    torch.manual_seed(1)
    lists = [torch.tensor([[4.0, 4.0, 40.0, 50.0]]).repeat(count, 1) for count in counts]
    return Batch(
        keyframes=[Keyframe("a", float(k)) for k in range(len(counts))],
        video=torch.randint(0, 255, (len(counts), 3, 16, 64, 64), dtype=torch.uint8),
        boxes_px=lists,
        boxes_norm=[each / 64 for each in lists],
        labels=(torch.rand(sum(counts), 4) < 0.5).float(),
        box_scores=[torch.ones(count) for count in counts],
    )


@pytest.mark.parametrize("counts", [(3, 2), (0, 1), (0, 0)])
def test_padded_boxes_give_the_same_loss(counts: tuple[int, ...]) -> None:
    plain, padded = task(1), task(16)
    a, b = plain.loss(batch(*counts)), padded.loss(batch(*counts))
    a.backward()
    b.backward()
    torch.testing.assert_close(a, b)
    for p, q in zip(plain.model.parameters(), padded.model.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-6)


def test_the_backbone_is_compiled_and_tests_run_as_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiled = []

    def backend(graph: Any, inputs: Any) -> Any:
        compiled.append(len(inputs))
        return graph.forward

    original = nn.Module.compile

    def compile_here(self: nn.Module, *args: Any, mode: Any = None, **kwargs: Any) -> None:
        asked.append(mode)
        original(self, *args, backend=backend, **kwargs)

    asked: list[Any] = []
    monkeypatch.setattr(nn.Module, "compile", compile_here)
    made = task(4)
    expected = task(4).loss(batch(2, 1))
    compile_backbone(made.model, "reduce-overhead")
    compile_backbone(made.model, True)
    assert asked == ["reduce-overhead", None]
    torch.testing.assert_close(made.loss(batch(2, 1)), expected)
    assert compiled
    keys = list(task(1).model.state_dict())
    assert list(made.model.state_dict()) == keys
    assert list(copy.deepcopy(made.model).state_dict()) == keys
    seen = len(compiled)
    made.model.eval()
    with torch.no_grad(), _as_written(made.model):
        made.model.backbone(torch.zeros(1, 3, 16, 96, 64))
    assert len(compiled) == seen


def test_only_action_networks_are_compiled() -> None:
    with pytest.raises(UserError, match=r"train\.compile"):
        compile_backbone(nn.Linear(2, 2), True)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_fused_optimisers_step_alike(name: str) -> None:
    torch.manual_seed(0)
    models = [nn.Linear(4, 3)]
    models.append(copy.deepcopy(models[0]))
    for model, fused in zip(models, (False, True), strict=True):
        optimizer = create_optimizer(model, name, lr=0.1, weight_decay=0.01, fused=fused)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(2, 4)).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(models[0].weight, models[1].weight)
