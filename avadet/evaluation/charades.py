"""Charades: video classification and 25-point localisation.

Facts of the official MATLAB scripts Charades_v1_classify.m and Charades_v1_localize.m, and of
PySlowFast's ``get_map`` (utils/meters.py), re-stated in numpy.

* Official classification: per class, sort by falling score (equal scores keep the order of the
  ground-truth file), average the precision at each positive over all positives; no envelope. mAP is
  the plain mean over classes, WAP the mean weighted by positives. A video without any action has
  its scores read as minus infinity, so it ranks last and never hurts: a quirk kept here.
* PySlowFast: classes without positives are left out, equal scores share one threshold (the AP of
  scikit-learn), and action-less videos rank by their scores.
* Localisation: 25 points per video at (j - 1) / 25 of its length; a point is positive for an action
  that covers it, both ends included.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from avadet.errors import UserError
from avadet.evaluation.average_precision import at_positives
from avadet.evaluation.charades_io import (
    NUM_CLASSES,
    POINTS,
    CharadesVideo,
    read_groundtruth,
    read_scores,
)
from avadet.evaluation.tables import Bools, Floats

__all__ = [
    "CharadesResult",
    "CharadesVideo",
    "classification_map",
    "grouped",
    "localization_map",
    "point_seconds",
    "read_groundtruth",
    "read_scores",
    "score_matrix",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CharadesResult:
    """Charades scores; fractions.

    Attributes:
        protocol: "official", "pyslowfast" or "localize".
        mAP: mean over classes (official: None when a class has no positive, as the mean is NaN).
        WAP: mean weighted by the positives of each class.
        per_class: class -> AP, None without positives.
        num_positives: class -> positives.
        num_items: videos, or points.
        missing: items of the ground truth without scores; they rank last.
    """

    protocol: str
    mAP: float | None
    WAP: float | None
    per_class: dict[int, float | None]
    num_positives: dict[int, int]
    num_items: int
    missing: int

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def classification_map(
    groundtruth: list[CharadesVideo],
    scores: dict[str, Floats],
    protocol: str = "official",
    num_classes: int = NUM_CLASSES,
) -> CharadesResult:
    """Video classification.

    Args:
        groundtruth: all videos; their order decides between equal scores (official).
        scores: id -> (num_classes,).
        protocol: "official" or "pyslowfast".

    Raises:
        UserError: the protocol is unknown.
    """
    if protocol not in ("official", "pyslowfast"):
        raise UserError(f"charades protocol {protocol!r} is unknown; choose official or pyslowfast")
    labels = np.zeros((len(groundtruth), num_classes), dtype=bool)
    values = np.full((len(groundtruth), num_classes), -np.inf)
    missing = 0
    for index, video in enumerate(groundtruth):
        labels[index, [action for action, _, _ in video.actions]] = True
        found = scores.get(video.name)
        missing += found is None
        if found is not None and (video.actions or protocol == "pyslowfast"):
            values[index] = found
    if missing:
        logger.warning("charades: %d of %d videos have no scores", missing, len(groundtruth))
    return score_matrix(labels, values, protocol, missing)


def point_seconds(length: float) -> Floats:
    """(25,) the moments of a video at which localisation is scored."""
    return np.arange(POINTS) / POINTS * length


def localization_map(
    groundtruth: list[CharadesVideo],
    scores: dict[tuple[str, int], Floats],
    num_classes: int = NUM_CLASSES,
) -> CharadesResult:
    """Localisation at 25 points per video.

    Args:
        groundtruth: all videos, with lengths.
        scores: (id, point from 1) -> (num_classes,).

    Raises:
        UserError: a video has no length.
    """
    labels = np.zeros((len(groundtruth) * POINTS, num_classes), dtype=bool)
    values = np.full(labels.shape, -np.inf)
    missing = 0
    for index, video in enumerate(groundtruth):
        if not np.isfinite(video.length):
            raise UserError(f"charades video {video.name}: no length, which localisation needs")
        times = point_seconds(video.length)
        rows = slice(index * POINTS, (index + 1) * POINTS)
        for action, start, end in video.actions:
            labels[rows, action] |= (start <= times) & (times <= end)
        for point in range(POINTS):
            found = scores.get((video.name, point + 1))
            missing += found is None
            if found is not None:
                values[index * POINTS + point] = found
    if missing:
        logger.warning("charades: %d of %d points have no scores", missing, len(labels))
    return score_matrix(labels, values, "localize", missing)


def score_matrix(
    labels: Bools, values: Floats, protocol: str = "official", missing: int = 0
) -> CharadesResult:
    """Scores a matrix of labels (items, classes) and scores alike."""
    positives = labels.sum(axis=0)
    averages = np.full(labels.shape[1], np.nan)
    for index in np.flatnonzero(positives):
        order = np.argsort(-values[:, index], kind="stable")
        hits = labels[order, index]
        if protocol == "pyslowfast":
            averages[index] = grouped(values[order, index], hits)
        else:
            averages[index] = at_positives(hits, int(positives[index]))
    scored = positives > 0
    every = bool(scored.all()) or protocol == "pyslowfast"
    total = int(positives.sum())
    return CharadesResult(
        protocol=protocol,
        mAP=float(averages[scored].mean()) if every and scored.any() else None,
        WAP=float((averages[scored] * positives[scored]).sum() / total) if total else None,
        per_class={i: float(a) if scored[i] else None for i, a in enumerate(averages)},
        num_positives={i: int(count) for i, count in enumerate(positives)},
        num_items=len(labels),
        missing=missing,
    )


def grouped(scores: Floats, hits: Bools) -> float:
    """AP in which equal scores share one threshold (step sum, as scikit-learn defines it).

    Args:
        scores: (N,) descending.
        hits: (N,) with at least one true.
    """
    last = np.append(scores[1:] != scores[:-1], True)
    found = np.cumsum(hits)[last]
    precision = found / (np.flatnonzero(last) + 1)
    gained = np.diff(np.concatenate([[0], found])) / found[-1]
    return float((gained * precision).sum())
