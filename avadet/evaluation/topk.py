"""Kinetics: top-k accuracy of videos seen in several views.

As PySlowFast's TestMeter does it: clip i of a video set belongs to video i // views, the scores of
a video's clips are summed (softmax outputs, float32) or their maximum is taken, and a video counts
as right at k if its label is among the k best. Where scores are equal the lower class wins.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from avadet.errors import UserError
from avadet.evaluation.csv_rows import open_text

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TopK:
    """Accuracy of video classification.

    Attributes:
        accuracy: k -> fraction of videos whose label is among the k best.
        mean_class_accuracy: top-1 averaged over the classes that occur.
        num_videos: videos scored.
        num_views: most views of one video.
        incomplete: videos with fewer views than that.
    """

    accuracy: dict[int, float]
    mean_class_accuracy: float
    num_videos: int
    num_views: int
    incomplete: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


class ViewScores:
    """Sums up (or takes the maximum of) the views of each video as they arrive in any order."""

    def __init__(self, num_videos: int, num_classes: int, method: str = "sum") -> None:
        if method not in ("sum", "max"):
            raise UserError(f"views are combined by 'sum' or 'max', not {method!r}")
        self._method = method
        start = 0.0 if method == "sum" else -np.inf
        self.scores: NDArray[np.float32] = np.full((num_videos, num_classes), start, np.float32)
        self.labels = np.full(num_videos, -1, dtype=np.int64)
        self.views = np.zeros(num_videos, dtype=np.int64)

    def add(self, video: int, label: int, scores: ArrayLike) -> None:
        """Adds one view (num_classes,) of a video.

        Raises:
            UserError: the video came with another label before.
        """
        if self.labels[video] not in (-1, label):
            raise UserError(
                f"video {video}: label {label} in one view, {int(self.labels[video])} in another"
            )
        self.labels[video] = label
        self.views[video] += 1
        values = np.asarray(scores, dtype=np.float32)
        if self._method == "sum":
            self.scores[video] += values
        else:
            self.scores[video] = np.maximum(self.scores[video], values)

    def result(self, ks: Sequence[int] = (1, 5)) -> TopK:
        """Accuracy over the videos that have at least one view."""
        seen = self.views > 0
        if not seen.all():
            logger.warning("%d of %d videos have no view; left out", (~seen).sum(), len(seen))
        views = int(self.views.max()) if len(self.views) else 0
        return topk(self.scores[seen], self.labels[seen], ks, views, self.views[seen])


def topk(
    scores: ArrayLike,
    labels: ArrayLike,
    ks: Sequence[int] = (1, 5),
    num_views: int = 1,
    views: ArrayLike | None = None,
) -> TopK:
    """Top-k accuracy.

    Args:
        scores: (videos, classes).
        labels: (videos,) class indices.
        ks: which k.
        num_views: views per video, for the record.
        views: (videos,) views that were there.

    Raises:
        UserError: there is no video, a label is no class, or shapes differ.
    """
    values, truth = np.asarray(scores), np.asarray(labels, dtype=np.int64)
    if values.ndim != 2 or len(values) != len(truth) or not len(truth):
        raise UserError(f"top-k: {values.shape} scores for {len(truth)} labels")
    if truth.min() < 0 or truth.max() >= values.shape[1]:
        raise UserError(f"top-k: a label lies outside 0..{values.shape[1] - 1}")
    if np.isnan(values).any():
        raise UserError(f"top-k: {int(np.isnan(values).any(axis=1).sum())} videos have nan scores")
    own = values[np.arange(len(truth)), truth][:, None]
    classes = np.arange(values.shape[1])
    # Place of the label: classes above it, and equal ones with a lower index.
    place = ((values > own) | ((values == own) & (classes < truth[:, None]))).sum(axis=1)
    per_class = [float((place[truth == c] == 0).mean()) for c in np.unique(truth)]
    counts = np.full(len(truth), num_views) if views is None else np.asarray(views)
    return TopK(
        accuracy={k: float((place < k).mean()) for k in ks},
        mean_class_accuracy=float(np.mean(per_class)),
        num_videos=len(truth),
        num_views=num_views,
        incomplete=int((counts < num_views).sum()),
    )


def topk_file(path: str | Path, ks: Sequence[int] = (1, 5), method: str = "sum") -> TopK:
    """Scores a CSV file of views: rows ``video,label,score,score,...``.

    Raises:
        UserError: a malformed row, with file and line.
    """
    path = Path(path)
    rows: list[tuple[str, int, list[float]]] = []
    with open_text(path) as stream:
        for number, row in enumerate(csv.reader(stream), start=1):
            try:
                rows.append((row[0], int(row[1]), [float(value) for value in row[2:]]))
            except (ValueError, IndexError):
                raise UserError(
                    f"{path}:{number}: a row is video,label,score,score,... with a label from 0"
                ) from None
            if len(rows[-1][2]) != len(rows[0][2]) or not rows[-1][2]:
                raise UserError(
                    f"{path}:{number}: {len(rows[-1][2])} scores, {len(rows[0][2])} in line 1"
                )
    names = {name: index for index, name in enumerate(dict.fromkeys(row[0] for row in rows))}
    if not rows:
        raise UserError(f"{path}: no row in the file")
    views = ViewScores(len(names), len(rows[0][2]), method)
    for name, label, scores in rows:
        views.add(names[name], label, scores)
    return views.result(ks)
