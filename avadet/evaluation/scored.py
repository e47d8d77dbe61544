"""From two tables to scored rows: which ground truth and which detections take part, and which
detections are hits.

Legend: M ground-truth rows, D detection rows that take part, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avadet.errors import UserError
from avadet.evaluation.cap import group_rows, keep_best
from avadet.evaluation.frames import FrameIndex
from avadet.evaluation.matching import (
    HeapOrder,
    Overlaps,
    best_overlaps,
    cells,
    first_hits,
)
from avadet.evaluation.protocols import Protocol
from avadet.evaluation.selection import class_lookup, select
from avadet.evaluation.tables import Bools, BoxTable, Floats, Ints


@dataclass(frozen=True)
class ScoredRows:
    """What one protocol makes of two tables.

    Attributes:
        class_ids: (K,) ascending; labels below are indices into it.
        gt_rows: (M,) rows of the ground-truth table that take part; gt_frame, gt_label, gt_boxes
            (M, 4) alike. A row with gt_frame in ``unscored`` counts as missed whatever is detected.
        det_rows: (D,) rows of the detection table that take part, in file order; det_frame,
            det_label, det_score, det_boxes (D, 4), hit and overlaps alike.
        frames: names the frame numbers.
        num_scored_frames: frames on which detections count.
        counts: rows that did not take part, by reason.
    """

    class_ids: Ints
    gt_rows: Ints
    gt_frame: Ints
    gt_label: Ints
    gt_boxes: Floats
    det_rows: Ints
    det_frame: Ints
    det_label: Ints
    det_score: Floats
    det_boxes: Floats
    overlaps: Overlaps
    hit: Bools
    frames: FrameIndex
    num_scored_frames: int
    counts: dict[str, int]


def score_rows(
    groundtruth: BoxTable,
    detections: BoxTable,
    class_ids: Ints,
    excluded: BoxTable | None,
    protocol: Protocol,
) -> ScoredRows:
    """Selects, caps and matches.

    Raises:
        UserError: what the protocol's own code refuses (see ``Protocol``), and NaN scores.
    """
    _refuse(groundtruth, detections, protocol)
    if protocol.use_excluded == "ignore":
        excluded = None
    tables = [groundtruth, detections] if excluded is None else [groundtruth, detections, excluded]
    frames = FrameIndex(tables, protocol.whole_seconds)
    banned = np.zeros(0, dtype=np.int64) if excluded is None else frames.bare_ids(excluded)
    counts: dict[str, int] = {}

    gt_frame_all = frames.ids(groundtruth)
    gt_label_all = class_lookup(class_ids)(groundtruth.label)
    gt_keep = gt_label_all >= 0
    counts["ground truth of other classes"] = int((~gt_keep).sum())
    if len(banned):
        drop = frames.membership(banned)(gt_frame_all)
        counts["ground truth of excluded frames"] = int((drop & gt_keep).sum())
        if protocol.use_excluded == "drop":
            gt_keep &= ~drop
    gt_rows = np.flatnonzero(gt_keep)
    if protocol.skip_undetected and not len(gt_rows):
        raise UserError(
            f"{groundtruth.source}: no ground truth of the scored classes, which protocol "
            f"{protocol.name} cannot score"
        )
    listed = np.concatenate([gt_frame_all, frames.bare_ids(groundtruth)])
    scored = {"all": None, "listed": listed, "labelled": gt_frame_all[gt_rows]}[protocol.frames]
    _refuse_scores(detections, class_ids, protocol)
    selection = select(detections, frames, class_ids, scored, banned)
    rows, frame, label = selection.rows, selection.frame, selection.label
    score = selection.score
    counts |= selection.counts
    del selection

    if protocol.cap:

        def corners(chosen: Ints) -> Floats:
            return detections.boxes(rows[chosen])

        kept = keep_best(frame, label, score, corners, protocol.cap)
        counts[f"detections beyond the {protocol.cap} best of their frame"] = int((~kept).sum())
        rows, frame, label, score = rows[kept], frame[kept], label[kept], score[kept]
    boxes = detections.boxes(rows)
    valid = (boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])
    if protocol.refuse_invalid:
        _refuse_inverted(detections, rows, boxes, "detection")
    elif not valid.all():
        counts["detections with invalid boxes"] = int((~valid).sum())
        rows, frame, label, score = rows[valid], frame[valid], label[valid], score[valid]
        boxes = boxes[valid]

    order = _groundtruth_order(groundtruth, gt_rows, gt_frame_all, protocol)
    gt_rows = gt_rows[order]
    gt_frame, gt_label = gt_frame_all[gt_rows], gt_label_all[gt_rows]
    gt_boxes = groundtruth.boxes(gt_rows)
    if protocol.single_precision:
        with np.errstate(over="ignore"):  # 1e308 is infinite there
            boxes = boxes.astype(np.float32)
            gt_boxes = gt_boxes.astype(np.float32)
            score = score.astype(np.float32)
    gt_cells = cells(gt_frame, gt_label, len(class_ids))
    det_cells = cells(frame, label, len(class_ids))
    _refuse_inverted_groundtruth(groundtruth, gt_rows, gt_boxes, gt_cells, det_cells)

    above = score > protocol.score_floor
    if not above.all():
        counts["detections at or below the score floor"] = int((~above).sum())
        rows, frame, label, score = rows[above], frame[above], label[above], score[above]
        boxes, det_cells = boxes[above], det_cells[above]
    if protocol.class_cap:
        kept = _best_of_class(det_cells, score, protocol.class_cap)
        rows, frame, label, score = rows[kept], frame[kept], label[kept], score[kept]
        boxes, det_cells = boxes[kept], det_cells[kept]

    heap = None
    if protocol.groundtruth_order == "heap":
        heap = HeapOrder(gt_frame, groundtruth.score[gt_rows], gt_label, gt_boxes)
    overlaps = best_overlaps(gt_cells, gt_boxes, det_cells, boxes, heap)
    hit = first_hits(overlaps, None if protocol.match_order == "file" else score)
    num_scored = _count_frames(frames, listed, banned, gt_frame, frame, protocol)
    return ScoredRows(
        class_ids, gt_rows, gt_frame, gt_label, gt_boxes.astype(np.float64), rows, frame, label,
        score.astype(np.float64), boxes.astype(np.float64), overlaps, hit, frames, num_scored,
        {reason: count for reason, count in counts.items() if count},
    )  # fmt: skip


def _count_frames(
    frames: FrameIndex, listed: Ints, banned: Ints, gt: Ints, det: Ints, protocol: Protocol
) -> int:
    scored = {"listed": [listed], "labelled": [gt], "all": [gt, det]}[protocol.frames]
    distinct = np.unique(np.concatenate(scored)) if scored else np.zeros(0, dtype=np.int64)
    return int((~np.isin(distinct, banned)).sum())


def _groundtruth_order(table: BoxTable, rows: Ints, frame: Ints, protocol: Protocol) -> Ints:
    if protocol.groundtruth_order == "score" and table.unscored is None:
        return np.lexsort((-table.score[rows], frame[rows]))
    return np.arange(len(rows))


def _refuse(groundtruth: BoxTable, detections: BoxTable, protocol: Protocol) -> None:
    for table, what in ((groundtruth, "person id"), (detections, "score")):
        if protocol.whole_seconds and len(table.bare_video):
            raise UserError(
                f"{table.source}:{int(table.bare_lines[0])}: a row of two columns, which only "
                f"protocols official and head know; {protocol.name} needs 7 or 8"
            )
        if table.bad_score and (table is detections or protocol.read_person_id):
            line, text = table.bad_score
            raise UserError(
                f"{table.source}:{line}: column 8 ({what}) {text!r} is no number; "
                "mend the row or leave the column out"
            )


def _refuse_scores(detections: BoxTable, class_ids: Ints, protocol: Protocol) -> None:
    unknown = np.flatnonzero(np.isnan(detections.score))
    if len(unknown):
        raise UserError(
            f"{detections.where(int(unknown[0]))}: the score is not a number (nan); "
            f"{len(unknown)} such rows"
        )
    if protocol.need_scores and detections.unscored is not None:
        missing = np.flatnonzero(detections.unscored & np.isin(detections.label, class_ids))
        if len(missing):
            raise UserError(
                f"{detections.where(int(missing[0]))}: no score in column 8, which protocol "
                f"{protocol.name} needs"
            )


def _refuse_inverted(table: BoxTable, rows: Ints, boxes: Floats, what: str) -> None:
    wrong = np.flatnonzero((boxes[:, 0] > boxes[:, 2]) | (boxes[:, 1] > boxes[:, 3]))
    if len(wrong):
        x1, y1, x2, y2 = boxes[wrong[0]]
        raise UserError(
            f"{table.where(int(rows[wrong[0]]))}: the {what} box x1={x1:g} y1={y1:g} x2={x2:g} "
            f"y2={y2:g} is inverted (x2 < x1 or y2 < y1); {len(wrong)} such rows"
        )


def _refuse_inverted_groundtruth(
    table: BoxTable, rows: Ints, boxes: Floats, gt_cells: Ints, det_cells: Ints
) -> None:
    # The official code looks at a ground-truth box only where something of its class is detected.
    inverted = np.flatnonzero((boxes[:, 0] > boxes[:, 2]) | (boxes[:, 1] > boxes[:, 3]))
    if not len(inverted):
        return
    seen = inverted[np.isin(gt_cells[inverted], det_cells)]
    _refuse_inverted(table, rows[seen], boxes[seen], "ground-truth")


def _best_of_class(det_cells: Ints, score: Floats, cap: int) -> Bools:
    """At most ``cap`` rows per frame and class, the earlier first among equal scores."""
    _, _, lengths = group_rows(np.sort(det_cells))
    keep = np.ones(len(det_cells), dtype=bool)
    if not len(lengths) or int(lengths.max()) <= cap:
        return keep
    order = np.lexsort((-score, det_cells))
    _, starts, lengths = group_rows(det_cells[order])
    place = np.arange(len(order)) - np.repeat(starts, lengths)
    keep[order[place >= cap]] = False
    return keep
