"""What every annotation tool says in the end: a person, a moment, a box, and actions by name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from avadet.data.ava_csv import format_second
from avadet.data.label_map import LabelMap
from avadet.errors import UserError
from avadet.files import write_text

# What tools note about a box beside the actions of its person.
_BOOKKEEPING = {
    "difficult",
    "keyframe",
    "occluded",
    "outside",
    "rotation",
    "track_id",
    "truncated",
}
_NOTHING = {"", "-", "0", "__undefined__", "false", "n/a", "no", "none", "null"}
_YES = {"1", "true", "yes"}


class Movies(Protocol):
    """What the importers ask of a movie: tools write pixels and frame numbers."""

    def size(self, video: str) -> tuple[int, int]:
        """(width, height) in pixels."""

    def fps(self, video: str) -> float:
        """Frames per second."""


@dataclass(frozen=True)
class ActionBox:
    """A person at a moment.

    Attributes:
        video: name of the movie, without folder and suffix.
        second: of the movie.
        box_norm: xyxy in [0,1].
        actions: names, none of them twice; empty for a person who does none of the classes.
        person: number of the person in the movie, -1 where the tool does not follow people.
    """

    video: str
    second: float
    box_norm: tuple[float, float, float, float]
    actions: tuple[str, ...]
    person: int = -1


def box_of(
    corners: Sequence[float], size: tuple[int, int], where: str
) -> tuple[float, float, float, float]:
    """Pixels to shares of the frame, what overshoots cut off.

    Raises:
        UserError: empty, inverted or outside the frame; ``where`` names file and box.
    """
    width, height = size
    scaled = [value / side for value, side in zip(corners, (width, height, width, height))]
    # Written so that NaN fails too.
    if not (scaled[0] < scaled[2] and scaled[1] < scaled[3]):
        raise UserError(f"{where}: the box {tuple(corners)} is empty or inverted; correct it")
    if scaled[0] >= 1 or scaled[1] >= 1 or scaled[2] <= 0 or scaled[3] <= 0:
        raise UserError(
            f"{where}: the box {tuple(corners)} lies outside the picture of {width}x{height}; "
            "correct it, or is it the right movie?"
        )
    x1, y1, x2, y2 = (min(max(value, 0.0), 1.0) for value in scaled)
    return x1, y1, x2, y2


def actions_of(label: str, attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Actions of a box from its label and its attributes.

    Tools offer two ways: the label is the action; or the label says 'person' and attributes hold
    the actions, as check boxes named after them or as (comma separated) values. A box with
    attributes is read the second way. Notes such as 'occluded' and numbers are no actions.
    """
    said = {
        name: value
        for name, value in attributes.items()
        if name.lower() not in _BOOKKEEPING
        and (isinstance(value, bool) or not isinstance(value, int | float | None))
    }
    if not said:
        return (label,)
    found: list[str] = []
    for name, value in said.items():
        text = str(value).strip()
        if text.lower() in _YES:
            found.append(name)
        else:
            parts = (part.strip() for part in text.split(","))
            found += [part for part in parts if part.lower() not in _NOTHING]
    return tuple(dict.fromkeys(found))


def name_of(file: str) -> str:
    """The video's name: a file name without folder and suffix."""
    return Path(file.replace("\\", "/")).stem


def frame_of(file: str, where: str) -> tuple[str, int]:
    """(video, frame number) of an extracted frame ``<video>/<any>_000123.jpg`` or
    ``<video>_000123.jpg``.

    Raises:
        UserError: there is no number at the end of the name, or nothing before it.
    """
    path = Path(file.replace("\\", "/"))
    match = re.fullmatch(r"(.*?)[_.-]?(\d{1,18})", path.stem)
    video = path.parent.name or (match[1] if match else "")
    if match is None or not video:
        raise UserError(
            f"{where}: the name {file!r} does not tell movie and frame; expected "
            "<movie>/<name>_<number>.jpg or <movie>_<number>.jpg"
        )
    return video, int(match[2])


def write_ava(
    rows: Iterable[ActionBox], out: str | os.PathLike[str], val: Sequence[str] = ()
) -> LabelMap:
    """Writes AVA's formats: ``classes.pbtxt``, ``train.csv``; ``val.csv`` of the movies ``val``.

    Classes are numbered in the order of their names, so that the same annotations always give
    the same network.

    Returns:
        the classes.

    Raises:
        UserError: no actions, a name that the formats cannot hold, or ``val`` names a movie
            that has no boxes or leaves none.
    """
    rows = sorted(rows, key=lambda row: (row.video, row.second, row.person, row.box_norm))
    videos = {row.video for row in rows}
    unknown = sorted(set(val) - videos)
    if unknown:
        raise UserError(f"--val: no boxes of {', '.join(unknown)}; there are: {_some(videos)}")
    names = sorted({action for row in rows for action in row.actions})
    if not names:
        raise UserError("the annotations hold no actions; nothing to learn from")
    for name in sorted(videos) + names:
        if re.search(r'[,"\r\n{}]', name):
            raise UserError(
                f"{name!r}: the names of movies and actions cannot hold commas, quotes, braces or "
                "line ends; rename it"
            )
    classes = LabelMap(tuple(range(1, len(names) + 1)), tuple(names))
    lines: dict[str, list[str]] = {"train": [], "val": []}
    for row in rows:
        corners = ",".join(f"{value:.6f}" for value in row.box_norm)
        start = f"{row.video},{format_second(row.second)},{corners}"
        labels = [str(names.index(action) + 1) for action in row.actions] or [""]
        split = "val" if row.video in val else "train"
        lines[split] += [f"{start},{label},{row.person}" for label in labels]
    if not lines["train"]:
        raise UserError("--val names every movie; none is left for training")
    folder = Path(out)
    items = (f'item {{\n  name: "{name}"\n  id: {k}\n}}\n' for k, name in enumerate(names, 1))
    write_text(folder / "classes.pbtxt", "".join(items))
    for split, text in lines.items():
        if text:
            write_text(folder / f"{split}.csv", "\n".join(text) + "\n")
    return classes


def _some(names: set[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:8]) + (f" and {len(shown) - 8} more" if len(shown) > 8 else "")
