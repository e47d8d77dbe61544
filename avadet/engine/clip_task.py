"""Learning and scoring what happens in a clip as a whole: Kinetics and data sets like it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from avadet.data.kinetics import ClassificationBatch
from avadet.engine import distributed
from avadet.engine.infer import checked
from avadet.engine.task import Task
from avadet.models.heads import activate
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
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        loss: Loss,
        preprocessing: Preprocessing,
        activation: str = "softmax",
        eval_batches: Iterable[ClassificationBatch] | None = None,
    ) -> None:
        self.model = model
        self._loss = loss
        self._preprocessing = preprocessing
        self._activation = activation
        self._eval_batches = eval_batches

    def loss(self, batch: ClassificationBatch) -> Tensor:
        logits = self.model(normalize(batch.video, self._preprocessing))  # (B,K)
        return self._loss(logits.float(), batch.labels)

    def describe(self, batch: ClassificationBatch) -> list[str]:
        return [f"{name} (view {view})" for name, view in zip(batch.names, batch.views)]

    @torch.no_grad()
    def score(self, model: nn.Module) -> ClipScores:
        """Scores of the whole test set, the same on every process.

        Raises:
            UserError: a score is not finite.
        """
        model.eval()
        device = next(model.parameters()).device
        rows: list[tuple[str, int, int]] = []
        parts: list[Tensor] = []
        shown = tqdm(
            self._eval_batches or (),
            desc="scoring",
            unit="batch",
            disable=None if distributed.is_main() else True,
            leave=False,
        )
        for batch in shown:
            video = normalize(batch.video.to(device, non_blocking=True), self._preprocessing)
            if hasattr(model, "probabilities"):
                scores = model.probabilities(video, self._activation)
            else:
                scores = activate(model(video), self._activation)
            parts.append(checked(scores.cpu(), self.describe(batch)))
            rows += list(zip(batch.names, batch.views, batch.labels.tolist()))
        return _gather(rows, torch.cat(parts) if parts else torch.zeros(0, 0))

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        if self._eval_batches is None:
            return {}
        return top_accuracy(self.score(model))


def _gather(rows: list[tuple[str, int, int]], scores: Tensor) -> ClipScores:
    text = torch.frombuffer(bytearray(json.dumps(rows).encode()), dtype=torch.uint8)
    # A view that two processes saw, to even out their number, counts once; the order of summation
    # is that of the views, whoever saw them.
    views: dict[tuple[str, int], tuple[int, np.ndarray]] = {}
    for part in distributed.gather_tensors({"rows": text, "scores": scores.float()}):
        for (name, view, label), row in zip(
            json.loads(part["rows"].numpy().tobytes()), part["scores"].numpy()
        ):
            views.setdefault((name, view), (label, row))
    names: list[str] = []
    labels: list[int] = []
    sums: list[np.ndarray] = []
    counts: list[int] = []
    for (name, _), (label, row) in sorted(views.items(), key=lambda item: item[0]):
        if not names or names[-1] != name:
            names.append(name)
            labels.append(label)
            sums.append(np.zeros(len(row), np.float64))
            counts.append(0)
        sums[-1] += row
        counts[-1] += 1
    number = np.asarray(counts, np.int64)
    total = np.stack(sums) if sums else np.zeros((0, 0))
    return ClipScores(names, np.asarray(labels, np.int64), total / number[:, None], number)


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
