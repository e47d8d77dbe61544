"""Labelled boxes as columns: what an AVA file holds once it is read.

Legend: N rows (box, label), B bare rows (a keyframe without boxes).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from avadet.errors import UserError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Codes = NDArray[np.int32]
Bools = NDArray[np.bool_]

# Names under which columns of data frames, dictionaries and Parquet files are found.
ALIASES: dict[str, tuple[str, ...]] = {
    "video": ("video", "video_id", "video_name", "movie"),
    "second": ("second", "timestamp", "time", "middle_frame_timestamp", "sec"),
    "x1": ("x1", "xmin", "x_min"),
    "y1": ("y1", "ymin", "y_min"),
    "x2": ("x2", "xmax", "x_max"),
    "y2": ("y2", "ymax", "y_max"),
    "label": ("label", "action_id", "class_id", "action", "label_id"),
    "score": ("score", "confidence", "person_id", "entity_id"),
}


def _no_codes() -> Codes:
    return np.zeros(0, dtype=np.int32)


@dataclass(frozen=True)
class BoxTable:
    """One file (or in-memory table) of labelled boxes, exactly as written.

    Attributes:
        source: file name, or what to call an in-memory table in messages.
        videos: distinct video ids; ``video`` (N,) indexes them.
        times: distinct timestamps as spelled; ``time`` (N,) indexes them.
        x1, y1, x2, y2: corners (N,), any unit, as written.
        label: class ids (N,) as on disk (AVA: 1..80).
        score: (N,); 1.0 where the row has no eighth column.
        unscored: (N,) true where the row has no eighth column; None when every row has one.
        bare_video, bare_time: (B,) codes of rows that only name a keyframe.
        bare_lines: (B,) their lines.
        bad_score: (line, text) of the first eighth column that is no number. Official readers
            refuse it; PySlowFast does not read that column in ground truth.
        lines: (N,) line of each row; None when row i stands in line i + 1.
        in_memory: rows have no lines.
        notes: warnings of the reader.
    """

    source: str
    videos: tuple[str, ...]
    times: tuple[str, ...]
    video: Codes
    time: Codes
    x1: Floats
    y1: Floats
    x2: Floats
    y2: Floats
    label: NDArray[Any]
    score: Floats
    unscored: Bools | None = None
    bare_video: Codes = field(default_factory=_no_codes)
    bare_time: Codes = field(default_factory=_no_codes)
    bare_lines: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    bad_score: tuple[int, str] | None = None
    lines: Ints | None = None
    in_memory: bool = False
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.label)

    def where(self, row: int) -> str:
        """Names a row for a message: ``file:line``, or ``table, row i``."""
        if self.in_memory:
            return f"{self.source}, row {row}"
        line = row + 1 if self.lines is None else int(self.lines[row])
        return f"{self.source}:{line}"

    def boxes(self, rows: Ints | None = None) -> Floats:
        """Corners x1, y1, x2, y2 of the rows, (N, 4)."""
        columns = (self.x1, self.y1, self.x2, self.y2)
        if rows is not None:
            columns = tuple(c[rows] for c in columns)  # type: ignore[assignment]
        return np.stack(columns, axis=1) if len(columns[0]) else np.zeros((0, 4))


def empty_table(source: str) -> BoxTable:
    """A table without rows."""
    none = np.zeros(0)
    return BoxTable(
        source, (), (), _no_codes(), _no_codes(), none, none, none, none,
        np.zeros(0, dtype=np.int64), none, in_memory=True,
    )  # fmt: skip


def from_columns(columns: Any, source: str) -> BoxTable:
    """Makes a table from a data frame or a mapping of columns.

    Columns are found by name (see ``ALIASES``): video, second, the corners as ``x1 y1 x2 y2`` or
    as ``boxes`` (N, 4), label, and optionally score. Seconds may be numbers or text.

    Raises:
        UserError: a column is missing, has another length, or holds values of the wrong kind.
    """
    get = _finder(columns, source)
    boxes = columns.get("boxes") if isinstance(columns, Mapping) else None
    if boxes is not None:
        corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        x1, y1, x2, y2 = (np.ascontiguousarray(corners[:, i]) for i in range(4))
    else:
        x1, y1, x2, y2 = (_floats(get(name), name, source) for name in ("x1", "y1", "x2", "y2"))
    videos, video = _encode(get("video"))
    times, time = _encode(get("second"))
    label = _integers(get("label"), source)
    given = get("score", required=False)
    score = np.ones(len(label)) if given is None else _floats(given, "score", source)
    unscored = np.ones(len(label), dtype=bool) if given is None else None
    lengths = {len(c) for c in (video, time, x1, y1, x2, y2, label, score)}
    if len(lengths) > 1:
        raise UserError(f"{source}: columns have different lengths {sorted(lengths)}")
    return BoxTable(
        source, videos, times, video, time, x1, y1, x2, y2, label, score, unscored, in_memory=True
    )


def _finder(columns: Any, source: str) -> Any:
    names = list(columns.keys())

    def get(what: str, required: bool = True) -> Any:
        for alias in ALIASES[what]:
            if alias in names:
                return columns[alias]
        if required:
            raise UserError(
                f"{source}: no column {what!r}; it may be called {', '.join(ALIASES[what])}; "
                f"found {', '.join(map(str, names))}"
            )
        return None

    return get


def _floats(values: ArrayLike, name: str, source: str) -> Floats:
    try:
        return np.ascontiguousarray(np.asarray(values, dtype=np.float64).reshape(-1))
    except (TypeError, ValueError) as error:
        raise UserError(f"{source}: column {name!r} must hold numbers: {error}") from error


def _integers(values: ArrayLike, source: str) -> Ints:
    raw = np.asarray(values).reshape(-1)
    try:
        whole = raw.astype(np.int64)
        if raw.dtype.kind == "f" and not bool((whole == raw).all()):
            raise ValueError("not whole numbers")
    except (TypeError, ValueError) as error:
        raise UserError(f"{source}: column 'label' must hold class ids: {error}") from error
    return np.asarray(whole)


def _encode(values: Any) -> tuple[tuple[str, ...], Codes]:
    """Distinct values as text and the code of each row."""
    import pandas as pd

    codes, distinct = pd.factorize(np.asarray(values).reshape(-1))
    return tuple(_spelled(value) for value in distinct), codes.astype(np.int32)


def _spelled(value: Any) -> str:
    # 902.0 in memory means second 902: a number has no spelling of its own, so the readers of
    # whole seconds may take it.
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return repr(float(value)) if isinstance(value, (float, np.floating)) else str(value)
