"""Scores of all views of a test set of clips, gathered from every process."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from avadet.data.kinetics import ClassificationBatch
from avadet.engine import distributed
from avadet.engine.infer import checked
from avadet.models.heads import activate
from avadet.models.preprocess import Preprocessing, normalize


@dataclass(frozen=True)
class ViewScores:
    """One row per view, sorted by clip and view; each view once, whoever saw it.

    Attributes:
        names: M clips.
        views: (M,) int64.
        scores: (M,K) float32.
        labels: (M,) or (M,K), as the batches had them.
    """

    names: list[str]
    views: np.ndarray
    scores: np.ndarray
    labels: np.ndarray

    def clips(self) -> Iterator[tuple[str, slice]]:
        """(clip, its rows) in order."""
        start = 0
        for place in range(1, len(self.names) + 1):
            if place == len(self.names) or self.names[place] != self.names[start]:
                yield self.names[start], slice(start, place)
                start = place


@torch.no_grad()
def score_views(
    model: nn.Module,
    batches: Iterable[ClassificationBatch],
    *,
    preprocessing: Preprocessing,
    activation: str,
) -> ViewScores:
    """Scores of the whole test set, the same on every process.

    Args:
        model: ``ActionClassifier`` (or anything called the same way); put into eval mode.
        batches: this process's share.

    Raises:
        UserError: a score is not finite.
    """
    model.eval()
    device = next(model.parameters()).device
    rows: list[tuple[str, int]] = []
    scores: list[Tensor] = []
    labels: list[Tensor] = []
    shown = tqdm(
        batches,
        desc="scoring",
        unit="batch",
        disable=None if distributed.is_main() else True,
        leave=False,
    )
    for batch in shown:
        video = normalize(batch.video.to(device, non_blocking=True), preprocessing)
        if hasattr(model, "probabilities"):
            found = model.probabilities(video, activation)
        else:
            found = activate(model(video), activation)
        names = [f"{name} (view {view})" for name, view in zip(batch.names, batch.views)]
        scores.append(checked(found.float().cpu(), names))
        labels.append(batch.labels.cpu())
        rows += list(zip(batch.names, batch.views))
    return _gather(rows, scores, labels)


def _gather(rows: list[tuple[str, int]], scores: list[Tensor], labels: list[Tensor]) -> ViewScores:
    mine = {"rows": torch.frombuffer(bytearray(json.dumps(rows).encode()), dtype=torch.uint8)}
    if rows:
        mine |= {"scores": torch.cat(scores), "labels": torch.cat(labels)}
    # A view that two processes saw, to even out their number, counts once: the lowest rank's.
    views: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]] = {}
    for part in distributed.gather_tensors(mine):
        for place, (name, view) in enumerate(json.loads(part["rows"].numpy().tobytes())):
            found = part["scores"][place].numpy(), part["labels"][place].numpy()
            views.setdefault((name, view), found)
    keys = sorted(views)
    return ViewScores(
        names=[name for name, _ in keys],
        views=np.asarray([view for _, view in keys], np.int64),
        scores=np.stack([views[key][0] for key in keys]) if keys else np.zeros((0, 0), np.float32),
        labels=np.stack([views[key][1] for key in keys]) if keys else np.zeros(0, np.int64),
    )
