"""CVAT's export "CVAT for video 1.1": tracks of boxes over the frames of one or more movies."""

from __future__ import annotations

import re
from bisect import bisect_left
from pathlib import Path
from xml.etree import ElementTree

from avadet.data.importers.fields import as_number, as_whole
from avadet.data.importers.rows import ActionBox, Movies, actions_of, box_of, name_of
from avadet.errors import UserError

_CORNERS = ("xtl", "ytl", "xbr", "ybr")
# Four days at 30 frames a second: no movie, but a number gone wrong.
_MOST_FRAMES = 10_000_000


def read(path: Path, text: str, movies: Movies, rate: float) -> list[ActionBox]:
    """Every track at the keyframes k / ``rate`` s: the box of the frame nearest to each (halves
    up), between two boxes of the track that drawn linearly, as CVAT itself shows it.

    Raises:
        UserError: not such a file, or no track has a box at a keyframe.
    """
    # Entities are of no use here, and nested ones grow without bound.
    if re.search(r"<!(DOCTYPE|ENTITY)", text[:4096]):
        raise UserError(f"{path}: has a document type; CVAT's exports have none, remove it")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        line, column = error.position
        raise UserError(
            f"{path}:{line}: not XML from column {column + 1} on; is the file whole? Export it "
            "again"
        ) from error
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
            raise UserError(
                f"{where}: belongs to task {task!r}, which the file does not describe; export it "
                "again"
            )
        video, size = sources[task]
        fps = movies.fps(video)
        if rate > fps:
            raise UserError(f"--rate {rate:g}: {video} has only {fps:g} frames per second")
        rows += _track(track, video, size or movies.size(video), fps, rate, where)
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
            size = None
            if width and height:
                place = f"{path}: original_size of {source.strip()}"
                size = as_whole(width, place), as_whole(height, place)
                if min(size) < 1:
                    raise UserError(f"{place}: {size[0]}x{size[1]} pixels; export the task again")
            found[task.findtext("id") or ""] = (name_of(source.strip()), size)
    if not found:
        raise UserError(
            f"{path}: does not say which movie was annotated (meta/task/source); export the task "
            "again"
        )
    return found


def _track(
    track: ElementTree.Element,
    video: str,
    size: tuple[int, int],
    fps: float,
    rate: float,
    where: str,
) -> list[ActionBox]:
    shapes = {}
    for box in track.findall("box"):
        frame = as_whole(_attribute(box, "frame", where), f"{where}: frame")
        if not 0 <= frame < _MOST_FRAMES:
            raise UserError(f"{where}: frame {frame} is in no movie; correct it")
        shapes[frame] = box
    frames = sorted(shapes)
    if not frames:
        return []
    label, person = track.get("label", ""), as_whole(track.get("id", "-1"), f"{where}: id")
    rows = []
    first, last = (int(frame / fps * rate) for frame in (frames[0], frames[-1]))
    for keyframe in range(first, last + 2):
        second = keyframe / rate
        frame = int(second * fps + 0.5)
        place = bisect_left(frames, frame)
        if place == len(frames):
            continue
        after = frames[place]
        before = after if after == frame else frames[place - 1] if place else None
        if before is None or shapes[before].get("outside") == "1":
            continue
        part = (frame - before) / (after - before) if after > before else 0.0
        # A person who has left by the next box stays where it was last seen.
        end = before if shapes[after].get("outside") == "1" else after
        corners = [
            left * (1 - part) + right * part
            for left, right in zip(_corners(shapes[before], where), _corners(shapes[end], where))
        ]
        attributes = {
            _attribute(each, "name", where): (each.text or "")
            for each in shapes[before].findall("attribute")
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


def _corners(box: ElementTree.Element, where: str) -> list[float]:
    place = f"{where}, frame {box.get('frame')}"
    return [as_number(_attribute(box, name, place), f"{place}: {name}") for name in _CORNERS]


def _attribute(element: ElementTree.Element, name: str, where: str) -> str:
    if name not in element.attrib:
        raise UserError(f"{where}: a {element.tag} has no '{name}'; export the task again")
    return element.attrib[name]
