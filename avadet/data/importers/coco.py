"""COCO json: of videos (``videos``, ``video_id``, ``frame_id``) or of extracted frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from avadet.data.importers.rows import ActionBox, Movies, actions_of, box_of, frame_of, name_of
from avadet.errors import UserError


def read(path: Path, value: dict[str, Any], movies: Movies, first_frame: int) -> list[ActionBox]:
    """Annotations with the same box on the same picture are one person who does several things.

    Raises:
        UserError: a field is missing or wrong; names the image or annotation.
    """
    try:
        names = {each["id"]: str(each["name"]) for each in value["categories"]}
        moments = _moments(path, value, movies, first_frame)
        boxes: dict[tuple[Any, ...], ActionBox] = {}
        for each in value["annotations"]:
            where = f"{path}: annotation {each.get('id', '?')}"
            if each["image_id"] not in moments:
                raise UserError(f"{where}: there is no image {each['image_id']!r}")
            if each["category_id"] not in names:
                raise UserError(f"{where}: there is no category {each['category_id']!r}")
            video, second, size = moments[each["image_id"]]
            x, y, width, height = (float(number) for number in each["bbox"])
            corners = box_of((x, y, x + width, y + height), size, where)
            attributes = each.get("attributes") or {}
            person = int(each.get("track_id", attributes.get("track_id", -1)))
            actions = actions_of(names[each["category_id"]], attributes)
            key = (video, second, corners, person)
            if key in boxes:
                actions = tuple(dict.fromkeys((*boxes[key].actions, *actions)))
            boxes[key] = ActionBox(video, second, corners, actions, person)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: not as COCO json should be ({error!r})") from error
    return list(boxes.values())


def _moments(
    path: Path, value: dict[str, Any], movies: Movies, first_frame: int
) -> dict[Any, tuple[str, float, tuple[int, int]]]:
    """(video, second, (width, height)) of every image."""
    videos = {
        each["id"]: name_of(str(each.get("name") or each["file_name"]))
        for each in value.get("videos", [])
    }
    found = {}
    for image in value["images"]:
        where = f"{path}: image {image.get('id', '?')}"
        second = next((image[key] for key in ("second", "timestamp") if key in image), None)
        frame = next((image[key] for key in ("frame_id", "frame_index") if key in image), None)
        if image.get("video_id") in videos:
            video = videos[image["video_id"]]
        else:
            video = name_of(str(image["video"])) if "video" in image else ""
        if not video or (second is None and frame is None):
            named, number = frame_of(str(image["file_name"]), where)
            video = video or named
            if frame is None:
                frame = number - first_frame
        second = float(second) if second is not None else int(frame) / movies.fps(video)
        if not 0 <= second < float("inf"):
            raise UserError(f"{where}: second {second} is not a moment of a movie")
        width, height = int(image["width"]), int(image["height"])
        if width < 1 or height < 1:
            raise UserError(f"{where}: a picture of {width}x{height} pixels")
        found[image["id"]] = (video, round(second, 6), (width, height))
    return found
