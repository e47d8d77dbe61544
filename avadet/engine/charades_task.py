"""Learning and scoring Charades: several labels per clip, the maximum over a video's views."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from avadet.data.kinetics import ClassificationBatch
from avadet.engine import distributed
from avadet.engine.clip_task import Loss
from avadet.engine.task import Task
from avadet.engine.view_scores import ViewScores, score_views
from avadet.evaluation.charades import (
    CharadesResult,
    CharadesVideo,
    classification_map,
    localization_map,
)
from avadet.evaluation.charades_io import write_scores
from avadet.models.preprocess import Preprocessing, normalize

# (video) or (video, point from 1) -> (K,)
Scores = Mapping[Any, np.ndarray]


class CharadesTask(Task):
    """Labels of clips in training, of whole videos (or of their 25 points) in test.

    Args:
        model: ``ActionClassifier`` (or anything called the same way).
        loss: (logits (B,K), labels (B,K)) -> mean; ``models.losses.LOSSES``.
        preprocessing: the model's.
        activation: how logits become scores.
        eval_batches: this process's share of the test views; iterated anew at each evaluation.
        annotated: every video of the test set; those without scores count as wrong.
        num_classes: K.
        spatial_crops: views of one stretch or point.
        localize: the views are those of the 25 points.
        scores_path: where each evaluation leaves its submission; None for nowhere.

    Attributes:
        scores_path: as given.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        loss: Loss,
        preprocessing: Preprocessing,
        activation: str = "sigmoid",
        eval_batches: Iterable[ClassificationBatch] | None = None,
        annotated: Sequence[CharadesVideo] = (),
        num_classes: int = 157,
        spatial_crops: int = 3,
        localize: bool = False,
        scores_path: str | os.PathLike[str] | None = None,
    ) -> None:
        self.model = model
        self._loss = loss
        self._preprocessing = preprocessing
        self._activation = activation
        self._eval_batches = eval_batches
        self._annotated = list(annotated)
        self._num_classes = num_classes
        self._crops = spatial_crops
        self._localize = localize
        self.scores_path = scores_path

    def loss(self, batch: ClassificationBatch) -> Tensor:
        logits = self.model(normalize(batch.video, self._preprocessing))  # (B,K)
        return self._loss(logits.float(), batch.labels)

    def describe(self, batch: ClassificationBatch) -> list[str]:
        return [f"{name} (view {view})" for name, view in zip(batch.names, batch.views)]

    def score(self, model: nn.Module) -> Scores:
        """Scores of the whole test set, the same on every process.

        Raises:
            UserError: a score is not finite.
        """
        views = score_views(
            model,
            self._eval_batches or (),
            preprocessing=self._preprocessing,
            activation=self._activation,
        )
        return strongest(views, self._crops if self._localize else None)

    def results(self, scores: Scores) -> dict[str, CharadesResult]:
        """Protocol -> result; the submission is written first (by the main process)."""
        if self.scores_path is not None and distributed.is_main():
            write_scores(Path(self.scores_path), scores)
        truth, classes = self._annotated, self._num_classes
        if self._localize:
            return {"localize": localization_map(truth, dict(scores), classes)}
        found = dict(scores)
        return {
            protocol: classification_map(truth, found, protocol, classes)
            for protocol in ("official", "pyslowfast")
        }

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        if self._eval_batches is None:
            return {}
        return metrics(self.results(self.score(model)))


def strongest(views: ViewScores, crops: int | None = None) -> dict[Any, np.ndarray]:
    """The maximum over the views of each video, or over the ``crops`` of each of its points."""
    found: dict[Any, np.ndarray] = {}
    for name, rows in views.clips():
        if crops is None:
            found[name] = views.scores[rows].max(0)
            continue
        points = views.views[rows] // crops
        for point in np.unique(points):
            found[name, int(point) + 1] = views.scores[rows][points == point].max(0)
    return found


def metrics(results: Mapping[str, CharadesResult]) -> dict[str, float]:
    """``mAP`` by the official rule, or where that is undefined by PySlowFast's; and the others.

    The official mean exists only where every class has a positive, as in the whole test set.
    """
    values: dict[str, float | None] = {}
    first = next(iter(results.values()))
    values["mAP"] = first.mAP
    if first.mAP is None and "pyslowfast" in results:
        values["mAP"] = results["pyslowfast"].mAP
    if "pyslowfast" in results:
        values["mAP_pyslowfast"] = results["pyslowfast"].mAP
    values["WAP"] = first.WAP
    return {name: float("nan") if value is None else value for name, value in values.items()}
