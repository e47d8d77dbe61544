"""Projects of the VGG Image Annotator 3, the tool whose interface AVA's annotators know."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from avadet.data.importers.rows import ActionBox, Movies, box_of, frame_of, name_of
from avadet.errors import UserError

_log = logging.getLogger(__name__)

_RECTANGLE = 2
_VIDEO = 4
_TEXT = 1


def read(path: Path, value: dict[str, Any], movies: Movies, first_frame: int) -> list[ActionBox]:
    """Rectangles with their attributes: options that are ticked, or comma separated text.

    Raises:
        UserError: a reference leads nowhere, or a field is wrong; names the entry.
    """
    rows, others = [], 0
    try:
        for name, entry in value["metadata"].items():
            where = f"{path}: metadata {name}"
            shape = entry.get("xy") or []
            if not shape or int(shape[0]) != _RECTANGLE:
                others += 1
                continue
            file = value["file"][str(value["view"][str(entry["vid"])]["fid_list"][0])]
            if int(file.get("type", _VIDEO)) == _VIDEO:
                video, second = name_of(str(file["fname"])), float(entry["z"][0])
            else:
                video, frame = frame_of(str(file["fname"]), where)
                second = (frame - first_frame) / movies.fps(video)
            if not 0 <= second < float("inf"):
                raise UserError(f"{where}: second {second} is not a moment of a movie")
            x, y, width, height = (float(number) for number in shape[1:5])
            box = box_of((x, y, x + width, y + height), movies.size(video), where)
            actions = _actions(value["attribute"], entry.get("av") or {}, where)
            rows.append(ActionBox(video, round(second, 6), box, actions))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise UserError(f"{path}: not as a VIA 3 project should be ({error!r})") from error
    if others:
        _log.info("%s: %d entries that are no rectangles left out", path, others)
    if not rows:
        raise UserError(f"{path}: holds no rectangles")
    return rows


def _actions(attributes: dict[str, Any], said: dict[str, Any], where: str) -> tuple[str, ...]:
    found: list[str] = []
    for number, text in said.items():
        parts = [part.strip() for part in str(text).split(",") if part.strip()]
        attribute = attributes[number]
        if int(attribute.get("type", 0)) == _TEXT:
            found += parts
            continue
        options = attribute["options"]
        unknown = [part for part in parts if part not in options]
        if unknown:
            name = attribute.get("aname", number)
            raise UserError(f"{where}: attribute {name!r} has no option {unknown[0]!r}")
        found += [str(options[part]).strip() for part in parts]
    return tuple(dict.fromkeys(found))
