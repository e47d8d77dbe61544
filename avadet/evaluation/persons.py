"""Person detection on keyframes: COCO AP and AP at IoU 0.5, computed by pycocotools.

The ground truth is that of AVA with the actions taken away: every distinct box of a keyframe is
one person. AVA annotates people who act, so a correct box on somebody who was not annotated counts
as false; read the numbers as a comparison, not as absolute quality.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from avadet.errors import UserError
from avadet.evaluation.ava_io import BoxSource, read_boxes, read_excluded
from avadet.evaluation.csv_rows import numbered_rows
from avadet.evaluation.frames import FrameIndex
from avadet.evaluation.tables import BoxTable, Floats, from_columns


@dataclass(frozen=True)
class PersonAP:
    """Person detection quality; fractions, None without ground truth.

    Attributes:
        AP: COCO average precision, mean over IoU 0.50:0.05:0.95, 101 recall points.
        AP50, AP75: the same at one IoU.
        AR100: mean recall with at most 100 boxes per keyframe.
        num_frames, num_gt, num_det: keyframes scored, persons, boxes on those keyframes.
    """

    AP: float | None
    AP50: float | None
    AP75: float | None
    AR100: float | None
    num_frames: int
    num_gt: int
    num_det: int

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def person_ap(
    groundtruth: Sequence[ArrayLike],
    boxes: Sequence[ArrayLike],
    scores: Sequence[ArrayLike],
) -> PersonAP:
    """Scores person boxes frame by frame.

    Args:
        groundtruth: per frame (M_i, 4) xyxy, any unit.
        boxes: per frame (N_i, 4) xyxy in the same unit.
        scores: per frame (N_i,).

    Raises:
        UserError: the sequences have different lengths, or a score is missing.
    """
    if not len(groundtruth) == len(boxes) == len(scores):
        raise UserError(
            f"persons: {len(groundtruth)} frames of ground truth, {len(boxes)} of boxes and "
            f"{len(scores)} of scores; give one entry per frame in each"
        )
    truth, found, marks = [], [], []
    for index, (gt, box, score) in enumerate(zip(groundtruth, boxes, scores)):
        truth.append(np.asarray(gt, dtype=np.float64).reshape(-1, 4))
        found.append(np.asarray(box, dtype=np.float64).reshape(-1, 4))
        marks.append(np.asarray(score, dtype=np.float64).reshape(-1))
        if len(found[-1]) != len(marks[-1]):
            raise UserError(
                f"persons, frame {index}: {len(found[-1])} boxes but {len(marks[-1])} scores"
            )
        if np.isnan(truth[-1]).any() or np.isnan(found[-1]).any() or np.isnan(marks[-1]).any():
            raise UserError(f"persons, frame {index}: a box or score is not a number (nan)")
    num_gt, num_det = sum(map(len, truth)), sum(map(len, found))
    if num_gt == 0:
        return PersonAP(None, None, None, None, len(truth), 0, num_det)
    if num_det == 0:
        return PersonAP(0.0, 0.0, 0.0, 0.0, len(truth), num_gt, 0)
    evaluation = _coco_evaluation(truth, found, marks)
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
    return PersonAP(
        AP=_mean(precision[:, :, 0, 0, 0]),
        AP50=_mean(precision[0, :, 0, 0, 0]),
        AP75=_mean(precision[5, :, 0, 0, 0]),
        AR100=_mean(recall[:, 0, 0, 0]),
        num_frames=len(truth),
        num_gt=num_gt,
        num_det=num_det,
    )


def _mean(values: Any) -> float:
    return float(np.mean(values[values > -1])) if (values > -1).any() else 0.0


def _coco_evaluation(truth: list[Floats], found: list[Floats], marks: list[Floats]) -> Any:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def rows(boxes: list[Floats], scores: list[Floats] | None) -> list[dict[str, Any]]:
        result: list[dict[str, Any]] = []
        for image, corners in enumerate(boxes, start=1):
            for place, (x1, y1, x2, y2) in enumerate(corners.tolist()):
                width, height = max(0.0, x2 - x1), max(0.0, y2 - y1)
                row = {
                    "id": len(result) + 1,
                    "image_id": image,
                    "category_id": 1,
                    "bbox": [x1, y1, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                }
                if scores is not None:
                    row["score"] = float(scores[image - 1][place])
                result.append(row)
        return result

    images = [{"id": image} for image in range(1, len(truth) + 1)]
    categories = [{"id": 1, "name": "person"}]
    # pycocotools reports its progress with print.
    with contextlib.redirect_stdout(io.StringIO()):
        parts = []
        for annotations in (rows(truth, None), rows(found, marks)):
            coco = COCO()
            coco.dataset = {"images": images, "categories": categories, "annotations": annotations}
            coco.createIndex()
            parts.append(coco)
        evaluation = COCOeval(*parts, iouType="bbox")
        # Areas mean nothing in normalised units, and one range is four times as fast as four.
        evaluation.params.areaRng = [[0.0, 1e15]]
        evaluation.params.areaRngLbl = ["all"]
        evaluation.params.maxDets = [100]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def person_ap_files(
    groundtruth: BoxSource, detections: BoxSource, excluded: BoxSource = None
) -> PersonAP:
    """Scores a file of person boxes against AVA ground truth.

    Args:
        groundtruth: AVA ground truth; a keyframe named by a two-column row has nobody in it.
        detections: rows ``video,timestamp,x1,y1,x2,y2,label,score`` (the label may be empty), or an
            in-memory table. Boxes repeated for several labels count once, with their best score.
        excluded: exclusion list, or None.

    Raises:
        UserError: bad input, with file and line.
    """
    truth = read_boxes(groundtruth, "ground truth")
    found = _read_person_boxes(detections)
    banned_table = None if excluded is None else read_excluded(excluded)
    tables = [truth, found] + ([] if banned_table is None else [banned_table])
    frames = FrameIndex(tables, whole_seconds=False)
    listed = np.unique(np.concatenate([frames.ids(truth), frames.bare_ids(truth)]))
    if banned_table is not None:
        listed = np.setdiff1d(listed, frames.bare_ids(banned_table))
    gt_boxes = _by_frame(frames.ids(truth), truth.boxes(), np.ones(len(truth)), listed)
    det_boxes = _by_frame(frames.ids(found), found.boxes(), found.score, listed)
    return person_ap(
        [box for box, _ in gt_boxes],
        [box for box, _ in det_boxes],
        [score for _, score in det_boxes],
    )


def _by_frame(frame: Any, boxes: Floats, score: Floats, listed: Any) -> list[tuple[Floats, Floats]]:
    """Distinct boxes of each listed frame with their best score."""
    order = np.lexsort((-score, boxes[:, 3], boxes[:, 2], boxes[:, 1], boxes[:, 0], frame))
    frame, boxes, score = frame[order], boxes[order], score[order]
    new = np.ones(len(frame), dtype=bool)
    new[1:] = (frame[1:] != frame[:-1]) | (boxes[1:] != boxes[:-1]).any(axis=1)
    frame, boxes, score = frame[new], boxes[new], score[new]
    begins = np.searchsorted(frame, listed)
    ends = np.searchsorted(frame, listed, side="right")
    return [(boxes[a:b], score[a:b]) for a, b in zip(begins, ends)]


def _read_person_boxes(source: BoxSource) -> BoxTable:
    if isinstance(source, BoxTable):
        return source
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if path.suffix in (".parquet", ".pq"):
            return read_boxes(path)
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        return _read_person_rows(path)
    columns = dict(source)
    if "label" not in columns:
        columns["label"] = np.ones(len(next(iter(columns.values()))), dtype=np.int64)
    return from_columns(columns, "person boxes")


def _read_person_rows(path: Path) -> BoxTable:
    videos: list[str] = []
    times: list[str] = []
    numbers: list[list[float]] = []
    for line, row in numbered_rows(path):
        if len(row) == 2:
            continue
        if len(row) != 8:
            raise UserError(
                f"{path}:{line}: {len(row)} columns; a row of person boxes has 8: "
                "video_id,timestamp,x1,y1,x2,y2,label,score"
            )
        try:
            values = [float(text) for text in (*row[2:6], row[7])]
        except ValueError:
            raise UserError(
                f"{path}:{line}: columns 3 to 6 (the box) and 8 (the score) must be numbers"
            ) from None
        if not np.isfinite(values).all():
            raise UserError(f"{path}:{line}: a box or score is not finite")
        videos.append(row[0])
        times.append(row[1])
        numbers.append(values)
    both = np.array(numbers, dtype=np.float64).reshape(-1, 5)
    return from_columns(
        {
            "video": np.array(videos, dtype=object),
            "second": np.array(times, dtype=object),
            "boxes": both[:, :4],
            "label": np.ones(len(both), dtype=np.int64),
            "score": both[:, 4],
        },
        str(path),
    )
