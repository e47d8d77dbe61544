"""Matching detections to ground truth: per frame and class, IoU at least 0.5, each box once.

A detection looks only at the ground-truth box it overlaps most (the first among equals) and there
is no second choice, so which box that is does not depend on the other detections. Hence no loop:
find each detection's best box, then per ground-truth box the first detection in match order wins.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avadet.evaluation.cap import group_rows
from avadet.evaluation.tables import Bools, Floats, Ints

IOU_THRESHOLD = 0.5
_DENSE_LIMIT = 60_000_000


@dataclass(frozen=True)
class Overlaps:
    """The best ground-truth box of each detection.

    Attributes:
        best: (D,) index of the ground-truth row, -1 where the frame has none of that class.
        iou: (D,) its IoU, 0 where there is none.
    """

    best: Ints
    iou: Floats


def pair_iou(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """IoU of boxes row by row, (P, 4) xyxy each, continuous coordinates.

    The operations and their order are those of the official code, so that an IoU of exactly
    one half comes out alike.
    """
    height = np.maximum(0, np.minimum(a[:, 3], b[:, 3]) - np.maximum(a[:, 1], b[:, 1]))
    width = np.maximum(0, np.minimum(a[:, 2], b[:, 2]) - np.maximum(a[:, 0], b[:, 0]))
    inter = height * width
    area_a = (a[:, 3] - a[:, 1]) * (a[:, 2] - a[:, 0])
    area_b = (b[:, 3] - b[:, 1]) * (b[:, 2] - b[:, 0])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(inter / (area_a + area_b - inter))


def cells(frame: Ints, label: Ints, num_classes: int) -> Ints:
    """One number per (frame, class)."""
    return frame * num_classes + label


def find_groups(groundtruth: Ints, detections: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Looks up, for each detection's cell, the ground truth there.

    Args:
        groundtruth: (M,) cells.
        detections: (D,) cells.

    Returns:
        an order (M,) that makes cells contiguous, and per group its start (G,) and length (G,); the
        group of each detection (D,), -1 without ground truth.
    """
    order, starts, lengths = group_rows(groundtruth)
    if order is None:
        order = np.arange(len(groundtruth))
    if not len(starts):
        return order, starts, lengths, np.full(len(detections), -1, dtype=np.int64)
    keys = groundtruth[order][starts]
    limit = int(max(keys[-1], detections.max() if len(detections) else 0)) + 1
    if limit <= _DENSE_LIMIT:
        lookup = np.full(limit, -1, dtype=np.int32)
        lookup[keys] = np.arange(len(keys), dtype=np.int32)
        return order, starts, lengths, lookup[detections].astype(np.int64)
    place = np.minimum(np.searchsorted(keys, detections), len(keys) - 1)
    return order, starts, lengths, np.where(keys[place] == detections, place, -1)


def best_overlaps(
    groundtruth_cells: Ints,
    groundtruth_boxes: NDArray[Any],
    detection_cells: Ints,
    detection_boxes: NDArray[Any],
    tie_order: HeapOrder | None = None,
) -> Overlaps:
    """Finds each detection's best ground-truth box.

    Args:
        groundtruth_cells: (M,), in the order that decides between equal IoUs.
        groundtruth_boxes: (M, 4).
        detection_cells: (D,).
        detection_boxes: (D, 4).
        tie_order: decides between equal IoUs instead of the order of rows.
    """
    best = np.full(len(detection_cells), -1, dtype=np.int64)
    iou = np.zeros(len(detection_cells))
    order, starts, lengths, group = find_groups(groundtruth_cells, detection_cells)
    rows = np.flatnonzero(group >= 0)
    if not len(rows):
        return Overlaps(best, iou)
    group = group[rows]
    counts = lengths[group]
    ends = np.cumsum(counts)
    begins = ends - counts
    pair_row = np.repeat(np.arange(len(rows)), counts)
    pair_gt = order[np.repeat(starts[group] - begins, counts) + np.arange(int(ends[-1]))]
    values = pair_iou(detection_boxes[rows[pair_row]], groundtruth_boxes[pair_gt])
    # numpy's argmax takes the first NaN for the maximum, and a NaN never matches.
    ranked = np.where(np.isnan(values), np.inf, values)
    top = np.maximum.reduceat(ranked, begins)
    leading = np.flatnonzero(ranked == top[pair_row])
    first = leading[np.concatenate([[True], np.diff(pair_row[leading]) > 0])]
    if tie_order is not None and len(leading) > len(first):
        # Below the threshold nothing depends on the choice.
        leading = leading[values[leading] >= IOU_THRESHOLD]
        first = _resolve_ties(first, leading, pair_row, pair_gt, tie_order)
    best[rows] = pair_gt[first]
    iou[rows] = np.nan_to_num(values[first], nan=0.0)
    return Overlaps(best, iou)


