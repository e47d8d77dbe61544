"""Annotations made with other tools: COCO json, CVAT, VIA. The format is told by the content."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

from avadet.data.importers import coco, cvat, via
from avadet.data.importers.rows import ActionBox, Movies, write_ava
from avadet.errors import UserError
from avadet.files import read_text

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
    text = _text(path)
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


def _text(path: Path) -> str:
    if not path.exists():
        raise UserError(f"{path}: no such file; give the file that the tool exported")
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give the exported file in it")
    if zipfile.is_zipfile(path):
        raise UserError(f"{path}: is a zip archive; unpack it and give the annotation file in it")
    text = read_text(path, "annotations")
    if not text.strip():
        raise UserError(f"{path}: is empty; export it again")
    return text


def _json(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}:{error.lineno}: not JSON from column {error.colno} on; is the file whole? "
            "Export it again"
        ) from error
    except (RecursionError, ValueError) as error:
        raise UserError(
            f"{path}: JSON nested too deep, or with numbers too long, to be annotations; export "
            "it again"
        ) from error
