"""Projects of the VGG Image Annotator 3, the tool whose interface AVA's annotators know."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avadet.data.importers.fields import (
    as_list,
    as_number,
    as_object,
    as_text,
    as_whole,
    member,
)
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
    tables = {name: as_object(value[name], f"{path}: {name}") for name in ("file", "view")}
    attributes = as_object(value["attribute"], f"{path}: attribute")
    rows, others = [], 0
    for name, content in as_object(value["metadata"], f"{path}: metadata").items():
        where = f"{path}: metadata {name}"
        entry = as_object(content, where)
        shape = [as_number(each, f"{where}: xy") for each in _list(entry, "xy", where)]
        if not shape or shape[0] != _RECTANGLE:
            others += 1
            continue
        if len(shape) < 5:
            raise UserError(f"{where}: xy has {len(shape)} numbers; a rectangle needs 5")
        file = _file(entry, tables, where)
        named = as_text(member(file, "fname", where), f"{where}: fname")
        if as_whole(file.get("type", _VIDEO), f"{where}: type") == _VIDEO:
            times = _list(entry, "z", where)
            if not times:
                raise UserError(f"{where}: has no second (z); complete it or export the file again")
            video, second = name_of(named), as_number(times[0], f"{where}: z")
        else:
            video, frame = frame_of(named, where)
            second = (frame - first_frame) / movies.fps(video)
        if second < 0:
            raise UserError(
                f"{where}: second {second:g} is before the movie; is --first-frame right?"
            )
        x, y, width, height = shape[1:5]
        box = box_of((x, y, x + width, y + height), movies.size(video), where)
        said = as_object(entry.get("av") or {}, f"{where}: av")
        rows.append(ActionBox(video, round(second, 6), box, _actions(attributes, said, where)))
    if others:
        _log.info("%s: %d entries that are no rectangles left out", path, others)
    if not rows:
        raise UserError(f"{path}: holds no rectangles; draw some, or export another project")
    return rows


def _list(entry: Mapping[str, Any], name: str, where: str) -> list[Any]:
    return as_list(entry.get(name) or [], f"{where}: {name}")


def _file(
    entry: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]], where: str
) -> Mapping[str, Any]:
    """The file that the view of an entry shows."""
    number = as_text(member(entry, "vid", where), f"{where}: vid")
    shown = f"{where}: view {number}"
    if number not in tables["view"]:
        raise UserError(f"{shown} is not in the file; export it again")
    view = as_object(tables["view"][number], shown)
    files = _list(view, "fid_list", shown)
    if not files:
        raise UserError(f"{shown}: shows no file; export the project again")
    file = as_text(files[0], f"{shown}: fid_list")
    if file not in tables["file"]:
        raise UserError(f"{shown}: its file {file} is not there; export the project again")
    return as_object(tables["file"][file], f"{shown}: file {file}")


def _actions(attributes: Mapping[str, Any], said: Mapping[str, Any], where: str) -> tuple[str, ...]:
    found: list[str] = []
    for number, text in said.items():
        parts = [part.strip() for part in str(text).split(",") if part.strip()]
        shown = f"{where}: attribute {number}"
        attribute = as_object(member(attributes, number, where), shown)
        if as_whole(attribute.get("type", 0), f"{shown}: type") == _TEXT:
            found += parts
            continue
        options = as_object(member(attribute, "options", shown), f"{shown}: options")
        unknown = [part for part in parts if part not in options]
        if unknown:
            name = attribute.get("aname", number)
            raise UserError(
                f"{where}: attribute {name!r} has no option {unknown[0]!r}; add it in the tool"
            )
        found += [as_text(options[part], f"{shown}: option {part}") for part in parts]
    return tuple(dict.fromkeys(found))
