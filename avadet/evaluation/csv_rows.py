"""The exact reader: the csv module row by row, every oddity named with file and line.

Ordinary files never come here (:mod:`avadet.evaluation.ava_io` reads them in columns); a file
with two-column rows, rows of both 7 and 8 columns, odd spellings of numbers, or an error does.
The rules are those of the official reader (Python's csv, float and int).
"""

from __future__ import annotations

import csv
import gzip
import io
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import numpy as np

from avadet.errors import UserError
from avadet.evaluation.tables import BoxTable

_COLUMNS = "video_id,timestamp,x1,y1,x2,y2,action_id[,score]"


def open_text(path: Path) -> TextIO:
    """Opens a CSV file, gzipped or not, for the csv module.

    Raises:
        UserError: it is missing or unreadable.
    """
    try:
        if path.suffix == ".gz":
            return io.TextIOWrapper(gzip.open(path), encoding="utf-8", newline="")
        return path.open(encoding="utf-8", newline="")
    except OSError as error:
        raise UserError(f"{path}: cannot read: {error.strerror}") from error


def numbered_rows(
    path: Path, what: str = "a CSV file in the AVA format"
) -> Iterator[tuple[int, list[str]]]:
    """Yields (line number, fields); a byte order mark at the start is skipped.

    Args:
        what: it should be, for messages.

    Raises:
        UserError: the file is no text, is damaged, or breaks the rules of CSV.
    """
    line = 0
    with open_text(path) as stream:
        try:
            reader = csv.reader(stream)
            for row in reader:
                if line == 0 and row and row[0].startswith("\ufeff"):
                    row[0] = row[0].removeprefix("\ufeff").strip('"')
                line += 1
                # A quoted field may span lines; the reader knows where it stands.
                yield max(line, reader.line_num), row
        except UnicodeDecodeError as error:
            raise UserError(f"{path}:{line + 1}: not UTF-8 text; is this {what}?") from error
        except csv.Error as error:
            raise UserError(f"{path}:{line + 1}: {error}") from error
        except (EOFError, OSError) as error:
            raise UserError(f"{path}: damaged after line {line}: {error}") from error


class _Codes:
    """Text to small integers, in order of first appearance."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}
        self.codes = array("i")

    def of(self, text: str) -> int:
        return self.known.setdefault(text, len(self.known))


def read_rows(path: Path) -> BoxTable:
    """Reads labelled boxes row by row.

    Raises:
        UserError: naming file and line: a wrong number of columns, a blank line, a header, a
            number that is none, an action id that is no whole number.
    """
    videos, times = _Codes(), _Codes()
    corners = [array("d") for _ in range(4)]
    labels, scores, lines = array("q"), array("d"), array("q")
    unscored = array("b")
    bare_video, bare_time = array("i"), array("i")
    bare_lines = array("q")
    bad_score: tuple[int, str] | None = None
    for line, row in numbered_rows(path):
        if len(row) not in (2, 7, 8):
            raise UserError(f"{path}:{line}: {_wrong_count(row)}")
        video, time = videos.of(row[0]), times.of(row[1])
        if len(row) == 2:
            bare_video.append(video)
            bare_time.append(time)
            bare_lines.append(line)
            continue
        try:
            x1, y1, x2, y2 = (float(value) for value in row[2:6])
            label = int(row[6])
        except ValueError:
            raise UserError(f"{path}:{line}: {_wrong_number(row, line)}") from None
        if not -(1 << 62) < label < 1 << 62:
            raise UserError(f"{path}:{line}: action id {row[6]!r} is no class")
        score = 1.0
        if len(row) == 8:
            try:
                score = float(row[7])
            except ValueError:
                bad_score = bad_score or (line, row[7])
        for column, value in zip(corners, (x1, y1, x2, y2)):
            column.append(value)
        videos.codes.append(video)
        times.codes.append(time)
        labels.append(label)
        scores.append(score)
        unscored.append(len(row) == 7)
        lines.append(line)
    missing = np.frombuffer(unscored, dtype=np.int8).astype(bool)
    x1_, y1_, x2_, y2_ = (np.array(column, dtype=np.float64) for column in corners)
    return BoxTable(
        str(path),
        tuple(videos.known),
        tuple(times.known),
        np.array(videos.codes, dtype=np.int32),
        np.array(times.codes, dtype=np.int32),
        x1_,
        y1_,
        x2_,
        y2_,
        np.array(labels, dtype=np.int64),
        np.array(scores, dtype=np.float64),
        unscored=missing if missing.any() else None,
        bare_video=np.array(bare_video, dtype=np.int32),
        bare_time=np.array(bare_time, dtype=np.int32),
        bare_lines=np.array(bare_lines, dtype=np.int64),
        bad_score=bad_score,
        lines=np.array(lines, dtype=np.int64),
    )


def _wrong_count(row: list[str]) -> str:
    if not row:
        return "the line is empty; remove it"
    for separator, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(row) == 1 and row[0].count(separator) >= 6:
            return f"columns are separated by {name}; write them with commas: {_COLUMNS}"
    return f"{len(row)} columns; a row has 7 or 8 ({_COLUMNS}), or 2 (video_id,timestamp)"


def _wrong_number(row: list[str], line: int) -> str:
    fields = list(zip(("x1", "y1", "x2", "y2"), row[2:6], (float,) * 4))
    wrong = []
    for name, text, kind in [*fields, ("action_id", row[6], int)]:
        try:
            kind(text)
        except ValueError:
            wrong.append((name, text))
    if line == 1 and len(wrong) >= 4:
        return "this looks like a header line; the AVA format has none, remove it"
    name, text = wrong[0]
    if name == "action_id":
        return f"action_id {text!r} is no whole number; one row per box and action, ids as in AVA"
    return f"{name} {text!r} is no number"
