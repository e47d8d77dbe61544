"""Every recipe of Kinetics takes a step: network, loss, mixing, optimiser, on one small clip."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from avadet import build
from avadet.commands.tasks import build_optimizer
from avadet.config import load_config
from avadet.data.kinetics import ClassificationBatch
from avadet.data.label_map import LabelMap
from avadet.engine.clip_task import ClipTask
from avadet.engine.mixing import Mixing

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "configs/kinetics").glob("*.yaml"))
CLASSES = 5


@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_recipe_takes_a_step(path: Path) -> None:
    torch.manual_seed(0)
    config = load_config(path)
    classes = LabelMap.numbered(CLASSES)
    model = build.build_model(config, classes).train()
    task = ClipTask(
        model,
        loss=build.build_loss(config),
        preprocessing=model.description.preprocessing,
        mixing=Mixing(CLASSES, config.train.mixup, config.train.cutmix),
    )
    data = config.data
    # C3D's fully connected layers are made for one size.
    side = 112 if path.stem == "c3d" else 32
    batch = ClassificationBatch(
        names=["a", "b"],
        views=[0, 0],
        video=torch.randint(0, 256, (2, 3, data.num_frames, side, side), dtype=torch.uint8),
        labels=torch.tensor([1, 3]),
    )
    optimizer, schedule = build_optimizer(config, model)
    before = model.head.projection.weight.detach().clone()
    loss = task.loss(batch)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(each.grad is not None for each in model.head.parameters())
    assert 0 < schedule(1.0) <= config.train.lr
    optimizer.step()
    assert not torch.equal(model.head.projection.weight, before)
