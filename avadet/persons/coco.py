"""People in COCO's format: reading annotations, writing results, and COCO's AP."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from avadet.errors import UserError
from avadet.evaluation.persons import person_ap
from avadet.files import write_text
from avadet.persons.base import PersonBoxes
from avadet.structures import Keyframe

PERSON_CATEGORY = {"id": 1, "name": "person", "supercategory": "person"}
_NOBODY = PersonBoxes(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


def read_person_boxes(
    path: str | os.PathLike[str], images: str | os.PathLike[str]
) -> dict[Path, np.ndarray]:
    """Pictures with their people from a COCO annotation file.

    Crowd regions are left out. Pictures without people stay, with (0,4) boxes: they teach what
    is not a person.

    Args:
        path: the json.
        images: folder that its file names are relative to.

    Returns:
        {picture file: (N,4) float32 xyxy pixels}.

    Raises:
        UserError: not a COCO file, or no category called "person".
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        people = {c["id"] for c in content["categories"] if c["name"].lower() == "person"}
        names = {image["id"]: image["file_name"] for image in content["images"]}
        rows = [a for a in content["annotations"] if not a.get("iscrowd")]
        boxes: dict[Any, list[list[float]]] = {key: [] for key in names}
        for row in rows:
            if row["category_id"] in people:
                x, y, width, height = row["bbox"]
                if not np.isfinite([x, y, width, height]).all():
                    raise UserError(
                        f"{path}: annotation {row.get('id')}: its bbox {row['bbox']} must be four "
                        "finite numbers: x, y, width, height"
                    )
                if width > 0 and height > 0:
                    boxes[row["image_id"]].append([x, y, x + width, y + height])
    except OSError as error:
        raise UserError(f"{path}: cannot read it: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: not a COCO annotation file ({type(error).__name__}: {error}); it needs "
            "images, annotations and categories"
        ) from error
    if not people:
        raise UserError(f"{path}: no category is called 'person'")
    return {
        Path(images) / names[key]: np.asarray(found, np.float32).reshape(-1, 4)
        for key, found in boxes.items()
    }


def dataset_of(
    truth: Mapping[Keyframe, np.ndarray], sizes: Mapping[Keyframe, tuple[int, int]] | None = None
) -> dict[str, Any]:
    """Boxes by keyframe as a COCO data set.

    Args:
        truth: (N,4) xyxy; pixels when ``sizes`` is given, any one unit otherwise.
        sizes: (height, width) of each keyframe, where known.
    """
    images, annotations = [], []
    for number, (keyframe, boxes) in enumerate(truth.items(), start=1):
        height, width = (0, 0) if sizes is None else sizes[keyframe]
        images.append(
            {
                "id": number,
                "file_name": f"{keyframe.video}/{keyframe.second:g}",
                "video": keyframe.video,
                "second": keyframe.second,
                "height": height,
                "width": width,
            }
        )
        for box in boxes:
            x1, y1, x2, y2 = (float(v) for v in box)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
            )
    return {"images": images, "annotations": annotations, "categories": [PERSON_CATEGORY]}


def write_results(
    path: str | os.PathLike[str],
    found: Mapping[Keyframe, PersonBoxes],
    sizes: Mapping[Keyframe, tuple[int, int]],
) -> None:
    """Detections as one COCO file: images, and annotations that carry a ``score``.

    ``annotations`` alone is what COCO's ``loadRes`` takes.
    """
    content = dataset_of({k: v.boxes_px for k, v in found.items()}, sizes)
    scores = np.concatenate([v.scores for v in found.values()]) if found else np.zeros(0)
    for row, score in zip(content["annotations"], scores):
        row["score"] = round(float(score), 6)
    write_text(path, json.dumps(content) + "\n")


def average_precision(
    truth: Mapping[Keyframe, np.ndarray],
    found: Mapping[Keyframe, PersonBoxes],
) -> dict[str, float]:
    """COCO's AP of people.

    Args:
        truth: (N,4) xyxy pixels of every keyframe that counts; those without people too.
        found: detections; keyframes without any may be left out, others than ``truth``'s too.

    Returns:
        ``AP50``, ``AP`` over IoU 0.5..0.95, ``AP75`` and ``AR100`` in [0,1]; NaN without true
        boxes.
    """
    found = {keyframe: found.get(keyframe, _NOBODY) for keyframe in truth}
    measured = person_ap(
        list(truth.values()),
        [answer.boxes_px for answer in found.values()],
        [answer.scores for answer in found.values()],
    )
    names = ("AP50", "AP", "AP75", "AR100")
    values = [getattr(measured, name) for name in names]
    return {n: float("nan") if v is None else float(v) for n, v in zip(names, values)}
