"""Average precision from ranked true and false positives.

Two definitions: ``interpolated`` (VOC 2010 and later, all points under the envelope, as the
official AVA evaluator has it) and, for Charades, ``at_positives`` (mean precision at the positives,
no envelope).

Ties. The official code ranks by numpy's unstable quicksort, whose result on equal scores depends
on the processor, so equal scores have no single official order. Here equal scores are ordered by
what the rows say, so that neither the processor nor the order of the file has any say: the later
second first, then the video whose id sorts last, then, within a frame, false positives first.
``tie_range`` gives the smallest and the largest value that any order of equal scores can give.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avadet.evaluation.tables import Bools, Floats, Ints


@dataclass(frozen=True)
class Ranking:
    """Detections of one class from best to worst.

    Attributes:
        order: (N,) into the arrays given to :func:`rank`.
        scores: (N,) descending.
        hits: (N,) true positives.
        num_tied: detections that share their score with an earlier one.
        block: (N,) number of the run of equal scores; None when no run holds both hits and misses.
    """

    order: Ints
    scores: Floats
    hits: Bools
    num_tied: int
    block: Ints | None


def rank(scores: Floats, hits: Bools, tie_key: Ints) -> Ranking:
    """Ranks detections by falling score and equal scores by the rule above.

    Args:
        scores: (N,).
        hits: (N,) true positives.
        tie_key: (N,) per row; among equal scores the higher comes first, and among equal keys
            false positives.
    """
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], hits[order]
    if len(scores) < 2:
        return Ranking(order, scores, hits, 0, None)
    new = np.concatenate([[True], scores[1:] != scores[:-1]])
    num_tied = int(len(scores) - new.sum())
    if not num_tied:
        return Ranking(order, scores, hits, 0, None)
    starts = np.flatnonzero(new)
    sizes = np.diff(np.concatenate([starts, [len(scores)]]))
    found = np.add.reduceat(hits, starts, dtype=np.int64)
    mixed = np.flatnonzero(np.repeat((found > 0) & (found < sizes), sizes))
    if not len(mixed):
        return Ranking(order, scores, hits, num_tied, None)
    block = np.cumsum(new)
    settled = np.lexsort((hits[mixed], -tie_key[order[mixed]], block[mixed]))
    order[mixed] = order[mixed[settled]]
    hits[mixed] = hits[mixed[settled]]
    return Ranking(order, scores, hits, num_tied, block)


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


def tie_range(ranking: Ranking, num_positives: int) -> tuple[float, float]:
    """The range of :func:`interpolated` over every order of equal scores.

    Returns:
        the value with false positives first inside every tie, and with true positives first.
    """
    if ranking.block is None:
        value = interpolated(ranking.hits, num_positives)
        return value, value
    low = ranking.hits[np.lexsort((ranking.hits, ranking.block))]
    high = ranking.hits[np.lexsort((~ranking.hits, ranking.block))]
    return interpolated(low, num_positives), interpolated(high, num_positives)


def at_positives(hits: Bools, num_positives: int) -> float:
    """Mean over all positives of the precision at each that is found; NaN without positives."""
    if num_positives == 0:
        return float("nan")
    precision, _ = precision_recall(hits, num_positives)
    return float(precision[hits].sum() / num_positives)
