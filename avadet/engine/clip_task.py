"""Learning and scoring what happens in a clip as a whole: Kinetics and data sets like it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from avadet.data.kinetics import ClassificationBatch
from avadet.engine.mixing import Mixing
from avadet.engine.task import Task
from avadet.engine.view_scores import ViewScores, score_views
from avadet.models.preprocess import Preprocessing, normalize

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class ClipScores:
    """Results of a test set, one row per clip, sorted by name.

    Attributes:
        names: N clips.
        labels: (N,) int64.
        scores: (N,K) float64, the mean of the probabilities of the clip's views.
        views: (N,) int64, how many there were.
    """

    names: list[str]
    labels: np.ndarray
    scores: np.ndarray
    views: np.ndarray


class ClipTask(Task):
    """One label per clip.

    At test time each clip is seen in several views (10 stretches x 3 crops as published); their
    probabilities are averaged.

    Args:
        model: ``ActionClassifier`` (or anything called the same way).
        loss: (logits (B,K), labels (B,)) -> mean; ``models.losses.LOSSES``.
        preprocessing: the model's.
        activation: how logits become scores.
        eval_batches: this process's share of the test views; iterated anew at each evaluation.
        mixing: mixes training clips and their labels; None leaves them alone.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        loss: Loss,
        preprocessing: Preprocessing,
        activation: str = "softmax",
        eval_batches: Iterable[ClassificationBatch] | None = None,
        mixing: Mixing | None = None,
    ) -> None:
        self.model = model
        self._mixing = mixing
        self._loss = loss
        self._preprocessing = preprocessing
        self._activation = activation
        self._eval_batches = eval_batches

    def loss(self, batch: ClassificationBatch) -> Tensor:
        video, labels = normalize(batch.video, self._preprocessing), batch.labels
        if self._mixing is not None and self.model.training:
            video, labels = self._mixing(video, labels)
        logits = self.model(video)  # (B,K)
        return self._loss(logits.float(), labels)

    def describe(self, batch: ClassificationBatch) -> list[str]:
        return [f"{name} (view {view})" for name, view in zip(batch.names, batch.views)]

    def score(self, model: nn.Module) -> ClipScores:
        """Scores of the whole test set, the same on every process.

        Raises:
            UserError: a score is not finite.
        """
        return _average(
            score_views(
                model,
                self._eval_batches or (),
                preprocessing=self._preprocessing,
                activation=self._activation,
            )
        )

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        if self._eval_batches is None:
            return {}
        return top_accuracy(self.score(model))


def _average(views: ViewScores) -> ClipScores:
    """The mean over each clip's views, added in their order."""
    parts = list(views.clips())
    scores = [views.scores[rows].astype(np.float64).sum(0) for _, rows in parts]
    number = np.asarray([rows.stop - rows.start for _, rows in parts], np.int64)
    total = np.stack(scores) if scores else np.zeros((0, 0))
    labels = np.asarray([views.labels[rows.start] for _, rows in parts], np.int64)
    return ClipScores([name for name, _ in parts], labels, total / number[:, None], number)


def top_accuracy(results: ClipScores) -> dict[str, float]:
    """Share of clips whose label is the first, or among the first five, by score.

    Equal scores rank by class index, so that the result does not depend on a sort's whim.
    """
    if not results.names:
        return {"top1": float("nan")}
    own = results.scores[np.arange(len(results.labels)), results.labels][:, None]
    before = np.arange(results.scores.shape[1])[None] < results.labels[:, None]
    rank = ((results.scores > own) | ((results.scores == own) & before)).sum(1)
    metrics = {"top1": float((rank < 1).mean())}
    if results.scores.shape[1] > 5:
        metrics["top5"] = float((rank < 5).mean())
    return metrics
