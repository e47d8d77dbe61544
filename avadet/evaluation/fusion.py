"""Late fusion: the weighted mean of what several networks say of the same boxes, or clips.

So the two streams of pictures and of optical flow are joined (Simonyan and Zisserman, NIPS 2014).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from avadet.errors import UserError
from avadet.evaluation.ava_io import read_boxes
from avadet.evaluation.clip_scores import ClipTable, read_clip_scores
from avadet.evaluation.frames import FrameIndex
from avadet.evaluation.tables import BoxTable, Floats, Ints
from avadet.files import atomic_path

# Decimals of corners that make two boxes the same one. Some writers keep three only.
_DECIMALS = (6, 3)
_CHUNK = 100_000


@dataclass(frozen=True)
class FusedBoxes:
    """Scored boxes of several files.

    Attributes:
        tables: the files.
        source, row: (N,) where each fused row stands first.
        score: (N,) the weighted means.
        boxes: how many boxes there are.
        filled: scores that a file did not have (it leaves out small ones) and that counted as 0.
    """

    tables: tuple[BoxTable, ...]
    source: Ints
    row: Ints
    score: Floats
    boxes: int
    filled: int

    def write(self, path: str | Path) -> None:
        """Rows ``video,second,x1,y1,x2,y2,action id,score``, in the order of the first file."""
        with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            for start in range(0, len(self.score), _CHUNK):
                part = slice(start, start + _CHUNK)
                file.writelines(
                    f"{self._prefix(int(s), int(r))},{score}\n"
                    for s, r, score in zip(
                        self.source[part],
                        self.row[part],
                        self.score[part].astype(np.float32).astype(str),
                    )
                )

    def _prefix(self, source: int, row: int) -> str:
        table = self.tables[source]
        corners = np.asarray(
            [table.x1[row], table.y1[row], table.x2[row], table.y2[row]], np.float32
        )
        second = table.times[table.time[row]]
        where = f"{table.videos[table.video[row]]},{second}"
        return f"{where},{','.join(corners.astype(str))},{int(table.label[row])}"


def check_weights(weights: Sequence[float] | None, count: int) -> Floats:
    """Weights that sum to 1; equal ones where None are given.

    Raises:
        UserError: not one per file, negative, or all 0.
    """
    if count < 2:
        raise UserError("fusion needs two files at least")
    if weights is None:
        weights = [1.0] * count
    if len(weights) != count:
        raise UserError(f"{len(weights)} weights for {count} files; give one each")
    values = np.asarray(weights, np.float64)
    if not np.isfinite(values).all() or values.min() < 0 or values.sum() <= 0:
        raise UserError(f"weights {list(weights)}: must be 0 or more, and not all 0")
    return values / values.sum()


def fuse_boxes(paths: Sequence[str | Path], weights: Sequence[float] | None = None) -> FusedBoxes:
    """Fuses detections in AVA's form. Boxes are the same where keyframe and corners are.

    Raises:
        UserError: a file is missing or malformed, has no scores, or has other boxes than the
            others (both streams must score the same proposals).
    """
    shares = check_weights(weights, len(paths))
    tables = tuple(read_boxes(path) for path in paths)
    for table in tables:
        _check(table)
    lengths = [len(table) for table in tables]
    source = np.repeat(np.arange(len(tables)), lengths)
    labels = np.concatenate([np.asarray(table.label, np.int64) for table in tables])
    labels = pd.factorize(labels)[0].astype(np.int64)
    problem = ""
    for decimals in _DECIMALS:
        box = _box_codes(tables, decimals)
        entry = _joined(box, labels)
        problem = _differences(tables, source, box, entry)
        if not problem:
            break
    else:
        raise UserError(problem)
    first = np.unique(entry, return_index=True)[1]
    scores = np.concatenate([table.score for table in tables])
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    return FusedBoxes(
        tables=tables,
        source=source[first],
        row=first - starts[source[first]],
        score=np.bincount(entry, weights=scores * shares[source]).astype(np.float64),
        boxes=int(box.max()) + 1,
        filled=len(first) * len(tables) - len(entry),
    )


def fuse_clips(paths: Sequence[str | Path], weights: Sequence[float] | None = None) -> ClipTable:
    """Fuses the scores of clips that ``avadet eval`` writes.

    Raises:
        UserError: a file is no such one, or has other clips, labels or classes than the first.
    """
    shares = check_weights(weights, len(paths))
    parts = [read_clip_scores(path) for path in paths]
    first, order = parts[0], np.argsort(parts[0].names)
    total = np.zeros(first.scores.shape)
    for path, part, share in zip(paths, parts, shares):
        if part.scores.shape != first.scores.shape or set(part.names) != set(first.names):
            raise UserError(
                f"{path}: scores of {part.scores.shape} clips and classes, but {paths[0]} has "
                f"{first.scores.shape}, or other clips; score both on one list"
            )
        total[order] += share * part.scores[np.argsort(part.names)]
        if not np.array_equal(part.labels[np.argsort(part.names)], first.labels[order]):
            raise UserError(f"{path}: other labels than {paths[0]} for some clips")
    return ClipTable(first.names, first.labels, total)


def _check(table: BoxTable) -> None:
    """Raises UserError where a table is empty, or a row has no score or is no number somewhere."""
    if not len(table):
        raise UserError(f"{table.source}: holds no detections")
    if table.unscored is not None and table.unscored.any():
        row = int(np.flatnonzero(table.unscored)[0])
        raise UserError(f"{table.where(row)}: has no score (an eighth column)")
    for name in ("x1", "y1", "x2", "y2", "score"):
        wrong = np.flatnonzero(~np.isfinite(getattr(table, name)))
        if len(wrong):
            raise UserError(f"{table.where(int(wrong[0]))}: {name} is no finite number; correct it")


def _box_codes(tables: Sequence[BoxTable], decimals: int) -> Ints:
    """A number for each box, over all files, in the order of their first rows."""
    frames = FrameIndex(list(tables), whole_seconds=False)
    columns = [np.concatenate([frames.ids(table) for table in tables])]
    for name in ("x1", "y1", "x2", "y2"):
        corners = np.concatenate([getattr(table, name) for table in tables])
        columns.append(np.round(corners * 10.0**decimals))
    key = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        key = _joined(key, pd.factorize(column)[0].astype(np.int64))
    return key


def _joined(left: Ints, right: Ints) -> Ints:
    """A number for each pair, in the order of first occurrence."""
    codes: Ints = pd.factorize(left * (int(right.max()) + 1) + right)[0].astype(np.int64)
    return codes


def _differences(tables: Sequence[BoxTable], source: Ints, box: Ints, row: Ints) -> str:
    """Why the files do not speak of the same boxes, or "" where they do."""
    count = len(tables)
    pairs = row * count + source
    if len(np.unique(pairs)) < len(pairs):
        place = int(np.flatnonzero(pd.Series(pairs).duplicated().to_numpy())[0])
        s = int(source[place])
        start = sum(len(table) for table in tables[:s])
        return f"{tables[s].where(place - start)}: this box and action stand twice in the file"
    for s, table in enumerate(tables):
        missing = int(box.max()) + 1 - len(np.unique(box[source == s]))
        if missing:
            return (
                f"{table.source}: lacks {missing} of {int(box.max()) + 1} boxes of the files "
                "together; score all streams on the same person boxes"
            )
    return ""
