"""Annotations made with other tools: COCO json, CVAT, VIA. The format is told by the content."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from avadet.data.importers import coco, cvat, via
from avadet.data.importers.rows import ActionBox, Movies, write_ava
from avadet.errors import UserError

__all__ = ["ActionBox", "Movies", "read_annotations", "write_ava"]


def read_annotations(
    path: str | os.PathLike[str], movies: Movies, *, rate: float = 1.0, first_frame: int = 0
) -> list[ActionBox]:
    """Boxes and actions of an annotation file.

    Args:
        path: COCO json (of videos or of extracted frames), CVAT's "CVAT for video 1.1" XML, or a
            project saved by the VGG Image Annotator 3.
        movies: tells sizes and frame rates.
        rate: keyframes per second, for CVAT, whose tracks have a box on every frame.
        first_frame: number of the first frame, where frames are counted in file names.

    Raises:
        UserError: unreadable, of no known format, or wrong inside; names file and place.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as annotations: {error}") from error
    if text.lstrip().startswith("<"):
        return cvat.read(path, text, movies, rate)
    value = _json(path, text)
    if isinstance(value, dict) and {"images", "annotations", "categories"} <= set(value):
        return coco.read(path, value, movies, first_frame)
    if isinstance(value, dict) and {"file", "metadata", "attribute", "view"} <= set(value):
        return via.read(path, value, movies, first_frame)
    raise UserError(
        f"{path}: neither COCO json (images, annotations, categories), nor a VIA 3 project "
        "(file, metadata, attribute, view), nor CVAT for video XML"
    )


def _json(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{path}: not JSON: {error}") from error
