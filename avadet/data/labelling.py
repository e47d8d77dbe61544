"""Labels for detected people, from the ground truth that they overlap."""

from __future__ import annotations

import numpy as np

from avadet.data.box_table import BoxTable, ranges

# Bounds the memory of millions of pairs in float64.
_PAIRS_AT_ONCE = 100_000


def label_by_overlap(
    proposals: BoxTable, groundtruth: BoxTable, iou: float = 0.9, negative_iou: float = 0.5
) -> BoxTable:
    """Proposals with the labels of the ground-truth box that they overlap most.

    A proposal that overlaps no ground truth by ``negative_iou`` becomes a person without labels;
    one between ``negative_iou`` and ``iou`` is neither a good box nor a wrong one and is left
    out, and so are proposals at keyframes without ground truth, which nobody annotated. 0.9 is
    the overlap by which the published training boxes were labelled.

    Raises:
        ValueError: the thresholds are not ordered.
    """
    if not 0 <= negative_iou <= iou <= 1:
        raise ValueError(f"need 0 <= negative_iou {negative_iou} <= iou {iou} <= 1")
    left, right = proposals.pairs_with(groundtruth)
    counts = np.bincount(left, minlength=len(proposals))
    overlap = _paired_iou(proposals.boxes_norm, left, groundtruth.boxes_norm, right)
    # The best pair of each proposal, the first of several as good.
    best = np.zeros(len(proposals), dtype=np.float64)
    match = np.zeros(len(proposals), dtype=np.int64)
    if len(left):
        starts = (np.cumsum(counts) - counts)[counts > 0]
        best[counts > 0] = np.maximum.reduceat(overlap, starts)
        among = np.flatnonzero(overlap == best[left])[::-1]
        match[left[among]] = right[among]

    positive = (counts > 0) & (best >= iou)
    keep = positive | ((counts > 0) & (best < negative_iou))
    label_counts = np.where(positive, np.diff(groundtruth.first_label)[match], 0)
    labelled = BoxTable(
        videos=proposals.videos,
        video=proposals.video,
        second=proposals.second,
        boxes_norm=proposals.boxes_norm,
        scores=proposals.scores,
        first_label=np.concatenate([[0], np.cumsum(label_counts)]),
        labels=groundtruth.labels[ranges(groundtruth.first_label[match], label_counts)],
    )
    return labelled.select(keep)


def training_boxes(groundtruth: BoxTable, proposals: BoxTable) -> BoxTable:
    """Ground truth, then the labelled proposals; a proposal with a ground truth's very
    coordinates is that box and is left out."""
    left, right = proposals.pairs_with(groundtruth)
    same = (proposals.boxes_norm[left] == groundtruth.boxes_norm[right]).all(axis=1)
    fresh = np.ones(len(proposals), dtype=bool)
    fresh[left[same]] = False
    return BoxTable.concatenate([groundtruth, proposals.select(fresh)])


def _paired_iou(
    boxes: np.ndarray, left: np.ndarray, others: np.ndarray, right: np.ndarray
) -> np.ndarray:
    """(P,) float64 overlap of ``boxes[left]`` (N,4) with ``others[right]`` (M,4)."""
    overlap = np.zeros(len(left), dtype=np.float64)
    for start in range(0, len(left), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        a, b = boxes[left[part]].astype(np.float64), others[right[part]].astype(np.float64)
        sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
        inner = np.maximum(sides, 0).prod(axis=1)
        union = (a[:, 2:] - a[:, :2]).prod(axis=1) + (b[:, 2:] - b[:, :2]).prod(axis=1) - inner
        np.divide(inner, union, out=overlap[part], where=union > 0)
    return overlap
