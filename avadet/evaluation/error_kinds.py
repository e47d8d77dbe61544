"""What kinds of error cost how much mAP, in the manner of TIDE (Bolya et al., ECCV 2020).

AVA is multi-label, so an error is told per (box, action). A false positive is, in this order,

* ``duplicate``: it overlaps a box of its action, which a better detection has taken;
* ``wrong action``: it overlaps a person (IoU at least 0.5) who does not do its action;
* ``wrong box``: it overlaps a person by 0.1 to 0.5;
* ``background``: it overlaps nobody.

A ground-truth action without a match is a ``missed person`` when no detection overlaps its box by
0.5 whatever the action, and a ``missed action`` otherwise. The cost of a kind is the mAP gained if
it alone were mended: false positives are taken away (a wrong box moves onto its person if that
action is still free there), misses are taken out of the ground truth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avadet.evaluation.average_precision import interpolated, rank
from avadet.evaluation.matching import IOU_THRESHOLD, best_overlaps
from avadet.evaluation.scored import ScoredRows
from avadet.evaluation.tables import Bools, Floats, Ints

BACKGROUND_IOU = 0.1
DETECTION_KINDS = ("duplicate", "wrong action", "wrong box", "background")
MISS_KINDS = ("missed person", "missed action")


@dataclass(frozen=True)
class ErrorKinds:
    """Errors of one run.

    Attributes:
        det_kind: (D,) index into ``DETECTION_KINDS``, -1 for true positives.
        gt_kind: (M,) index into ``MISS_KINDS``, -1 for matched ground truth.
        person: (D,) ground-truth row of the person a detection overlaps by 0.5; -1 for none.
        counts: kind -> errors.
        cost: kind -> mAP gained if it alone were mended (fraction).
        class_cost: kind -> (K,) AP gained per class, NaN without ground truth.
    """

    det_kind: Ints
    gt_kind: Ints
    person: Ints
    counts: dict[str, int]
    cost: dict[str, float]
    class_cost: dict[str, Floats]


def matched_groundtruth(rows: ScoredRows) -> Bools:
    """Which ground-truth rows (M,) have a true positive."""
    matched = np.zeros(len(rows.gt_rows), dtype=bool)
    matched[rows.overlaps.best[rows.hit]] = True
    return matched


def find_errors(rows: ScoredRows) -> ErrorKinds:
    """Sorts the errors of a run into kinds and works out what each costs."""
    persons = best_overlaps(rows.gt_frame, rows.gt_boxes, rows.det_frame, rows.det_boxes)
    on_person = persons.iou >= IOU_THRESHOLD
    own = rows.overlaps.iou >= IOU_THRESHOLD
    kind = np.full(len(rows.det_rows), DETECTION_KINDS.index("background"))
    kind[persons.iou >= BACKGROUND_IOU] = DETECTION_KINDS.index("wrong box")
    kind[on_person] = DETECTION_KINDS.index("wrong action")
    kind[own] = DETECTION_KINDS.index("duplicate")
    kind[rows.hit] = -1

    matched = matched_groundtruth(rows)
    gt_kind = np.full(len(matched), -1)
    gt_kind[~matched] = np.where(
        _seen_persons(rows)[~matched],
        MISS_KINDS.index("missed action"),
        MISS_KINDS.index("missed person"),
    )
    counts = {name: int((kind == i).sum()) for i, name in enumerate(DETECTION_KINDS)}
    counts |= {name: int((gt_kind == i).sum()) for i, name in enumerate(MISS_KINDS)}
    base = _averages(rows, rows.hit, np.ones(len(kind), dtype=bool), gt_kind >= -1)
    class_cost = {}
    for index, name in enumerate(DETECTION_KINDS):
        wrong = kind == index
        hit, keep = rows.hit, ~wrong
        if name == "wrong box":
            moved = _movable(rows, wrong, matched)
            hit, keep = rows.hit | moved, ~wrong | moved
        class_cost[name] = _averages(rows, hit, keep, gt_kind >= -1) - base
    for index, name in enumerate(MISS_KINDS):
        class_cost[name] = (
            _averages(rows, rows.hit, np.ones(len(kind), dtype=bool), gt_kind != index) - base
        )
    cost = {
        name: float(np.nanmean(values)) if np.isfinite(values).any() else 0.0
        for name, values in class_cost.items()
    }
    return ErrorKinds(
        kind, gt_kind, np.where(on_person, persons.best, -1), counts, cost, class_cost
    )


def _seen_persons(rows: ScoredRows) -> Bools:
    """Which ground-truth rows overlap any detection of their frame by 0.5, whatever its action."""
    # Detections repeat their box for every action: one row per distinct box is enough.
    packed = np.column_stack([rows.det_frame, rows.det_boxes])
    distinct = np.unique(packed, axis=0) if len(packed) else packed
    seen = best_overlaps(
        distinct[:, 0].astype(np.int64), distinct[:, 1:], rows.gt_frame, rows.gt_boxes
    )
    return np.asarray(seen.iou >= IOU_THRESHOLD)


def _movable(rows: ScoredRows, wrong: Bools, matched: Bools) -> Bools:
    """Wrong boxes whose own action is annotated, and still free, on the person they are nearest."""
    near = wrong & (rows.overlaps.iou >= BACKGROUND_IOU) & (rows.overlaps.best >= 0)
    candidates = np.flatnonzero(near)
    candidates = candidates[~matched[rows.overlaps.best[candidates]]]
    order = np.lexsort((-rows.det_score[candidates], rows.overlaps.best[candidates]))
    owner = rows.overlaps.best[candidates[order]]
    first = np.ones(len(owner), dtype=bool)
    first[1:] = owner[1:] != owner[:-1]
    moved = np.zeros(len(wrong), dtype=bool)
    moved[candidates[order[first]]] = True
    return moved


def _averages(rows: ScoredRows, hit: Bools, keep: Bools, counted: Bools) -> Floats:
    """AP per class (K,) with some detections and some ground truth taken away."""
    num_classes = len(rows.class_ids)
    num_gt = np.bincount(rows.gt_label[counted], minlength=num_classes)
    chosen = np.flatnonzero(keep)
    order = chosen[np.argsort(rows.det_label[chosen].astype(np.int16), kind="stable")]
    num_det = np.bincount(rows.det_label[chosen], minlength=num_classes)
    ends = np.cumsum(num_det)
    keys = rows.frames.tie_keys(rows.det_frame)
    had = np.bincount(rows.gt_label, minlength=num_classes)
    result = np.full(num_classes, np.nan)
    for index in np.flatnonzero(had):
        if not num_gt[index]:
            # Nothing is left to find: nothing can be missed any more.
            result[index] = 1.0
            continue
        part = order[ends[index] - num_det[index] : ends[index]]
        ranking = rank(rows.det_score[part], hit[part], keys[part])
        result[index] = interpolated(ranking.hits, int(num_gt[index]))
    return result
