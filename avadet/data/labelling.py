"""Labels for detected people, from the ground truth that they overlap."""

from __future__ import annotations

import numpy as np

from avadet.data.box_table import BoxTable, ranges, second_key


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
    slices = [groundtruth.find(keyframe) for keyframe in proposals.keyframes()]
    per_keyframe = [proposals.rows(place) for place in range(proposals.num_keyframes)]
    sizes = np.asarray([rows.stop - rows.start for rows in per_keyframe], dtype=np.int64)
    starts = np.repeat(np.asarray([s.start for s in slices], dtype=np.int64), sizes)
    counts = np.repeat(np.asarray([s.stop - s.start for s in slices], dtype=np.int64), sizes)

    # Every (proposal, ground truth) pair of a keyframe, then the best pair of each proposal.
    left = np.repeat(np.arange(len(proposals)), counts)
    right = ranges(starts, counts)
    overlap = _paired_iou(proposals.boxes_norm[left], groundtruth.boxes_norm[right])
    order = np.lexsort((-overlap, left))
    first = order[np.searchsorted(left[order], np.arange(len(proposals)))[counts > 0]]
    best = np.zeros(len(proposals), dtype=np.float64)
    match = np.zeros(len(proposals), dtype=np.int64)
    best[counts > 0], match[counts > 0] = overlap[first], right[first]

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
    known = {row.tobytes() for row in _rows(groundtruth)}
    fresh = np.asarray([row.tobytes() not in known for row in _rows(proposals)], dtype=bool)
    return BoxTable.concatenate([groundtruth, proposals.select(fresh)])


def _rows(table: BoxTable) -> np.ndarray:
    """(N,) records that are equal where movie, second and coordinates are."""
    names = np.asarray([hash(name) for name in table.videos], dtype=np.int64)
    ticks = np.asarray([second_key(second) for second in table.second.tolist()], dtype=np.int64)
    return np.concatenate(
        [
            np.stack([names[table.video], ticks], axis=1).view(np.int32).reshape(len(table), 4),
            np.ascontiguousarray(table.boxes_norm).view(np.int32),
        ],
        axis=1,
    )


def _paired_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(P,4), (P,4) -> (P,) float64 overlap of each pair."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    inner = np.maximum(sides, 0).prod(axis=1)
    union = (a[:, 2:] - a[:, :2]).prod(axis=1) + (b[:, 2:] - b[:, :2]).prod(axis=1) - inner
    overlap: np.ndarray = np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)
    return overlap
