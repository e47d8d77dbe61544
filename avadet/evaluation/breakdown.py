"""Where a run is good and where not: by box size, persons per frame and class frequency; which
actions are taken for which; and which keyframes are worst."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avadet.evaluation.average_precision import interpolated, precision_recall, rank
from avadet.evaluation.error_kinds import DETECTION_KINDS, ErrorKinds
from avadet.evaluation.scored import ScoredRows
from avadet.evaluation.tables import Bools, Floats, Ints


@dataclass(frozen=True)
class Slice:
    """One part of the ground truth.

    Attributes:
        name: what it is.
        mAP: of that part, None without ground truth.
        num_gt: ground-truth rows in it.
        num_classes: classes with ground truth in it.
    """

    name: str
    mAP: float | None
    num_gt: int
    num_classes: int


@dataclass(frozen=True)
class Curve:
    """Precision over recall of one class.

    Attributes:
        recall, precision: (P,), thinned to at most ``points`` places.
        threshold: score of the best F1.
        best_f1: that F1.
    """

    recall: Floats
    precision: Floats
    threshold: float
    best_f1: float


@dataclass(frozen=True)
class Confusion:
    """People who do ``actual`` and are said to do ``said``, which they do not.

    Attributes:
        actual, said: class ids.
        count: at the best-F1 threshold of ``said``.
        share: of all ground truth of ``actual``.
    """

    actual: int
    said: int
    count: int
    share: float


@dataclass(frozen=True)
class WorstFrame:
    """A keyframe with many errors.

    Attributes:
        video, second: which.
        misses: ground-truth rows (indices into M) that nothing matches at the thresholds.
        false_alarms: detection rows (indices into D) above their threshold that are wrong.
        groundtruth, detections: all rows of the frame, detections above their threshold.
    """

    video: str
    second: float
    misses: list[int]
    false_alarms: list[int]
    groundtruth: list[int]
    detections: list[int]


def _mean_ap(rows: ScoredRows, det: Bools, gt: Bools) -> tuple[float | None, int]:
    keys = rows.frames.tie_keys(rows.det_frame)
    values = []
    for index in np.unique(rows.gt_label[gt]):
        chosen = np.flatnonzero(det & (rows.det_label == index))
        ranking = rank(rows.det_score[chosen], rows.hit[chosen], keys[chosen])
        values.append(interpolated(ranking.hits, int((rows.gt_label[gt] == index).sum())))
    return (float(np.mean(values)) if values else None), len(values)


def _slices(rows: ScoredRows, names: list[str], det: Ints, gt: Ints) -> list[Slice]:
    result = []
    for index, name in enumerate(names):
        inside = gt == index
        value, classes = _mean_ap(rows, det == index, inside)
        result.append(Slice(name, value, int(inside.sum()), classes))
    return result


def by_size(rows: ScoredRows) -> list[Slice]:
    """By height of the person box, in thirds of the ground truth.

    Ground truth counts by its own height, a true positive by that of its ground truth, a false
    positive by its own.
    """
    if not len(rows.gt_rows):
        return []
    heights = rows.gt_boxes[:, 3] - rows.gt_boxes[:, 1]
    low, high = np.percentile(heights, [100 / 3, 200 / 3])
    det_heights = rows.det_boxes[:, 3] - rows.det_boxes[:, 1]
    det_heights[rows.hit] = heights[rows.overlaps.best[rows.hit]]
    edges = np.array([low, high])
    names = [f"small (height up to {low:.2g})", f"medium (up to {high:.2g})", "large"]
    return _slices(
        rows,
        names,
        np.searchsorted(edges, det_heights, side="left"),
        np.searchsorted(edges, heights, side="left"),
    )


def persons_per_frame(rows: ScoredRows) -> tuple[Ints, Ints]:
    """Frames with ground truth (F,) and the distinct person boxes in each."""
    if not len(rows.gt_rows):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    distinct = np.unique(np.column_stack([rows.gt_frame, rows.gt_boxes]), axis=0)
    frames, counts = np.unique(distinct[:, 0].astype(np.int64), return_counts=True)
    return frames, counts


def by_persons(rows: ScoredRows) -> list[Slice]:
    """By the number of annotated persons in the keyframe: 1, 2, 3, 4 and more."""
    frames, counts = persons_per_frame(rows)
    if not len(frames):
        return []

    def group(ids: Ints) -> Ints:
        place = np.minimum(np.searchsorted(frames, ids), len(frames) - 1)
        known = frames[place] == ids
        return np.where(known, np.minimum(counts[place], 4) - 1, -1)

    names = ["1 person", "2 persons", "3 persons", "4 or more"]
    return _slices(rows, names, group(rows.det_frame), group(rows.gt_frame))


def by_frequency(rows: ScoredRows, averages: dict[int, float | None]) -> list[Slice]:
    """By ground-truth rows per class: rare (under 100), medium (under 1000), common."""
    num_gt = np.bincount(rows.gt_label, minlength=len(rows.class_ids))
    result = []
    for name, low, high in (
        ("rare classes (under 100)", 1, 100),
        ("medium classes (100 to 999)", 100, 1000),
        ("common classes (1000 and more)", 1000, 1 << 62),
    ):
        inside = np.flatnonzero((num_gt >= low) & (num_gt < high))
        values = [averages[int(rows.class_ids[i])] for i in inside]
        known = [value for value in values if value is not None]
        mean = float(np.mean(known)) if known else None
        result.append(Slice(name, mean, int(num_gt[inside].sum()), len(inside)))
    return result


def curves(rows: ScoredRows, points: int = 120) -> dict[int, Curve]:
    """Precision-recall curves of the classes with ground truth and detections, by class id."""
    keys = rows.frames.tie_keys(rows.det_frame)
    num_gt = np.bincount(rows.gt_label, minlength=len(rows.class_ids))
    result = {}
    for index in np.flatnonzero(num_gt):
        chosen = np.flatnonzero(rows.det_label == index)
        if not len(chosen):
            continue
        ranking = rank(rows.det_score[chosen], rows.hit[chosen], keys[chosen])
        precision, recall = precision_recall(ranking.hits, int(num_gt[index]))
        total = precision + recall
        f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
        best = int(np.argmax(f1))
        # Even steps of recall tell more than even steps of rank.
        wanted = np.linspace(0, recall[-1], points)
        places = np.unique(np.minimum(np.searchsorted(recall, wanted), len(recall) - 1))
        threshold = float(ranking.scores[best]) if f1[best] > 0 else float("inf")
        result[int(rows.class_ids[index])] = Curve(
            recall[places], precision[places], threshold, float(f1[best])
        )
    return result


def _above(rows: ScoredRows, lines: dict[int, Curve]) -> Bools:
    limits = np.full(len(rows.class_ids), np.inf)
    for index, class_id in enumerate(rows.class_ids):
        if int(class_id) in lines:
            limits[index] = lines[int(class_id)].threshold
    return np.asarray(rows.det_score >= limits[rows.det_label])


def confusions(
    rows: ScoredRows, errors: ErrorKinds, lines: dict[int, Curve], most: int = 15
) -> list[Confusion]:
    """Which actions of a person go with which wrong ones, most frequent first.

    Args:
        rows: of an evaluation.
        errors: of :func:`avadet.evaluation.error_kinds.find_errors`.
        lines: of :func:`curves`; their best-F1 thresholds decide what is said at all.
        most: pairs returned.
    """
    wrong = errors.det_kind == DETECTION_KINDS.index("wrong action")
    said = np.flatnonzero(wrong & _above(rows, lines) & (errors.person >= 0))
    if not len(said):
        return []
    # All rows of one person share frame and box.
    packed = np.column_stack([rows.gt_frame, rows.gt_boxes])
    _, person = np.unique(packed, axis=0, return_inverse=True)
    person = person.reshape(-1)
    order = np.argsort(person, kind="stable")
    starts = np.searchsorted(person[order], np.arange(person.max() + 2))
    owner = person[errors.person[said]]
    sizes = starts[owner + 1] - starts[owner]
    ends = np.cumsum(sizes)
    inside = np.repeat(starts[owner] - (ends - sizes), sizes) + np.arange(int(ends[-1]))
    actual = rows.gt_label[order[inside]]
    pairs = actual * len(rows.class_ids) + np.repeat(rows.det_label[said], sizes)
    distinct, counts = np.unique(pairs, return_counts=True)
    num_gt = np.bincount(rows.gt_label, minlength=len(rows.class_ids))
    result = []
    for place in np.argsort(-counts, kind="stable")[:most]:
        true, false = divmod(int(distinct[place]), len(rows.class_ids))
        count = int(counts[place])
        result.append(
            Confusion(
                int(rows.class_ids[true]),
                int(rows.class_ids[false]),
                count,
                float(count / num_gt[true]),
            )
        )
    return result


def worst_frames(rows: ScoredRows, lines: dict[int, Curve], most: int = 12) -> list[WorstFrame]:
    """The keyframes with most errors at the best-F1 thresholds, no two within 5 s of a movie."""
    said = _above(rows, lines)
    false_alarm = said & ~rows.hit
    matched = np.zeros(len(rows.gt_rows), dtype=bool)
    matched[rows.overlaps.best[rows.hit & said]] = True
    frames = np.concatenate([rows.det_frame[false_alarm], rows.gt_frame[~matched]])
    distinct, counts = np.unique(frames, return_counts=True)
    chosen: list[WorstFrame] = []
    for place in np.argsort(-counts, kind="stable"):
        video, second = rows.frames.name(int(distinct[place]))
        if any(f.video == video and abs(f.second - second) < 5 for f in chosen):
            continue
        in_det = rows.det_frame == distinct[place]
        in_gt = rows.gt_frame == distinct[place]
        chosen.append(
            WorstFrame(
                video,
                second,
                np.flatnonzero(in_gt & ~matched).tolist(),
                np.flatnonzero(in_det & false_alarm).tolist(),
                np.flatnonzero(in_gt).tolist(),
                np.flatnonzero(in_det & said).tolist(),
            )
        )
        if len(chosen) == most:
            break
    return chosen
