"""Charades' task: how views combine, what is reported; every config takes a step."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from avadet import build
from avadet.commands.tasks import build_optimizer, charades_task
from avadet.config import load_config
from avadet.data.kinetics import ClassificationBatch
from avadet.data.label_map import LabelMap
from avadet.engine import norm
from avadet.engine.charades_task import CharadesTask, metrics, strongest
from avadet.engine.view_scores import ViewScores
from avadet.evaluation.charades_io import CharadesVideo, read_scores
from avadet.models.losses import bce_loss
from avadet.models.preprocess import Preprocessing

CONFIGS = sorted((Path(__file__).parents[2] / "configs/charades").glob("*.yaml"))


def views(rows: list[tuple[str, int, list[float]]]) -> ViewScores:
    return ViewScores(
        names=[name for name, _, _ in rows],
        views=np.asarray([view for _, view, _ in rows]),
        scores=np.asarray([scores for _, _, scores in rows], np.float32),
        labels=np.zeros((len(rows), 2), np.float32),
    )


def test_the_strongest_view_counts() -> None:
    found = views([("a", 0, [0.1, 0.9]), ("a", 1, [0.5, 0.2]), ("b", 0, [0.3, 0.3])])
    assert {key: value.tolist() for key, value in strongest(found).items()} == {
        "a": [0.5, np.float32(0.9)],
        "b": [np.float32(0.3)] * 2,
    }
    # Points of two crops each: views 0, 1 are point 1; views 2, 3 are point 2.
    found = views([("a", v, [v / 8, -v / 8]) for v in range(4)])
    assert {key: value.tolist() for key, value in strongest(found, 2).items()} == {
        ("a", 1): [0.125, 0.0],
        ("a", 2): [0.375, -0.25],
    }


class Brightness(nn.Module):
    """Logits that are the mean of the clip, and its negative."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        mean = video.mean((1, 2, 3, 4))[:, None] * self.scale
        return torch.cat([mean, -mean], 1)


def test_scores_are_written_and_scored(tmp_path: Path) -> None:
    shades = {"a": (200, 30), "b": (90, 100), "gone": ()}
    batches = [
        ClassificationBatch(
            [name], [view], torch.full((1, 3, 2, 4, 4), shade, dtype=torch.uint8), torch.zeros(1, 2)
        )
        for name, each in shades.items()
        for view, shade in enumerate(each)
    ]
    annotated = [
        CharadesVideo("gone", 3.0, ((1, 0.0, 1.0),)),
        CharadesVideo("a", 3.0, ((0, 0.0, 1.0),)),
        CharadesVideo("b", 3.0, ((1, 0.0, 1.0), (0, 0.0, 1.0))),
    ]
    task = CharadesTask(
        Brightness(),
        loss=bce_loss,
        preprocessing=Preprocessing(2, 1),
        eval_batches=batches,
        annotated=annotated,
        num_classes=2,
        scores_path=tmp_path / "scores.txt",
    )
    values = task.evaluate(task.model)
    # Class 0: a, b. Class 1 (dark): a's second view is the darkest, then b, and the missing last.
    assert values["mAP"] == pytest.approx((1 + (1 / 2 + 2 / 3) / 2) / 2)
    assert values["mAP_pyslowfast"] == values["mAP"]
    assert values["WAP"] == pytest.approx((2 * 1 + 2 * (1 / 2 + 2 / 3) / 2) / 4)
    written = read_scores(tmp_path / "scores.txt", 2)
    found = task.score(task.model)
    assert list(written) == ["a", "b"]
    assert all((written[name].astype(np.float32) == found[name]).all() for name in written)
    # A class without a positive: the official mean is undefined, PySlowFast's leaves it out.
    task._annotated = annotated[1:2]
    assert task.evaluate(task.model)["mAP"] == 1.0
    task._annotated = [CharadesVideo("a", 3.0, ())]
    assert math.isnan(task.evaluate(task.model)["mAP"])
    assert metrics({"localize": task.results(found)["official"]}).keys() == {"mAP", "WAP"}


@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_takes_a_step(path: Path) -> None:
    """On two random clips of a quarter of the frames and of 64 pixels."""
    config = load_config(path, ["data.classes=", "model.init={source: none}"])
    classes = build.read_classes(config)
    assert isinstance(classes, LabelMap)
    torch.manual_seed(0)
    task = charades_task(config, build.build_model(config, classes), classes, tested=False)
    cycles = build.build_multigrid(config)
    assert (cycles is not None) == path.stem.endswith("multigrid")
    assert cycles is None or config.model.norm == "sub_batch"
    task.model = norm.prepare(task.model, config.model.norm, torch.device("cpu"), 1)
    task.model.train()
    optimizer, schedule = build_optimizer(config, task.model)
    assert schedule(20.0) == pytest.approx(config.train.lr * (1 if cycles is None else 8))
    frames = config.data.num_frames // 4
    video = torch.randint(0, 256, (2, 3, frames, 64, 64), dtype=torch.uint8)
    labels = (torch.rand(2, 157) < 0.05).float()
    before = [value.detach().clone() for value in task.model.parameters()]
    loss = task.loss(ClassificationBatch(["a", "b"], [0, 0], video, labels))
    loss.backward()
    optimizer.step()
    assert math.isfinite(loss.item())
    assert 0.5 < loss.item() < 0.9  # near log 2 at the start
    moved = [not torch.equal(a, b) for a, b in zip(before, task.model.parameters())]
    assert sum(moved) > len(moved) / 2
