"""AVA frame-mAP under six named protocols.

    from avadet.evaluation.ava import frame_map
    result = frame_map("ava_val_v2.2.csv", "detections.csv", "ava_action_list.pbtxt")
    print(result.mAP, result.protocol, result.per_class[12].AP)

The protocols are described in :mod:`avadet.evaluation.protocols`, the order of equal
scores in :mod:`avadet.evaluation.average_precision`. Frame-mAP at IoU 0.5: Gu et al., "AVA: A Video
Dataset of Spatio-temporally Localized Atomic Visual Actions", CVPR 2018.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from avadet.evaluation import ava_classes
from avadet.evaluation.ava_io import (
    BoxSource,
    LabelSource,
    read_boxes,
    read_excluded,
    read_label_map,
)
from avadet.evaluation.average_precision import interpolated, rank, tie_range
from avadet.evaluation.protocols import PROTOCOLS, Protocol, find_protocol
from avadet.evaluation.reasons import explain
from avadet.evaluation.scored import ScoredRows, score_rows
from avadet.evaluation.tables import Floats

__all__ = ["PROTOCOLS", "ClassResult", "FrameMap", "evaluate_tables", "frame_map"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClassResult:
    """One class.

    Attributes:
        name: as in the label map.
        AP: fraction; None without ground truth (and, under mmaction2, without detections).
        num_gt, num_det, num_tp: ground-truth rows, detections that take part, hits among them.
        AP_lo, AP_hi: range over every order of equal scores.
        num_tied: detections that share their score with another of the class, less one per score.
    """

    name: str
    AP: float | None
    num_gt: int
    num_det: int
    num_tp: int
    AP_lo: float | None
    AP_hi: float | None
    num_tied: int = 0


@dataclass(frozen=True)
class FrameMap:
    """A frame-mAP and what it is made of.

    Attributes:
        protocol: whose number it is.
        mAP: fraction; None when no class has an AP.
        per_class: class id -> result, for every class of the label map.
        groups: mean AP of person_movement (ids 1-14), object_manipulation (15-63) and
            person_interaction (64 and above).
        mAP_lo, mAP_hi: range over every order of equal scores.
        num_frames: frames on which detections count.
        counts: rows that took no part, by reason.
        notes: warnings, among them the likely reason of an mAP of 0.
        seconds: time taken by stage.
        rows: the matched rows, for reports.
    """

    protocol: str
    mAP: float | None
    per_class: dict[int, ClassResult]
    groups: dict[str, float | None]
    mAP_lo: float | None
    mAP_hi: float | None
    num_frames: int
    counts: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    rows: ScoredRows | None = field(default=None, repr=False, compare=False)

    @property
    def class_names(self) -> dict[int, str]:
        """Class id -> name."""
        return {key: result.name for key, result in self.per_class.items()}

    def to_json(self) -> dict[str, Any]:
        """Plain data; AP is null where a class has none."""
        return {
            "protocol": self.protocol,
            "mAP": self.mAP,
            "mAP_lo": self.mAP_lo,
            "mAP_hi": self.mAP_hi,
            **self.groups,
            "groups": self.groups,
            "num_frames": self.num_frames,
            "per_class": {
                str(key): {
                    "name": result.name,
                    "AP": result.AP,
                    "num_gt": result.num_gt,
                    "num_det": result.num_det,
                    "num_tp": result.num_tp,
                    "AP_lo": result.AP_lo,
                    "AP_hi": result.AP_hi,
                    "num_tied": result.num_tied,
                }
                for key, result in self.per_class.items()
            },
            "not_counted": self.counts,
            "notes": list(self.notes),
        }


def frame_map(
    groundtruth: BoxSource,
    detections: BoxSource,
    labelmap: LabelSource = None,
    excluded: BoxSource = None,
    protocol: str | Protocol = "official",
) -> FrameMap:
    """Computes the frame-mAP at IoU 0.5.

    Args:
        groundtruth: ``.csv``, ``.csv.gz`` or Parquet in the AVA format, a data frame, a mapping of
            columns, or a table read before. Boxes in the unit of the detections, class ids as in
            the label map.
        detections: alike, with scores.
        labelmap: pbtxt file, mapping id -> name, or ids; None for the 60 scored AVA classes.
        excluded: exclusion list (``video,timestamp`` rows) or pairs; None for none.
        protocol: official, head, r2019, r2018, pyslowfast or mmaction2.

    Raises:
        UserError: bad input, with file and line.
    """
    chosen = find_protocol(protocol)
    started = time.perf_counter()
    classes = read_label_map(labelmap)
    gt_table = read_boxes(groundtruth, "ground truth")
    det_table = read_boxes(detections, "detections")
    excluded_table = None if excluded is None else read_excluded(excluded)
    parsed = time.perf_counter() - started
    result = evaluate_tables(gt_table, det_table, classes, excluded_table, chosen)
    result.seconds["parse"] = parsed
    for note in result.notes:
        logger.warning("%s", note)
    return result


def evaluate_tables(
    groundtruth: Any,
    detections: Any,
    classes: dict[int, str],
    excluded: Any = None,
    protocol: str | Protocol = "official",
) -> FrameMap:
    """As :func:`frame_map`, from tables and classes that are read already; logs nothing."""
    chosen = find_protocol(protocol)
    started = time.perf_counter()
    class_ids = np.array(sorted(classes), dtype=np.int64)
    rows = score_rows(groundtruth, detections, class_ids, excluded, chosen)
    matched = time.perf_counter()
    per_class = _per_class(rows, classes, chosen)
    value = _mean({key: result.AP for key, result in per_class.items()})
    notes = explain(groundtruth, detections, rows, chosen, value)
    if excluded is not None and chosen.use_excluded == "ignore":
        notes += (f"protocol {chosen.name} takes no exclusion list; it was not used",)
    return FrameMap(
        protocol=chosen.name,
        mAP=value,
        per_class=per_class,
        groups={
            name: _mean({k: r.AP for k, r in per_class.items() if ava_classes.group_of(k) == name})
            for name in ava_classes.GROUPS
        },
        mAP_lo=_mean({key: result.AP_lo for key, result in per_class.items()}),
        mAP_hi=_mean({key: result.AP_hi for key, result in per_class.items()}),
        num_frames=rows.num_scored_frames,
        counts=rows.counts,
        notes=notes,
        seconds={"match": matched - started, "AP": time.perf_counter() - matched},
        rows=rows,
    )


def _mean(values: dict[int, float | None]) -> float | None:
    # Summed over an array with a place for every id up to the highest, as the official code does,
    # so that even the last bit agrees.
    if not values:
        return None
    places: Floats = np.full(max(values), np.nan)
    for key, value in values.items():
        if value is not None:
            places[key - 1] = value
    return None if np.isnan(places).all() else float(np.nanmean(places))


def _per_class(
    rows: ScoredRows, classes: dict[int, str], protocol: Protocol
) -> dict[int, ClassResult]:
    num_classes = len(rows.class_ids)
    num_gt = np.bincount(rows.gt_label, minlength=num_classes)
    num_det = np.bincount(rows.det_label, minlength=num_classes)
    # A stable sort of small integers is a radix sort: the cheap way to bring classes together.
    order = np.argsort(rows.det_label.astype(np.int16), kind="stable")
    ends = np.cumsum(num_det)
    tie_keys = rows.frames.tie_keys(rows.det_frame)
    results = {}
    for index, class_id in enumerate(rows.class_ids):
        chosen = order[ends[index] - num_det[index] : ends[index]]
        scores, hits = rows.det_score[chosen], rows.hit[chosen]
        positives = int(num_gt[index])
        counted = positives > 0 and not (protocol.skip_undetected and not len(chosen))
        ranking = rank(scores, hits, tie_keys[chosen])
        value = low = high = None
        if counted:
            value = interpolated(ranking.hits, positives)
            low, high = tie_range(ranking, positives)
        results[int(class_id)] = ClassResult(
            name=classes[int(class_id)],
            AP=value,
            num_gt=positives,
            num_det=int(num_det[index]),
            num_tp=int(hits.sum()),
            AP_lo=low,
            AP_hi=high,
            num_tied=ranking.num_tied,
        )
    return results
