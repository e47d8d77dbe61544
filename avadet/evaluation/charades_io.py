"""The files of Charades: the official annotation CSV, and the submissions of its two tasks.

Nothing of Charades lies in this package: its licence forbids to hand on even single rows. People
download the archive from the data set's own page (docs/data.md).
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avadet.errors import UserError
from avadet.evaluation.csv_rows import numbered_rows, open_text
from avadet.evaluation.tables import Floats
from avadet.files import write_text

logger = logging.getLogger(__name__)

NUM_CLASSES = 157
POINTS = 25

_FORM = "actions must look like 'c092 11.90 21.20;c147 0.00 12.60'"


@dataclass(frozen=True)
class CharadesVideo:
    """One video of the ground truth.

    Attributes:
        name: video id.
        length: seconds; NaN where the file does not say.
        actions: (class, start, end) in seconds.
    """

    name: str
    length: float
    actions: tuple[tuple[int, float, float], ...]


def read_groundtruth(path: str | Path, num_classes: int = NUM_CLASSES) -> list[CharadesVideo]:
    """Reads Charades_v1_test.csv or _train.csv (columns id, actions, length are used).

    The official training file holds seven actions that end before they start. They are kept, as
    they name a class of the video, and cover no moment of it.

    Raises:
        UserError: a column is missing, a row is cut off, an id stands twice, a length or an
            action is malformed; with file and line.
    """
    path = Path(path)
    rows = numbered_rows(path, "a CSV file of Charades")
    _, header = next(rows, (1, []))
    place = {name.strip(): index for index, name in enumerate(header)}
    for name in ("id", "actions"):
        if name not in place:
            raise UserError(
                f"{path}:1: no column {name!r}; Charades files start with the header "
                "'id,subject,scene,...,actions,length'"
            )
    videos: list[CharadesVideo] = []
    seen: dict[str, int] = {}
    reversed_times = 0
    for line, row in rows:
        if not row:
            continue
        where = f"{path}:{line}"
        if len(row) != len(header):
            raise UserError(
                f"{where}: {len(row)} fields, but the header names {len(header)}; texts with "
                "commas stand in double quotes"
            )
        name = row[place["id"]].strip()
        if not name or any(mark.isspace() for mark in name):
            raise UserError(f"{where}: {name!r} is no video id")
        if name in seen:
            raise UserError(f"{where}: video {name} stood in line {seen[name]} already")
        seen[name] = line
        length = _length(row[place["length"]], where) if "length" in place else math.nan
        actions = parse_actions(row[place["actions"]], where, num_classes)
        reversed_times += sum(end < start for _, start, end in actions)
        videos.append(CharadesVideo(name, length, actions))
    if not videos:
        raise UserError(f"{path}: no video in the file")
    if reversed_times:
        logger.warning(
            "%s: %d actions end before they start; they cover no moment", path, reversed_times
        )
    return videos


def _length(text: str, where: str) -> float:
    if not text.strip():
        return math.nan
    try:
        length = float(text)
    except ValueError:
        length = math.nan
    if not 0 < length < math.inf:
        raise UserError(f"{where}: length {text!r} is not a number of seconds above 0")
    return length


def parse_actions(
    text: str, where: str, num_classes: int = NUM_CLASSES
) -> tuple[tuple[int, float, float], ...]:
    """The actions of ``c092 11.90 21.20;c147 0.00 12.60``.

    Args:
        where: file and line, for messages.

    Raises:
        UserError: another form, an unknown class, a time that is none.
    """
    actions = []
    for part in filter(None, (each.strip() for each in text.split(";"))):
        fields = part.split()
        match = re.fullmatch(r"c(\d+)", fields[0], flags=re.ASCII)
        if match is None or len(fields) != 3:
            raise UserError(f"{where}: {_FORM}, not {part!r}")
        if int(match[1]) >= num_classes:
            raise UserError(f"{where}: {fields[0]} lies outside c000..c{num_classes - 1:03d}")
        try:
            start, end = float(fields[1]), float(fields[2])
        except ValueError:
            raise UserError(f"{where}: {_FORM}, not {part!r}") from None
        if not (0 <= start < math.inf and 0 <= end < math.inf):
            raise UserError(f"{where}: {part!r}: times are seconds from 0 on")
        actions.append((int(match[1]), start, end))
    return tuple(actions)


def read_scores(
    path: str | Path, num_classes: int = NUM_CLASSES, localize: bool = False
) -> dict[str, Floats] | dict[tuple[str, int], Floats]:
    """Reads a submission: ``id [point] score score ...``, separated by blanks or tabs.

    Returns:
        id -> (num_classes,), or with ``localize`` (id, point) -> (num_classes,), points from 1.

    Raises:
        UserError: a line has another number of scores, something that is no number, or a video
            or point that had its line already.
    """
    path = Path(path)
    head = 2 if localize else 1
    scores: dict[Any, Floats] = {}
    points = []
    for number, line in _lines(path, "a Charades submission"):
        parts = line.split()
        if len(parts) != head + num_classes:
            raise UserError(
                f"{path}:{number}: {len(parts) - head} scores instead of {num_classes}; a line "
                f"is the video id{', the point (1..25)' if localize else ''} and the scores"
            )
        try:
            values = np.array(parts[head:], dtype=np.float64)
            point = int(parts[1]) if localize else 0
        except ValueError:
            raise UserError(f"{path}:{number}: a score is no number") from None
        if np.isnan(values).any():
            raise UserError(f"{path}:{number}: a score is not a number (nan)")
        key = (parts[0], point) if localize else parts[0]
        if key in scores:
            raise UserError(f"{path}:{number}: a second line for {' '.join(parts[:head])}")
        points.append(point)
        scores[key] = values
    if localize and points and min(points) == 0:
        logger.warning("%s: points are counted from 0; shifted by one", path)
        scores = {(name, point + 1): values for (name, point), values in scores.items()}
    return scores


def write_scores(
    path: str | Path, scores: Mapping[str, Floats] | Mapping[tuple[str, int], Floats]
) -> None:
    """Writes a submission that the official scripts read, sorted by video and point.

    Args:
        scores: (video, or video and point from 1) -> (K,). Nine digits: float32 comes back as it
            was.

    Raises:
        UserError: the file cannot be written.
    """
    rows: Sequence[Any] = sorted(scores.items(), key=lambda item: item[0])
    lines = []
    for key, values in rows:
        head = f"{key[0]} {key[1]}" if isinstance(key, tuple) else key
        lines.append(f"{head} {' '.join(f'{value:.9g}' for value in values.tolist())}\n")
    write_text(path, "".join(lines))


def read_classes(path: str | Path) -> tuple[str, ...]:
    """The names of Charades_v1_classes.txt: lines ``c000 words``, numbered from 0 without gaps.

    Returns:
        whole lines: the id stays part of the name.

    Raises:
        UserError: unreadable, empty, or a line out of place.
    """
    path = Path(path)
    names: list[str] = []
    for number, line in _lines(path, "Charades_v1_classes.txt"):
        text = " ".join(line.split())
        match = re.match(r"c(\d+)\b", text, flags=re.ASCII)
        if match is None or int(match[1]) != len(names):
            raise UserError(
                f"{path}:{number}: expected class c{len(names):03d} and its name, found {text!r}"
            )
        names.append(text)
    if not names:
        raise UserError(f"{path}: holds no classes")
    return tuple(names)


def _lines(path: Path, what: str) -> Iterator[tuple[int, str]]:
    """(number, text) of each line that is not blank, without a byte order mark."""
    number = 0
    with open_text(path) as stream:
        try:
            for number, line in enumerate(stream, start=1):
                text = line.removeprefix("\ufeff") if number == 1 else line
                if text.strip():
                    yield number, text
        except UnicodeDecodeError:
            raise UserError(f"{path}:{number + 1}: not UTF-8 text; is this {what}?") from None
        except (EOFError, OSError) as error:
            raise UserError(f"{path}: damaged after line {number}: {error}") from error


def class_ids(num_classes: int = NUM_CLASSES) -> tuple[str, ...]:
    """c000, c001, ...: what the classes are called where their names are not at hand."""
    return tuple(f"c{number:03d}" for number in range(num_classes))
