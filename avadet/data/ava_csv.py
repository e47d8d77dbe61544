"""AVA's annotation files: the one place where disk meets memory.

Rows have no header: ``video,second,x1,y1,x2,y2,action id`` and then the person's number (ground
truth) or the detector's score (proposals). Coordinates are shares of the frame. Action ids start
at 1 on disk (80 of them on AVA) and become class indices 0..K-1 here. Rows of one keyframe with
the same coordinates are one box with several labels. A row ``video,second`` names a keyframe
without boxes.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from avadet.data.box_table import BoxTable
from avadet.data.label_map import LabelMap, read_label_map
from avadet.errors import UserError
from avadet.files import atomic_path, read_text
from avadet.structures import Detections, Keyframe

__all__ = [
    "LabelMap",
    "read_excluded",
    "read_file_names",
    "read_groundtruth",
    "read_label_map",
    "read_proposals",
    "write_detections_csv",
    "write_proposals_csv",
]

_log = logging.getLogger(__name__)

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

_CORNERS = ["x1", "y1", "x2", "y2"]
_COLUMNS = ["video", "second", *_CORNERS, "label", "extra"]
_NUMBERS = ["second", *_CORNERS, "label"]
# Detectors overshoot the frame a little; anything beyond this is not a share of the frame.
_FAR_OUTSIDE = 1.0
_ROWS_AT_ONCE = 100_000
_LARGEST_ID = 2**31 - 1


def read_groundtruth(paths: Paths, label_map: LabelMap | None = None) -> BoxTable:
    """Ground truth from one or more files.

    Args:
        label_map: the classes kept; labels of others are dropped, their boxes stay (a person who
            does none of the classes). Without it AVA's ids 1..80 are classes 0..79.

    Raises:
        UserError: a file is missing, or a row is wrong (named by file and line).
    """
    return BoxTable.concatenate(
        [_read_boxes(path, label_map, scored=False) for path in _as_paths(paths)]
    )


def read_proposals(
    paths: Paths, score_threshold: float = 0.0, label_map: LabelMap | None = None
) -> BoxTable:
    """Detected people from one or more files.

    The score is the eighth column and 1 where there is none. Boxes with a score below
    ``score_threshold`` are dropped. ``labelled`` of the result is false where no row of the
    files says anything about actions: labels then come from the ground truth by overlap. An
    empty label, or -1, in a file that labels other boxes is a person who does none of the
    classes.

    Raises:
        UserError: as ``read_groundtruth``.
    """
    tables = [_read_boxes(path, label_map, scored=True) for path in _as_paths(paths)]
    table = BoxTable.concatenate(tables)
    return table.select(table.scores >= score_threshold)


def read_excluded(paths: Paths) -> frozenset[Keyframe]:
    """Keyframes that are neither trained nor scored on: rows ``video,second``.

    Raises:
        UserError: a file is missing or a row is wrong.
    """
    found: set[Keyframe] = set()
    for path in _as_paths(paths):
        for frame in _read_csv(Path(path), ["video", "second"], ["second"]):
            bad = frame["second"].isna() | (frame["video"] == "")
            if bad.any():
                raise UserError(f"{path}:{_line(bad)}: expected 'video,second'")
            found.update(map(Keyframe, frame["video"], frame["second"].astype(float)))
    return frozenset(found)


def read_file_names(path: str | os.PathLike[str]) -> list[str]:
    """Names of movies, one a line, without folder and suffix (AVA's ``ava_file_names_*.txt``).

    Raises:
        UserError: the file is missing.
    """
    lines = read_text(path, "a list of movies").splitlines()
    suffixes = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v")
    names = [Path(line.strip()).name for line in lines if line.strip()]
    return [Path(name).stem if name.lower().endswith(suffixes) else name for name in names]


def write_detections_csv(
    path: str | os.PathLike[str],
    detections: Iterable[Detections],
    class_ids: Sequence[int] | None = None,
) -> int:
    """Writes one row per box and class: ``video,second,x1,y1,x2,y2,action id,score``.

    Numbers are written so that reading gives the same float32 back: scoring the file and
    scoring the memory agree to the last digit.

    Args:
        class_ids: the number on disk of each class; 1..K when None.

    Returns:
        The number of rows.

    Raises:
        ValueError: scores that are not finite, or not one per class id.
    """
    count = 0
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for found in detections:
            if not np.isfinite(found.scores).all():
                raise ValueError(f"{found.keyframe}: scores that are not finite")
            num_classes = found.scores.shape[1]
            ids = list(class_ids) if class_ids is not None else list(range(1, num_classes + 1))
            if len(found) and len(ids) != num_classes:
                raise ValueError(f"{num_classes} scores per box but {len(ids)} class ids")
            texts = found.scores.astype(np.float32).astype(str)
            for prefix, row in zip(_prefixes(found), texts.tolist()):
                file.writelines(f"{prefix},{n},{score}\n" for n, score in zip(ids, row))
                count += len(row)
    return count


def write_proposals_csv(path: str | os.PathLike[str], detections: Iterable[Detections]) -> int:
    """Writes one row per person: ``video,second,x1,y1,x2,y2,,score``; returns their number."""
    count = 0
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for found in detections:
            scores = found.person_scores.astype(np.float32).astype(str).tolist()
            for prefix, score in zip(_prefixes(found), scores):
                file.write(f"{prefix},,{score}\n")
                count += 1
    return count


def format_second(second: float) -> str:
    """``0902`` for whole seconds, as AVA writes them; else to the microsecond."""
    whole = round(second)
    if abs(second - whole) < 5e-7:
        return f"{whole:04d}"
    return f"{second:.6f}".rstrip("0")


def _prefixes(found: Detections) -> list[str]:
    start = f"{found.keyframe.video},{format_second(found.keyframe.second)}"
    boxes = found.boxes_norm.astype(np.float32).astype(str).tolist()
    return [f"{start},{','.join(box)}" for box in boxes]


def _as_paths(paths: Paths) -> list[str | os.PathLike[str]]:
    return [paths] if isinstance(paths, str | os.PathLike) else list(paths)


def _line(bad: pd.Series) -> int:
    """Number of the first bad line; blank lines are read too, so that rows count lines."""
    return int(bad[bad].index[0]) + 1


def _read_csv(path: Path, columns: list[str], numbers: list[str]) -> Iterator[pd.DataFrame]:
    """All rows that are not blank, indexed by line number - 1; numbers as float64.

    They come in parts, so that the text of millions of rows is never in memory at once.
    """
    common: dict[str, Any] = {
        "header": None,
        "names": columns,
        "index_col": False,
        "skip_blank_lines": False,
        "keep_default_na": False,
        "skipinitialspace": True,
        "encoding": "utf-8",
    }
    texts = {column: str for column in columns if column not in numbers}
    # A movie has thousands of rows: its name is kept once.
    texts[columns[0]] = "category"
    empty = {column: [""] for column in numbers}
    try:
        parts = pd.read_csv(
            path,
            dtype={**texts, **dict.fromkeys(numbers, np.float64)},
            na_values=empty,
            chunksize=_ROWS_AT_ONCE,
            **common,
        )
        for frame in parts:
            blank = frame[columns[0]].isin([""]) | frame[columns[0]].isna()
            blank &= frame[numbers].isna().all(axis=1)
            yield frame[~blank]
    except pd.errors.EmptyDataError:
        return
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: cannot be read: not UTF-8 text; save it as UTF-8") from error
    except pd.errors.ParserError as error:
        raise UserError(f"{path}: {' '.join(str(error).split())}") from error
    except ValueError as error:
        raise _first_bad_number(path, common, columns, numbers) from error


def _first_bad_number(
    path: Path, common: dict[str, Any], columns: list[str], numbers: list[str]
) -> UserError:
    frame = pd.read_csv(path, dtype=str, **common).fillna("")
    values = frame[numbers].apply(pd.to_numeric, errors="coerce")
    bad = (values.isna() & (frame[numbers] != "")).any(axis=1)
    if bad.any():
        row = int(bad[bad].index[0])
        column = next(c for c in numbers if np.isnan(values[c][row]) and frame[c][row] != "")
        hint = "; remove the header line" if row == 0 else ""
        return UserError(
            f"{path}:{row + 1}: {frame[column][row]!r} is not a number ({column}){hint}; rows are "
            f"{','.join(columns)}"
        )
    return UserError(f"{path}: cannot be read as rows of {','.join(columns)}")


def _read_boxes(path: str | os.PathLike[str], label_map: LabelMap | None, scored: bool) -> BoxTable:
    path = Path(path)
    runs = _read_runs(path, scored)
    # One box is one set of coordinates in one keyframe, wherever in the file its rows are.
    key = runs.video.astype(np.int64)
    for column in [np.round(runs.second * 1e6), *runs.boxes.T]:
        codes, values = pd.factorize(column)
        key = pd.factorize(key * np.int64(len(values)) + codes)[0].astype(np.int64)
    _, first_run, box = np.unique(key, return_index=True, return_inverse=True)
    # Keyframes sorted; inside one the file's order.
    order = np.lexsort((first_run, runs.second[first_run], runs.video[first_run]))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    chosen = first_run[order]

    box_of_label, labels = _labels(path, runs.label, rank[box][runs.run_of_label], label_map)
    return BoxTable(
        videos=runs.videos,
        video=runs.video[chosen],
        second=runs.second[chosen],
        boxes_norm=np.clip(runs.boxes[chosen], 0, 1).astype(np.float32),
        scores=runs.score[chosen],
        first_label=np.searchsorted(box_of_label, np.arange(len(chosen) + 1)),
        labels=labels,
        labelled=not scored or bool((runs.label > 0).any()),
    )


class _Runs(NamedTuple):
    """Rows of a file; those in a row that differ in their label only are one run.

    R runs, N rows.

    Attributes:
        videos: names of the movies, sorted.
        video: (R,) int32 places in them.
        second: (R,) float64.
        boxes: (R,4) float64 as in the file.
        score: (R,) float32, 1 where there is none.
        label: (N,) int32 action id, -1 where there is none.
        run_of_label: (N,) int32.
    """

    videos: tuple[str, ...]
    video: np.ndarray
    second: np.ndarray
    boxes: np.ndarray
    score: np.ndarray
    label: np.ndarray
    run_of_label: np.ndarray


_NO_RUNS = _Runs(
    (),
    video=np.zeros(0, np.int32),
    second=np.zeros(0),
    boxes=np.zeros((0, 4)),
    score=np.zeros(0, np.float32),
    label=np.zeros(0, np.int32),
    run_of_label=np.zeros(0, np.int32),
)


def _read_runs(path: Path, scored: bool) -> _Runs:
    # The person's number of the ground truth is not needed, and in one public copy not a number.
    numbers = [*_NUMBERS, "extra"] if scored else _NUMBERS
    place: dict[str, int] = {}
    parts = [_NO_RUNS]
    count = 0
    for frame in _read_csv(path, _COLUMNS, numbers):
        frame = frame[~frame[_CORNERS].isna().all(axis=1)]
        if not len(frame):
            continue
        _check_rows(path, frame)
        names = frame["video"].cat
        known = [place.setdefault(str(name), len(place)) for name in names.categories]
        video = np.asarray(known, np.int32)[names.codes]
        values = frame[["second", *_CORNERS]].to_numpy(np.float64)
        new = np.ones(len(frame), dtype=bool)
        new[1:] = (values[1:] != values[:-1]).any(axis=1) | (video[1:] != video[:-1])
        score = np.ones(len(frame), np.float32)
        if scored:
            score = frame["extra"].fillna(1.0).to_numpy(np.float32)
        run = (np.cumsum(new) - 1 + count).astype(np.int32)
        count = int(run[-1]) + 1
        # An empty field and -1 both mean that the person does none of the classes.
        label = frame["label"].fillna(-1).clip(upper=_LARGEST_ID).to_numpy(np.int32)
        values = values[new]
        parts.append(_Runs((), video[new], values[:, 0], values[:, 1:], score[new], label, run))
    joined = [np.concatenate([part[n] for part in parts]) for n in range(1, len(_Runs._fields))]
    video = joined[0]
    given = list(place)
    used = np.unique(video).tolist()
    videos = tuple(sorted(given[n] for n in used))
    number = np.zeros(len(given), dtype=np.int32)
    number[used] = [videos.index(given[n]) for n in used]
    return _Runs(
        videos,
        number[video],
        joined[1],
        joined[2],
        *joined[3:],
    )


def _labels(
    path: Path, ids: np.ndarray, box: np.ndarray, label_map: LabelMap | None
) -> tuple[np.ndarray, np.ndarray]:
    """(box, class index) of every label, sorted, each pair once."""
    table = (label_map or LabelMap.numbered(80)).index_table()
    given = ids != -1
    numbers = ids[given]
    classes = np.where(numbers < len(table), table[np.minimum(numbers, len(table) - 1)], -1)
    known = classes >= 0
    if len(known) and not known.any():
        raise UserError(
            f"{path}: none of its action ids ({sorted(set(numbers.tolist()))[:5]}, ...) is in the "
            "class list; is it the class list of these annotations?"
        )
    if not known.all():
        _log.info("%s: %d labels of classes outside the list dropped", path, (~known).sum())
    # Sorted in place: np.unique would hold several times as much.
    pairs = box[given][known] * len(table)
    pairs += classes[known]
    pairs.sort()
    pairs = pairs[np.diff(pairs, prepend=-1) > 0]
    return pairs // len(table), (pairs % len(table)).astype(np.int16)


def _check_rows(path: Path, frame: pd.DataFrame) -> None:
    boxes = frame[_CORNERS]
    label = frame["label"]
    checks = [
        (frame["video"] == "", "the name of the movie is missing"),
        (~np.isfinite(frame["second"]), "the second is missing or not finite"),
        (~np.isfinite(boxes).all(axis=1), "a coordinate is missing or not finite"),
        (
            ((boxes < -_FAR_OUTSIDE) | (boxes > 1 + _FAR_OUTSIDE)).any(axis=1),
            "coordinates must be shares of the frame, 0 to 1 (divide pixels by width and height)",
        ),
        (
            (boxes["x2"] < boxes["x1"]) | (boxes["y2"] < boxes["y1"]),
            "the box is inverted (x1,y1 is the top left corner, x2,y2 the bottom right)",
        ),
        (
            label.notna() & ((label != np.floor(label)) | ((label < 1) & (label != -1))),
            "the action id must be a whole number from 1 on, or empty or -1 for none",
        ),
    ]
    if "extra" in frame and frame["extra"].dtype == np.float64:
        checks.append((np.isinf(frame["extra"]), "the score is not finite"))
    for bad, reason in checks:
        if bad.any():
            raise UserError(f"{path}:{_line(bad)}: {reason}")
