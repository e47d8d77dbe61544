"""Average precision from ranked true and false positives.

Two definitions: ``interpolated`` (VOC 2010 and later, all points under the envelope, as the
official AVA evaluator has it) and, for Charades, ``at_positives`` (mean precision at the positives,
no envelope).

Ties. The official code ranks by numpy's unstable quicksort, whose result on equal scores depends
on the processor, so equal scores have no single official order. Here the sort is stable: among
equal scores the row that comes later in the file ranks first (the official
``argsort(scores)[::-1]``, made stable). ``tie_range`` gives the smallest and the largest value that
any order of equal scores can give.
"""

from __future__ import annotations

import numpy as np

from avadet.evaluation.tables import Bools, Floats, Ints


def rank(scores: Floats) -> Ints:
    """The order (N,) from best to worst; among equal scores the later comes first."""
    return np.argsort(scores, kind="stable")[::-1]


def precision_recall(hits: Bools, num_positives: int) -> tuple[Floats, Floats]:
    """Cumulative precision and recall.

    Args:
        hits: (N,) true positives in rank order.
        num_positives: ground-truth instances, above 0.
    """
    found = np.cumsum(hits, dtype=np.float64)
    return found / np.arange(1, len(hits) + 1), found / num_positives


def interpolated(hits: Bools, num_positives: int) -> float:
    """Area under the envelope of precision over recall, all points.

    Args:
        hits: (N,) true positives in rank order.
        num_positives: ground-truth instances.

    Returns:
        NaN without positives, 0 without detections.
    """
    if num_positives == 0:
        return float("nan")
    if not len(hits):
        return 0.0
    precision, recall = precision_recall(hits, num_positives)
    precision = np.concatenate([[0.0], precision, [0.0]])
    recall = np.concatenate([[0.0], recall, [1.0]])
    precision = envelope(precision)
    steps = np.flatnonzero(recall[1:] != recall[:-1]) + 1
    return float(np.sum((recall[steps] - recall[steps - 1]) * precision[steps]))


def envelope(precision: Floats) -> Floats:
    """Precision made non-increasing: at each rank the best precision from there on."""
    return np.maximum.accumulate(precision[::-1])[::-1]


def tie_range(scores: Floats, hits: Bools, num_positives: int) -> tuple[float, float, int]:
    """The range of :func:`interpolated` over every order of equal scores.

    Args:
        scores: (N,) descending.
        hits: (N,) in the same order.

    Returns:
        lowest value (false positives first inside a tie), highest value, and the number of
        detections that share their score with an earlier one.
    """
    if len(scores) < 2:
        value = interpolated(hits, num_positives)
        return value, value, 0
    new = np.concatenate([[True], scores[1:] != scores[:-1]])
    tied = int(len(scores) - new.sum())
    if tied == 0:
        value = interpolated(hits, num_positives)
        return value, value, 0
    block = np.cumsum(new)
    low = hits[np.lexsort((hits, block))]
    high = hits[np.lexsort((~hits, block))]
    return interpolated(low, num_positives), interpolated(high, num_positives), tied


def at_positives(hits: Bools, num_positives: int) -> float:
    """Mean over all positives of the precision at each that is found; NaN without positives."""
    if num_positives == 0:
        return float("nan")
    precision, _ = precision_recall(hits, num_positives)
    return float(precision[hits].sum() / num_positives)