def _resolve_ties(
    first: Ints, leading: Ints, pair_row: Ints, pair_gt: Ints, tie_order: HeapOrder
) -> Ints:
    first = first.copy()
    owner = pair_row[leading]
    shared = np.unique(owner[1:][owner[1:] == owner[:-1]])
    for row in shared:
        pairs = leading[np.searchsorted(owner, row) : np.searchsorted(owner, row, side="right")]
        places = [tie_order.place(int(pair_gt[pair])) for pair in pairs]
        first[row] = pairs[int(np.argmin(places))]
    return first


class HeapOrder:
    """The order in which the official reader leaves the ground truth of a frame.

    It pushes every row on a heap of (score, class, y1, x1, y2, x2), the score being the eighth
    column (the person id) or 1.0, and sorts the heap's array by falling score. Only worked out
    for frames where a detection overlaps two boxes equally.
    """

    def __init__(self, frame: Ints, score: Floats, label: Ints, boxes: Floats) -> None:
        self._frame, self._score, self._label, self._boxes = frame, score, label, boxes
        self._order, self._starts, _ = group_rows(frame)
        self._keys = (
            frame[self._starts] if self._order is None else frame[self._order][self._starts]
        )
        self._places: dict[int, int] = {}

    def place(self, row: int) -> int:
        """The place of a ground-truth row inside its frame."""
        if row not in self._places:
            self._work_out(int(self._frame[row]))
        return self._places[row]

    def _work_out(self, frame: int) -> None:
        group = int(np.searchsorted(self._keys, frame))
        stops = [*self._starts[1:], len(self._frame)]
        span = np.arange(self._starts[group], stops[group])
        heap: list[tuple[float, int, float, float, float, float, int]] = []
        for row in span if self._order is None else self._order[span]:
            x1, y1, x2, y2 = (float(value) for value in self._boxes[row])
            entry = (float(self._score[row]), int(self._label[row]), y1, x1, y2, x2, int(row))
            heapq.heappush(heap, entry)
        for place, entry in enumerate(sorted(heap, key=lambda item: -item[0])):
            self._places[int(entry[-1])] = place


def first_hits(overlaps: Overlaps, score: NDArray[Any] | None) -> Bools:
    """Which detections are true positives.

    Args:
        overlaps: of D detections in file order.
        score: (D,) decides who is first at a ground-truth box; None for file order.

    Returns:
        (D,) true positives: per ground-truth box the first detection that reaches the threshold.
    """
    hit = np.zeros(len(overlaps.best), dtype=bool)
    reaching = np.flatnonzero((overlaps.iou >= IOU_THRESHOLD) & (overlaps.best >= 0))
    if not len(reaching):
        return hit
    owner = overlaps.best[reaching]
    if score is None:
        order = np.argsort(owner, kind="stable")
    else:
        order = np.lexsort((-score[reaching], owner))
    owner = owner[order]
    winners = np.concatenate([[True], owner[1:] != owner[:-1]])
    hit[reaching[order[winners]]] = True
    return hit
