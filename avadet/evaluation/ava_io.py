"""Reading the files of AVA: labelled boxes, label maps and exclusion lists.

Boxes come as ``.csv``, ``.csv.gz`` or Parquet. Ordinary CSV files are parsed in columns by
Arrow, whose number parser rounds as Python's does; whatever it refuses is read again row by row
by :mod:`avadet.evaluation.csv_rows`, which either understands it or says what is wrong and where.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Union

import numpy as np

from avadet.errors import UserError
from avadet.evaluation import ava_classes
from avadet.evaluation.arrow_columns import read_csv_columns, read_parquet_columns
from avadet.evaluation.csv_rows import numbered_rows, open_text, read_rows
from avadet.evaluation.tables import BoxTable, Codes, empty_table, from_columns

BoxSource = Union[str, "os.PathLike[str]", BoxTable, Mapping[str, Any], Any]

_HIGHEST_ID = 30_000
_PARQUET_SUFFIXES = (".parquet", ".pq")


def read_boxes(source: BoxSource, what: str = "boxes") -> BoxTable:
    """Reads labelled boxes from a path, a table, a data frame or a mapping of columns.

    Args:
        source: where they are; see :func:`avadet.evaluation.tables.from_columns` for the columns
            of in-memory tables.
        what: what to call an in-memory table in messages.

    Raises:
        UserError: the file is missing or malformed; the message names file and line.
    """
    if isinstance(source, BoxTable):
        return source
    if not isinstance(source, (str, os.PathLike)):
        if source is None:
            return empty_table(what)
        return from_columns(source, what)
    path = Path(source)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.suffix in _PARQUET_SUFFIXES:
        return read_parquet_columns(path)
    if path.stat().st_size == 0:
        return empty_table(str(path))
    width = 0 if _has_byte_order_mark(path) else _first_row_width(path)
    table = read_csv_columns(path, width) if width in (7, 8) else None
    return read_rows(path) if table is None else table


def _first_row_width(path: Path) -> int:
    for _, row in numbered_rows(path):
        return len(row)
    return 0


def _has_byte_order_mark(path: Path) -> bool:
    with open_text(path) as stream:
        try:
            return stream.read(1) == "\ufeff"
        except (UnicodeDecodeError, OSError, EOFError):
            return False


def read_excluded(source: BoxSource) -> BoxTable:
    """Reads an exclusion list (rows ``video,timestamp``) into the bare rows of a table.

    In memory it may be an iterable of (video, second) pairs.

    Raises:
        UserError: a row has not exactly two columns, or the file is missing.
    """
    if isinstance(source, BoxTable):
        return source
    if not isinstance(source, (str, os.PathLike)):
        pairs = [(str(pair[0]), pair[1]) for pair in source]
        frame = {"video": [v for v, _ in pairs], "second": [s for _, s in pairs]}
        blank = np.zeros(len(pairs))
        table = from_columns(
            {**frame, "x1": blank, "y1": blank, "x2": blank, "y2": blank, "label": blank},
            "excluded frames",
        )
        return _bare(table.source, table.videos, table.times, table.video, table.time)
    path = Path(source)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    videos: dict[str, int] = {}
    times: dict[str, int] = {}
    codes: list[tuple[int, int]] = []
    for line, row in numbered_rows(path):
        if len(row) != 2:
            raise UserError(
                f"{path}:{line}: {len(row)} columns; an exclusion list has rows video_id,timestamp"
            )
        codes.append((videos.setdefault(row[0], len(videos)), times.setdefault(row[1], len(times))))
    both = np.array(codes, dtype=np.int32).reshape(-1, 2)
    return _bare(str(path), tuple(videos), tuple(times), both[:, 0], both[:, 1])


def _bare(
    source: str, videos: tuple[str, ...], times: tuple[str, ...], video: Codes, time: Codes
) -> BoxTable:
    none = np.zeros(0)
    codes = np.zeros(0, dtype=np.int32)
    return BoxTable(
        source, videos, times, codes, codes, none, none, none, none,
        np.zeros(0, dtype=np.int64), none, bare_video=video, bare_time=time,
        bare_lines=np.arange(1, len(video) + 1),
    )  # fmt: skip


LabelSource = Union[str, "os.PathLike[str]", Mapping[int, str], Iterable[int], None]


def read_label_map(source: LabelSource) -> dict[int, str]:
    """The classes that are scored: id -> name.

    A label map file is read as the official reader does: a line that starts with exactly two
    blanks and ``name:`` gives the name between its first pair of double quotes, a line that starts
    with two blanks and ``id:`` or ``label_id:`` ends a class.

    Args:
        source: a pbtxt file, a mapping of names, ids alone, or None for the 60 scored AVA classes.

    Raises:
        UserError: no class is found, an id is below 1 or no number, a name has no quotes.
    """
    if source is None:
        return dict(ava_classes.SCORED)
    if not isinstance(source, (str, os.PathLike)):
        if isinstance(source, Mapping):
            classes = {int(key): str(name) for key, name in source.items()}
        else:
            classes = {int(key): ava_classes.ALL.get(int(key), str(key)) for key in source}
        return _checked(classes, "the label map")
    path = Path(source)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"{path}: cannot read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text; is this a label map (pbtxt)?") from error
    classes = {}
    name = ""
    for number, line in enumerate(lines, start=1):
        if line.startswith("  name:"):
            if line.count('"') < 1:
                raise UserError(f'{path}:{number}: the name must stand in double quotes: name: "x"')
            name = line.split('"')[1]
        elif line.startswith(("  id:", "  label_id:")):
            try:
                classes[int(line.strip().split(" ")[-1])] = name
            except ValueError:
                raise UserError(f"{path}:{number}: {line.strip()!r} ends in no number") from None
    return _checked(classes, str(path))


def _checked(classes: dict[int, str], source: str) -> dict[int, str]:
    if not classes:
        raise UserError(
            f"{source}: no class found; each class takes lines of its own that start with exactly "
            'two blanks:\n  name: "stand"\n  id: 12'.replace("\n", " | ")
        )
    if max(classes) > _HIGHEST_ID:
        raise UserError(f"{source}: class id {max(classes)} is above {_HIGHEST_ID}")
    if min(classes) < 1:
        raise UserError(f"{source}: class id {min(classes)} is below 1; AVA ids start at 1")
    return classes
