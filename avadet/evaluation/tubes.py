"""Video-mAP of action tubes (UCF101-24, JHMDB, and tubes linked on AVA).

A tube is a box per frame of one person doing one action. Tube IoU is the temporal IoU (inclusive
frame counts) times the mean box IoU over the common frames; per class, tubes of all videos by
falling score, each ground-truth tube matched once. Two conventions are in use and named here:

* ``trapezoid`` (the ACT and MOC family): a tube is matched to the best ground-truth tube that is
  still free; area by trapezoids from precision 1 at recall 0, no envelope.
* ``voc`` (the YOWO and VOC family): a tube looks only at its best ground-truth tube, free or not;
  area of all points under the envelope.

Boxes are pixels and include both corners (+1) unless said otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from avadet.errors import UserError
from avadet.evaluation.average_precision import interpolated
from avadet.evaluation.csv_rows import numbered_rows
from avadet.evaluation.tables import Bools, Floats, Ints

THRESHOLDS: tuple[float, ...] = (0.2, 0.5, 0.75)
COCO_THRESHOLDS: tuple[float, ...] = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
CONVENTIONS = ("trapezoid", "voc")


@dataclass(frozen=True)
class Tube:
    """One person doing one action through time.

    Attributes:
        video: video id.
        label: class id.
        frames: (F,) ascending frame numbers, each once.
        boxes: (F, 4) xyxy.
        score: of the whole tube; unused for ground truth.
    """

    video: str
    label: int
    frames: Ints
    boxes: Floats
    score: float = 1.0

    def __post_init__(self) -> None:
        frames = np.asarray(self.frames, dtype=np.int64).reshape(-1)
        boxes = np.asarray(self.boxes, dtype=np.float64).reshape(-1, 4)
        if not len(frames) or len(frames) != len(boxes) or bool((np.diff(frames) <= 0).any()):
            raise UserError(
                f"tube of {self.video!r}: {len(frames)} frames for {len(boxes)} boxes; frames must "
                "ascend and there must be at least one"
            )
        if not np.isfinite(boxes).all() or np.isnan(self.score):
            raise UserError(f"tube of {self.video!r}: a box or the score is not a number")
        object.__setattr__(self, "frames", frames)
        object.__setattr__(self, "boxes", boxes)


@dataclass(frozen=True)
class VideoMap:
    """Video-mAP.

    Attributes:
        convention: "trapezoid" or "voc".
        mAP: threshold -> mean AP over classes with ground truth; None without any.
        mAP_coco: mean over thresholds 0.5:0.05:0.95.
        per_class: class -> {threshold -> AP}.
        num_gt, num_det: tubes.
    """

    convention: str
    mAP: dict[float, float | None]
    mAP_coco: float | None
    per_class: dict[int, dict[float, float]] = field(default_factory=dict)
    num_gt: int = 0
    num_det: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def read_tubes(path: str | os.PathLike[str]) -> list[Tube]:
    """Reads tubes from CSV rows ``video,label,tube,frame,x1,y1,x2,y2[,score]``.

    A tube is what shares video, label and tube id; its score is that of its first row.

    Raises:
        UserError: a malformed row, with file and line.
    """
    path = Path(path)
    parts: dict[tuple[str, int, str], list[tuple[int, list[float]]]] = {}
    scores: dict[tuple[str, int, str], float] = {}
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    for line, row in numbered_rows(path):
        try:
            if len(row) not in (8, 9):
                raise ValueError
            key = (row[0], int(row[1]), row[2])
            frame, box = int(row[3]), [float(value) for value in row[4:8]]
            score = float(row[8]) if len(row) == 9 else 1.0
        except ValueError:
            raise UserError(
                f"{path}:{line}: a row is video,label,tube,frame,x1,y1,x2,y2 and, for detections, "
                "score"
            ) from None
        parts.setdefault(key, []).append((frame, box))
        scores.setdefault(key, score)
    tubes = []
    for (video, label, tube), boxes in parts.items():
        boxes.sort(key=lambda pair: pair[0])
        tubes.append(
            Tube(
                video,
                label,
                np.array([frame for frame, _ in boxes]),
                np.array([box for _, box in boxes]),
                scores[video, label, tube],
            )
        )
    return tubes


def tube_iou(a: Tube, b: Tube, pixel: float = 1.0) -> float:
    """Temporal IoU times the mean box IoU over the common frames.

    Args:
        a, b: tubes; time runs from the first to the last frame of each, both included.
        pixel: 1 for boxes that include both corner pixels, 0 for continuous coordinates.
    """
    first = max(a.frames[0], b.frames[0])
    last = min(a.frames[-1], b.frames[-1])
    if first > last:
        return 0.0
    union = max(a.frames[-1], b.frames[-1]) - min(a.frames[0], b.frames[0]) + 1
    _, in_a, in_b = np.intersect1d(a.frames, b.frames, assume_unique=True, return_indices=True)
    if not len(in_a):
        return 0.0
    overlaps = _box_iou(a.boxes[in_a], b.boxes[in_b], pixel)
    return float((last - first + 1) / union * overlaps.mean())


def _box_iou(a: Floats, b: Floats, pixel: float) -> Floats:
    corner = np.maximum(a[:, :2], b[:, :2])
    opposite = np.minimum(a[:, 2:], b[:, 2:])
    inter = np.maximum(0, opposite - corner + pixel).prod(axis=1)
    areas = (a[:, 2:] - a[:, :2] + pixel).prod(axis=1) + (b[:, 2:] - b[:, :2] + pixel).prod(axis=1)
    union = areas - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)


def trapezoid(hits: Bools, num_positives: int) -> float:
    """Area by trapezoids from (recall 0, precision 1) on, without envelope."""
    found = np.cumsum(hits)
    precision = np.concatenate([[1.0], found / np.arange(1, len(hits) + 1)])
    recall = np.concatenate([[0.0], found / num_positives])
    return float(((precision[1:] + precision[:-1]) / 2 * np.diff(recall)).sum())


def video_map(
    groundtruth: Sequence[Tube],
    detections: Sequence[Tube],
    thresholds: Sequence[float] = THRESHOLDS,
    convention: str = "trapezoid",
    pixel: float = 1.0,
) -> VideoMap:
    """Computes video-mAP at several tube IoUs.

    Args:
        groundtruth, detections: tubes of all videos.
        thresholds: tube IoUs; 0.5:0.05:0.95 is always computed for the mean.
        convention: "trapezoid" or "voc".
        pixel: see :func:`tube_iou`.

    Raises:
        UserError: the convention is unknown.
    """
    if convention not in CONVENTIONS:
        raise UserError(f"convention {convention!r} is unknown; choose one of {CONVENTIONS}")
    area = trapezoid if convention == "trapezoid" else interpolated
    wanted = sorted({*thresholds, *COCO_THRESHOLDS})
    per_class: dict[int, dict[float, float]] = {}
    for label in sorted({tube.label for tube in groundtruth}):
        truth = [tube for tube in groundtruth if tube.label == label]
        found = [tube for tube in detections if tube.label == label]
        # Stable: among equal scores the earlier tube comes first.
        found.sort(key=lambda tube: -tube.score)
        candidates = _candidates(truth, found, pixel)
        second = convention == "trapezoid"
        per_class[label] = {
            threshold: area(_hits(candidates, threshold, second), len(truth))
            for threshold in wanted
        }
    means: dict[float, float | None] = {
        threshold: float(np.mean([values[threshold] for values in per_class.values()]))
        if per_class
        else None
        for threshold in wanted
    }
    return VideoMap(
        convention=convention,
        mAP={threshold: means[threshold] for threshold in thresholds},
        mAP_coco=float(np.mean([means[t] or 0.0 for t in COCO_THRESHOLDS])) if per_class else None,
        per_class={
            label: {threshold: values[threshold] for threshold in thresholds}
            for label, values in per_class.items()
        },
        num_gt=len(groundtruth),
        num_det=len(detections),
    )


def _candidates(
    truth: list[Tube], found: list[Tube], pixel: float
) -> list[list[tuple[float, int]]]:
    """Per detected tube, the overlapping ground-truth tubes of its video, best first."""
    by_video: dict[str, list[int]] = {}
    for index, tube in enumerate(truth):
        by_video.setdefault(tube.video, []).append(index)
    candidates = []
    for tube in found:
        overlaps = [(tube_iou(tube, truth[i], pixel), i) for i in by_video.get(tube.video, [])]
        candidates.append(sorted(overlaps, key=lambda pair: (-pair[0], pair[1])))
    return candidates


def _hits(candidates: list[list[tuple[float, int]]], threshold: float, second: bool) -> Bools:
    """True positives; with ``second`` a tube may fall back on its best free ground truth."""
    taken: set[int] = set()
    hits = np.zeros(len(candidates), dtype=bool)
    for index, pairs in enumerate(candidates):
        if second:
            pairs = [pair for pair in pairs if pair[1] not in taken]
        if pairs and pairs[0][0] >= threshold and pairs[0][1] not in taken:
            hits[index] = True
            taken.add(pairs[0][1])
    return hits
