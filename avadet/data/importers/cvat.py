"""CVAT's export "CVAT for video 1.1": tracks of boxes over the frames of one or more movies."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from avadet.data.importers.rows import ActionBox, Movies, actions_of, box_of, name_of
from avadet.errors import UserError

_CORNERS = ("xtl", "ytl", "xbr", "ybr")


def read(path: Path, text: str, movies: Movies, rate: float) -> list[ActionBox]:
    """Every track at the keyframes k / ``rate`` s: the box of the frame nearest to each (halves
    up), between two boxes of the track that drawn linearly, as CVAT itself shows it.

    Raises:
        UserError: not such a file, or no track has a box at a keyframe.
    """
    # Entities are of no use here, and nested ones grow without bound.
    if re.search(r"<!(DOCTYPE|ENTITY)", text[:4096]):
        raise UserError(f"{path}: has a document type; CVAT's exports have none")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise UserError(f"{path}: not XML: {error}") from error
    tracks = root.findall("track")
    if root.tag != "annotations" or not tracks:
        raise UserError(
            f"{path}: holds no tracks; export the task from CVAT as 'CVAT for video 1.1'"
        )
    sources = _sources(path, root)
    rows: list[ActionBox] = []
    for track in tracks:
        where = f"{path}: track {track.get('id', '?')}"
        task = track.get("task_id", "") if len(sources) > 1 else next(iter(sources))
        if task not in sources:
            raise UserError(f"{where}: belongs to task {task!r}, which the file does not describe")
        video, size = sources[task]
        try:
            rows += _track(track, video, size or movies.size(video), movies.fps(video), rate, where)
        except (KeyError, ValueError) as error:
            raise UserError(f"{where}: a box or frame is missing or no number ({error})") from error
    if not rows:
        raise UserError(
            f"{path}: no track has a box at a multiple of {1 / rate:g} s; is the rate of keyframes "
            "the one that was annotated?"
        )
    return rows


def _sources(
    path: Path, root: ElementTree.Element
) -> dict[str, tuple[str, tuple[int, int] | None]]:
    """(video, its size where the file tells) of each task."""
    meta = root.find("meta")
    described = [] if meta is None else [*meta.iter("task"), *meta.iter("job")]
    found = {}
    for task in described:
        source = task.findtext("source") or task.findtext("name")
        width = task.findtext("original_size/width")
        height = task.findtext("original_size/height")
        if source:
            size = (int(width), int(height)) if width and height else None
            found[task.findtext("id") or ""] = (name_of(source.strip()), size)
    if not found:
        raise UserError(f"{path}: does not say which movie was annotated (meta/task/source)")
    return found


def _track(
    track: ElementTree.Element,
    video: str,
    size: tuple[int, int],
    fps: float,
    rate: float,
    where: str,
) -> list[ActionBox]:
    shapes = {int(box.attrib["frame"]): box for box in track.findall("box")}
    frames = sorted(shapes)
    if not frames:
        return []
    label, person = track.get("label", ""), int(track.get("id", "-1"))
    rows = []
    first, last = (int(frame / fps * rate) for frame in (frames[0], frames[-1]))
    for keyframe in range(first, last + 2):
        second = keyframe / rate
        frame = int(second * fps + 0.5)
        before = max((each for each in frames if each <= frame), default=None)
        if before is None or shapes[before].get("outside") == "1":
            continue
        after = min((each for each in frames if each >= frame), default=None)
        if after is None:
            continue
        part = (frame - before) / (after - before) if after > before else 0.0
        # A person who has left by the next box stays where it was last seen.
        end = before if shapes[after].get("outside") == "1" else after
        corners = [
            float(shapes[before].attrib[name]) * (1 - part) + float(shapes[end].attrib[name]) * part
            for name in _CORNERS
        ]
        attributes = {
            each.attrib["name"]: (each.text or "") for each in shapes[before].findall("attribute")
        }
        rows.append(
            ActionBox(
                video,
                round(second, 6),
                box_of(corners, size, f"{where}, frame {frame}"),
                actions_of(label, attributes),
                person,
            )
        )
    return rows
