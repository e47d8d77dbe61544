"""COCO json: of videos (``videos``, ``video_id``, ``frame_id``) or of extracted frames."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avadet.data.importers.fields import (
    as_id,
    as_list,
    as_number,
    as_object,
    as_text,
    as_whole,
    member,
)
from avadet.data.importers.rows import ActionBox, Movies, actions_of, box_of, frame_of, name_of
from avadet.errors import UserError

_ONE = {
    "annotations": "annotation",
    "categories": "category",
    "images": "image",
    "videos": "video",
}


def read(path: Path, value: dict[str, Any], movies: Movies, first_frame: int) -> list[ActionBox]:
    """Annotations with the same box on the same picture are one person who does several things.

    Raises:
        UserError: a field is missing or wrong; names the image or annotation.
    """
    names = {
        key: as_text(member(each, "name", where), f"{where}: name")
        for key, (where, each) in _by_id(path, value, "categories").items()
    }
    moments = _moments(path, value, movies, first_frame)
    boxes: dict[tuple[Any, ...], ActionBox] = {}
    for where, each in _entries(path, value, "annotations"):
        image = as_id(member(each, "image_id", where), f"{where}: image_id")
        category = as_id(member(each, "category_id", where), f"{where}: category_id")
        if image not in moments:
            raise UserError(f"{where}: there is no image {image!r}; add it to 'images'")
        if category not in names:
            raise UserError(f"{where}: there is no category {category!r}; add it to 'categories'")
        video, second, size = moments[image]
        corners = box_of(_corners(member(each, "bbox", where), where), size, where)
        attributes = as_object(each.get("attributes") or {}, f"{where}: attributes")
        track = each.get("track_id", attributes.get("track_id", -1))
        person = as_whole(track, f"{where}: track_id")
        actions = actions_of(names[category], attributes)
        key = (video, second, corners, person)
        if key in boxes:
            actions = tuple(dict.fromkeys((*boxes[key].actions, *actions)))
        boxes[key] = ActionBox(video, second, corners, actions, person)
    return list(boxes.values())


def _entries(path: Path, value: dict[str, Any], key: str) -> list[tuple[str, Mapping[str, Any]]]:
    """(where it stands, entry) of each of the file's ``key``."""
    found = []
    for place, each in enumerate(as_list(value.get(key, []), f"{path}: {key}"), 1):
        one = _ONE[key]
        entry = as_object(each, f"{path}: {one} number {place}")
        number = entry.get("id")
        named = number if isinstance(number, str | int) else f"number {place}"
        found.append((f"{path}: {one} {named}", entry))
    return found


def _by_id(
    path: Path, value: dict[str, Any], key: str
) -> dict[str | int, tuple[str, Mapping[str, Any]]]:
    found: dict[str | int, tuple[str, Mapping[str, Any]]] = {}
    for where, each in _entries(path, value, key):
        number = as_id(member(each, "id", where), f"{where}: id")
        if number in found:
            raise UserError(f"{where}: this id stands twice in '{key}'; give each its own")
        found[number] = where, each
    return found


def _corners(box: Any, where: str) -> tuple[float, float, float, float]:
    """xyxy of x, y, width and height."""
    sides = [as_number(side, f"{where}: bbox") for side in as_list(box, f"{where}: bbox")]
    if len(sides) != 4:
        raise UserError(f"{where}: bbox has {len(sides)} numbers; it needs x, y, width, height")
    x, y, width, height = sides
    return x, y, x + width, y + height


def _moments(
    path: Path, value: dict[str, Any], movies: Movies, first_frame: int
) -> dict[str | int, tuple[str, float, tuple[int, int]]]:
    """(video, second, (width, height)) of every image."""
    videos = {
        key: name_of(as_text(each.get("name") or member(each, "file_name", where), where))
        for key, (where, each) in _by_id(path, value, "videos").items()
    }
    found = {}
    for key, (where, image) in _by_id(path, value, "images").items():
        second = next((image[name] for name in ("second", "timestamp") if name in image), None)
        frame = next((image[name] for name in ("frame_id", "frame_index") if name in image), None)
        belongs = image.get("video_id")
        if belongs is not None and as_id(belongs, f"{where}: video_id") in videos:
            video = videos[belongs]
        else:
            video = name_of(as_text(image["video"], f"{where}: video")) if "video" in image else ""
        if not video or (second is None and frame is None):
            file = as_text(member(image, "file_name", where), f"{where}: file_name")
            named, number = frame_of(file, where)
            video = video or named
            if frame is None:
                frame = number - first_frame
        if second is not None:
            second = as_number(second, f"{where}: second")
        else:
            second = as_whole(frame, f"{where}: frame") / movies.fps(video)
        if second < 0:
            raise UserError(
                f"{where}: second {second:g} is before the movie; is --first-frame right?"
            )
        width, height = (
            as_whole(member(image, side, where), f"{where}: {side}") for side in ("width", "height")
        )
        if width < 1 or height < 1:
            raise UserError(f"{where}: a picture of {width}x{height} pixels; correct its size")
        found[key] = (video, round(second, 6), (width, height))
    return found
