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

import csv
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avadet.errors import UserError
from avadet.evaluation.average_precision import at_positives
from avadet.evaluation.csv_rows import open_text
from avadet.evaluation.tables import Bools, Floats

logger = logging.getLogger(__name__)

NUM_CLASSES = 157
POINTS = 25


@dataclass(frozen=True)
class CharadesVideo:
    """One video of the ground truth.

    Attributes:
        name: video id.
        length: seconds.
        actions: (class, start, end) in seconds.
    """

    name: str
    length: float
    actions: tuple[tuple[int, float, float], ...]


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


def read_groundtruth(path: str | Path, num_classes: int = NUM_CLASSES) -> list[CharadesVideo]:
    """Reads Charades_v1_test.csv or _train.csv (columns id, actions, length are used).

    Raises:
        UserError: a column is missing or an action is malformed; with file and line.
    """
    path = Path(path)
    videos = []
    with open_text(path) as stream:
        reader = csv.DictReader(stream)
        missing = {"id", "actions"} - set(reader.fieldnames or ())
        if missing:
            raise UserError(
                f"{path}:1: no column {sorted(missing)[0]!r}; Charades files start with a header"
            )
        for row in reader:
            where = f"{path}:{reader.line_num}"
            try:
                length = float(row.get("length") or "nan")
                actions = []
                for text in filter(None, (row["actions"] or "").split(";")):
                    name, start, end = text.split(" ")
                    if not name.startswith("c"):
                        raise ValueError(text)
                    actions.append((int(name[1:]), float(start), float(end)))
            except ValueError:
                raise UserError(
                    f"{where}: actions must look like 'c092 11.90 21.20;c147 0.00 12.60'"
                ) from None
            if any(not 0 <= action < num_classes for action, _, _ in actions):
                raise UserError(f"{where}: an action lies outside c000..c{num_classes - 1:03d}")
            videos.append(CharadesVideo(row["id"], length, tuple(actions)))
    if not videos:
        raise UserError(f"{path}: no video in the file")
    return videos


def read_scores(
    path: str | Path, num_classes: int = NUM_CLASSES, localize: bool = False
) -> dict[str, Floats] | dict[tuple[str, int], Floats]:
    """Reads a submission: ``id [point] score score ...``, separated by blanks or tabs.

    Returns:
        id -> (num_classes,), or with ``localize`` (id, point) -> (num_classes,), points from 1.

    Raises:
        UserError: a line has another number of scores, or something that is no number.
    """
    path = Path(path)
    head = 2 if localize else 1
    scores: dict[Any, Floats] = {}
    points = []
    with open_text(path) as stream:
        for number, line in enumerate(stream, start=1):
            parts = line.split()
            if not parts:
                continue
            if len(parts) != head + num_classes:
                raise UserError(
                    f"{path}:{number}: {len(parts) - head} scores instead of {num_classes}; a line "
                    f"is the video id{', the point (1..25)' if localize else ''} and the scores"
                )
            try:
                values = np.array(parts[head:], dtype=np.float64)
                point = int(parts[1]) if localize else 0
            except ValueError:
                raise UserError(f"{path}:{number}: a score is no number") from None
            if np.isnan(values).any():
                raise UserError(f"{path}:{number}: a score is not a number (nan)")
            points.append(point)
            scores[(parts[0], point) if localize else parts[0]] = values
    if localize and points and min(points) == 0:
        logger.warning("%s: points are counted from 0; shifted by one", path)
        scores = {(name, point + 1): values for (name, point), values in scores.items()}
    return scores


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
        times = np.arange(POINTS) / POINTS * video.length
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
