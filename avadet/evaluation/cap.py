"""Keeping the best rows of each frame, as the official reader's heap does.

The official reader holds at most 50 (score, class, y1, x1, y2, x2) tuples per frame in a min-heap.
A later row enters a full heap only if its score is strictly higher than the lowest kept one, and
then the smallest tuple leaves. Three facts turn that into array work. With T the 50th best score of
a frame:

* every row above T is kept, and no row below T;
* of the rows at T only those enter that come before the 50th row (in file order) with a score of at
  least T, for from then on the lowest kept score is T;
* every row above T that comes after that moment evicts the smallest tuple at T.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from avadet.evaluation.tables import Bools, Floats, Ints


def group_rows(group: Ints) -> tuple[Ints | None, Ints, Ints]:
    """Finds the rows of each group.

    Args:
        group: (N,) group numbers.

    Returns:
        a stable order (N,) that makes groups contiguous, or None when they already are; the
        start of each group in that order (G,), and its length (G,).
    """
    count = len(group)
    if count == 0:
        return None, np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    order: Ints | None = None
    if bool((group[1:] < group[:-1]).any()):
        order = np.argsort(group, kind="stable")
        group = group[order]
    starts = np.concatenate([[0], np.flatnonzero(group[1:] != group[:-1]) + 1])
    lengths = np.diff(np.concatenate([starts, [count]]))
    return order, starts, lengths


def kth_best(values: Floats, starts: Ints, lengths: Ints, k: int) -> Floats:
    """The k-th highest value of each contiguous group, -inf where it has fewer than k.

    Args:
        values: (N,), groups contiguous.
        starts, lengths: (G,) as from :func:`group_rows`.
    """
    result = np.full(len(starts), -np.inf)
    large = np.flatnonzero(lengths >= k)
    # Groups of similar size share a block, so that padding stays small.
    large = large[np.argsort(lengths[large], kind="stable")]
    begin = 0
    while begin < len(large):
        end = min(len(large), begin + max(1, 1_000_000 // max(1, int(lengths[large[begin]]))))
        while int(lengths[large[end - 1]]) * (end - begin) > 2_000_000 and end > begin + 1:
            end = begin + (end - begin) // 2
        chosen = large[begin:end]
        width = int(lengths[chosen[-1]])
        columns = np.arange(width)
        inside = columns < lengths[chosen][:, None]
        places = np.where(inside, starts[chosen][:, None] + columns, 0)
        block = np.where(inside, values[places], -np.inf)
        result[chosen] = -np.partition(-block, k - 1, axis=1)[:, k - 1]
        begin = end
    return result


def keep_best(
    frame: Ints, label: Ints, score: Floats, boxes: Callable[[Ints], Floats], cap: int
) -> Bools:
    """Which rows survive a cap per frame.

    Args:
        frame: (N,) frame numbers; rows in file order.
        label: (N,) class ids.
        score: (N,) without NaN.
        boxes: gives the corners (R, 4) of some of the rows; asked only where scores tie at the cap.
        cap: rows kept per frame.

    Returns:
        (N,) true where the row is kept.
    """
    order, starts, lengths = group_rows(frame)
    if not len(starts) or int(lengths.max()) <= cap:
        return np.ones(len(frame), dtype=bool)
    ordered = score if order is None else score[order]
    threshold = kth_best(ordered, starts, lengths, cap)
    keep = ordered >= np.repeat(threshold, lengths)
    surplus = np.add.reduceat(keep, starts, dtype=np.int64) > cap
    for group in np.flatnonzero(surplus):
        place = np.arange(starts[group], starts[group] + lengths[group])
        rows = place if order is None else order[place]
        keep[place] = _keep_tied(
            score[rows],
            float(threshold[group]),
            boxes(rows),
            label[rows],
            cap,
        )
    if order is None:
        return np.asarray(keep)
    result = np.empty(len(keep), dtype=bool)
    result[order] = keep
    return result


def _keep_tied(score: Floats, threshold: float, boxes: Floats, label: Ints, cap: int) -> Bools:
    """The rows of one frame in which scores tie at the cap."""
    above, at = score > threshold, score == threshold
    full = np.flatnonzero(np.cumsum(above | at) == cap)[0]
    entered = np.flatnonzero(at[: full + 1])
    evicted = int(above[full + 1 :].sum())
    # lexsort's last key leads: class, y1, x1, y2, x2.
    x1, y1, x2, y2 = boxes[entered].T
    order = np.lexsort((x2, y2, x1, y1, label[entered]))
    keep = np.array(above, dtype=bool)
    keep[entered[order[evicted:]]] = True
    return keep
