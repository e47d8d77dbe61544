"""Which detection rows take part, worked out in pieces that fit the processor's cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from avadet.evaluation.frames import FrameIndex
from avadet.evaluation.growing import Growing
from avadet.evaluation.tables import Bools, BoxTable, Floats, Ints

_PIECE = 1 << 18


@dataclass(frozen=True)
class Selection:
    """Detection rows that take part: S of them, in file order.

    Attributes:
        rows: (S,) rows of the table; frame, label (places in the class list), score (S,) alike.
        counts: rows left out, by reason.
    """

    rows: Ints
    frame: Ints
    label: Ints
    score: Floats
    counts: dict[str, int]


def class_lookup(class_ids: Ints) -> Callable[[Ints], Ints]:
    """A function from class ids to their places in ``class_ids`` (ascending), -1 for others."""
    top = int(class_ids[-1])
    lookup = np.full(top + 2, -1, dtype=np.int64)
    lookup[class_ids] = np.arange(len(class_ids))

    def find(labels: Ints) -> Ints:
        known = (labels >= 0) & (labels <= top)
        return lookup[np.where(known, labels, top + 1)]

    return find


def select(
    table: BoxTable,
    frames: FrameIndex,
    class_ids: Ints,
    scored: Ints | None,
    banned: Ints,
) -> Selection:
    """Selects the rows of scored classes on scored frames.

    Args:
        table: detections.
        frames: numbers the frames.
        class_ids: (K,) ascending.
        scored: frame ids on which detections count, None for all.
        banned: frame ids on which none counts.
    """
    find_class = class_lookup(class_ids)
    is_scored = None if scored is None else frames.membership(scored)
    is_banned = frames.membership(banned) if len(banned) else None
    capacity = len(table)
    rows, frame = Growing(np.int64, capacity), Growing(np.int64, capacity)
    label, score = Growing(np.int64, capacity), Growing(np.float64, capacity)
    other = outside = excluded = 0
    for start in range(0, len(table), _PIECE):
        piece = slice(start, start + _PIECE)
        piece_label = find_class(table.label[piece])
        keep: Bools = piece_label >= 0
        other += int(len(keep) - keep.sum())
        piece_frame = frames.ids(table, piece)
        if is_scored is not None:
            there = is_scored(piece_frame)
            outside += int((keep & ~there).sum())
            keep &= there
        if is_banned is not None:
            hidden = is_banned(piece_frame)
            excluded += int((keep & hidden).sum())
            keep &= ~hidden
        chosen = np.flatnonzero(keep)
        rows.append(chosen + start)
        frame.append(piece_frame[chosen])
        label.append(piece_label[chosen])
        score.append(table.score[piece][chosen])
    return Selection(
        rows.finish(),
        frame.finish(),
        label.finish(),
        score.finish(),
        {
            "detections of other classes": other,
            "detections on frames without ground truth": outside,
            "detections on excluded frames": excluded,
        },
    )
