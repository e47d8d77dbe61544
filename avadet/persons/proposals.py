"""Person boxes on disk: AVA's CSV, MMAction2's dictionary, COCO json; and labels by overlap.

AVA's layout is that of the box lists published with FAIR's models::

    video,second,x1,y1,x2,y2,label,score        1j20qq1JyX4,0902,0.0020,0.1180,0.7140,0.9770,,0.9923

Boxes are normalised; the label is empty for detections, an action id or -1 in labelled lists.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from avadet import boxes as box_math
from avadet.convert.unpickle import read_checkpoint
from avadet.errors import UserError
from avadet.files import atomic_path
from avadet.persons import coco
from avadet.persons.base import PersonBoxes
from avadet.structures import Keyframe

FORMATS = ("csv", "npz", "coco")
_CORNERS = ["x1", "y1", "x2", "y2"]
_COLUMNS = ("video", "second", *_CORNERS, "label", "score")


@dataclass(frozen=True)
class Proposals:
    """Detected people of many keyframes.

    Attributes:
        boxes_norm: (N,4) float32 by keyframe; keyframes where nobody was found may be there with
            (0,4).
        scores: (N,) float32 by keyframe.
        sizes: (height, width) in pixels by video, where known.
    """

    boxes_norm: dict[Keyframe, np.ndarray]
    scores: dict[Keyframe, np.ndarray]
    sizes: dict[str, tuple[int, int]]

    @property
    def num_boxes(self) -> int:
        """Over all keyframes."""
        return sum(len(boxes) for boxes in self.boxes_norm.values())


def spell_second(second: float) -> str:
    """``0902`` for whole seconds, ``902.5`` otherwise."""
    return f"{int(second):04d}" if second == int(second) else f"{second:.6f}".rstrip("0")


def format_of(path: str | os.PathLike[str], wanted: str | None = None) -> str:
    """The format of a proposals file: as asked for, else by suffix.

    Raises:
        UserError: neither tells.
    """
    found = wanted or {".csv": "csv", ".npz": "npz", ".json": "coco"}.get(Path(path).suffix)
    if found not in FORMATS:
        raise UserError(
            f"{path}: cannot tell the format; end the name in .csv (AVA), .npz (MMAction2's "
            "dictionary) or .json (COCO), or give --format"
        )
    return found


def write(path: str | os.PathLike[str], proposals: Proposals, file_format: str) -> None:
    """Writes proposals in one of ``FORMATS``, keyframes in order."""
    if file_format == "csv":
        write_csv(path, proposals)
    elif file_format == "npz":
        write_dictionary(path, proposals)
    else:
        _write_coco(path, proposals)


def write_csv(
    path: str | os.PathLike[str],
    proposals: Proposals,
    labels: Mapping[Keyframe, list[list[int]]] | None = None,
) -> int:
    """AVA's layout; with ``labels``, one row for each label of each box.

    Returns:
        the number of rows.
    """
    rows = 0
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for keyframe in sorted(proposals.boxes_norm):
            start = f"{_quote(keyframe.video)},{spell_second(keyframe.second)},"
            found = zip(proposals.boxes_norm[keyframe], proposals.scores[keyframe])
            for number, (box, score) in enumerate(found):
                place = start + ",".join(f"{value:.4f}" for value in box)
                names = [""] if labels is None else map(str, labels[keyframe][number])
                for name in names:
                    file.write(f"{place},{name},{score:.6f}\n")
                    rows += 1
    return rows


def _quote(name: str) -> str:
    """A name as CSV spells it: in quotes where a comma, quote or line break would end it."""
    return '"' + name.replace('"', '""') + '"' if set(name) & set(',"\r\n') else name


def write_dictionary(path: str | os.PathLike[str], proposals: Proposals) -> None:
    """MMAction2's proposals, {"video,0902": (N,5) x1,y1,x2,y2,score}, as a plain ``.npz``.

    ``dict(numpy.load(path))`` is what MMAction2 pickles.
    """
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for keyframe in sorted(proposals.boxes_norm):
            boxes, scores = proposals.boxes_norm[keyframe], proposals.scores[keyframe]
            name = f"{keyframe.video},{spell_second(keyframe.second)}"
            with archive.open(f"{name}.npy", "w") as file:
                table = np.concatenate((boxes, scores[:, None]), axis=1).astype(np.float32)
                np.lib.format.write_array(file, table, allow_pickle=False)


def _write_coco(path: str | os.PathLike[str], proposals: Proposals) -> None:
    unknown = sorted({k.video for k in proposals.boxes_norm} - set(proposals.sizes))
    if unknown:
        raise UserError(
            f"{path}: COCO wants pixels and the frame size of '{unknown[0]}' is not known; "
            "detect anew instead of converting"
        )
    found, sizes = {}, {}
    for keyframe in sorted(proposals.boxes_norm):
        size = proposals.sizes[keyframe.video]
        pixels = box_math.norm_to_px(proposals.boxes_norm[keyframe], *size)
        found[keyframe] = PersonBoxes(pixels, proposals.scores[keyframe])
        sizes[keyframe] = size
    coco.write_results(path, found, sizes)


def read(path: str | os.PathLike[str]) -> Proposals:
    """Proposals of any make: AVA's CSV, avadet's ``.npz``, MMAction2's pickle.

    Pickles are read as data, without running anything in them.

    Raises:
        UserError: the file is missing or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such proposals file")
    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as archive:
                content = {name: archive[name] for name in archive.files}
        # A bare array under the name is a TypeError, a cut one an EOFError, damage a zlib.error.
        except (
            ValueError, OSError, EOFError, TypeError, NotImplementedError, RuntimeError,
            MemoryError, zipfile.BadZipFile, zlib.error,
        ) as error:  # fmt: skip
            raise UserError(f"{path}: not a proposals archive ({error})") from error
        return _from_dictionary(content, path)
    if path.suffix in (".pkl", ".pickle"):
        content, _ = read_checkpoint(path)
        if not isinstance(content, dict):
            raise UserError(f"{path}: not MMAction2's proposals: a {type(content).__name__}")
        return _from_dictionary(content, path)
    return _read_csv(path)


_INVERTED = "a box is inverted (x1,y1 is the top left corner, x2,y2 the bottom right)"
_IMPLAUSIBLE = "numbers must be finite, and boxes normalised to 0..1 by the frame size, not pixels"


def _are_plausible(table: np.ndarray) -> bool:
    """Whether rows can be normalised boxes and scores; boxes may reach past the frame."""
    return bool(np.isfinite(table).all() and (np.abs(table[:, :4]) <= 2).all())


def _from_dictionary(content: Mapping[str, Any], path: Path) -> Proposals:
    boxes_norm, scores = {}, {}
    for name, value in content.items():
        video, _, second = str(name).rpartition(",")
        try:
            table = np.asarray(value, dtype=np.float32)
            keyframe = Keyframe(video, float(second))
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{path}: entry '{name}' is not 'video,second' with numbers ({error})"
            ) from error
        if table.shape == (0,):
            table = table.reshape(0, 5)
        if not keyframe.video or table.ndim != 2 or table.shape[1] not in (4, 5):
            raise UserError(
                f"{path}: entry '{name}' of shape {table.shape} is not 'video,second' with "
                "(N,5) x1,y1,x2,y2,score"
            )
        if not np.isfinite(keyframe.second) or not _are_plausible(table):
            raise UserError(f"{path}: entry '{name}': {_IMPLAUSIBLE}")
        if (table[:, 2:4] < table[:, :2]).any():
            raise UserError(f"{path}: entry '{name}': {_INVERTED}")
        boxes_norm[keyframe] = np.ascontiguousarray(table[:, :4])
        full = np.ones(len(table), np.float32)
        scores[keyframe] = np.ascontiguousarray(table[:, 4]) if table.shape[1] == 5 else full
    return Proposals(boxes_norm, scores, {})


def rows_by_keyframe(table: pd.DataFrame) -> Iterator[tuple[Keyframe, np.ndarray]]:
    """Row numbers of each keyframe of a table with ``video`` and ``second``, in file order.

    (A pandas group per keyframe would take minutes on AVA's 210,000.)
    """
    if table.empty:
        return
    video, names = pd.factorize(table["video"])
    second, seconds = pd.factorize(table["second"])
    key, _ = pd.factorize(video.astype(np.int64) * len(seconds) + second)
    order = np.argsort(key, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(key[order])) + 1):
        yield Keyframe(str(names[video[rows[0]]]), float(seconds[second[rows[0]]])), rows


def _read_table(path: Path, columns: tuple[str, ...], optional: int) -> pd.DataFrame:
    """A CSV of ``columns``, of which the last ``optional`` may be missing, as text and numbers.

    Nothing but an empty field is missing: a movie may be called "NA".
    """
    wanted = ",".join(columns)
    try:
        table = pd.read_csv(
            path,
            header=None,
            dtype={0: str},
            keep_default_na=False,
            na_values={column: [""] for column in range(len(columns))},
        )
    except pd.errors.EmptyDataError:
        return pd.DataFrame(columns=list(columns), dtype=float)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(f"{path}: not rows of {wanted}: {str(error).strip()}") from error
    if not len(columns) - optional <= table.shape[1] <= len(columns):
        raise UserError(f"{path}: {table.shape[1]} columns, not rows of {wanted}")
    table.columns = list(columns[: table.shape[1]])
    table = table.reindex(columns=list(columns))
    try:
        table[list(columns[1:])] = table[list(columns[1:])].astype(float)
    except ValueError as error:
        raise UserError(f"{path}: not rows of {wanted}: {error}") from error
    return table


def _refuse_rows(path: Path, wrong: pd.Series, reason: str) -> None:
    if wrong.any():
        raise UserError(f"{path}, line {int(wrong.idxmax()) + 1}: {reason}")


def _refuse_bad_boxes(path: Path, table: pd.DataFrame) -> None:
    numbers = table[["second", *_CORNERS]]
    _refuse_rows(path, table["video"].isna(), "the video is missing")
    _refuse_rows(path, numbers.isna().any(axis=1), "a number is missing")
    wrong = np.isinf(table["second"]) | (table[_CORNERS].abs() > 2).any(axis=1)
    _refuse_rows(path, wrong, _IMPLAUSIBLE)
    inverted = (table["x2"] < table["x1"]) | (table["y2"] < table["y1"])
    _refuse_rows(path, inverted, _INVERTED)


def _read_csv(path: Path) -> Proposals:
    table = _read_table(path, _COLUMNS, optional=2)
    _refuse_bad_boxes(path, table)
    table["score"] = table["score"].fillna(1.0)
    _refuse_rows(path, np.isinf(table["score"]), "the score must be finite")
    table = table.drop(columns="label")
    # Lists with labels repeat a box for every label.
    table = table.drop_duplicates()
    all_boxes = table[_CORNERS].to_numpy(np.float32)
    all_scores = table["score"].to_numpy(np.float32)
    boxes_norm, scores = {}, {}
    for keyframe, rows in rows_by_keyframe(table):
        boxes_norm[keyframe], scores[keyframe] = all_boxes[rows], all_scores[rows]
    return Proposals(boxes_norm, scores, {})


def read_labelled_truth(
    path: str | os.PathLike[str],
) -> dict[Keyframe, tuple[np.ndarray, list[list[int]]]]:
    """Ground truth with actions: per keyframe distinct boxes (N,4) and the action ids of each.

    Raises:
        UserError: the file is missing or empty, or a row is not
            video,second,x1,y1,x2,y2,action,person (the last may be left out).
    """
    path = Path(path)
    table = _read_table(path, (*_COLUMNS[:6], "action", "person"), optional=1)
    # A keyframe without people is a row without a box; a box without an action teaches nothing.
    table = table.dropna(subset=_CORNERS, how="all").dropna(subset=["action"])
    _refuse_bad_boxes(path, table)
    action = table["action"]
    wrong = (action != action.round()) | (action < 1) | (action > 1_000_000)
    _refuse_rows(path, wrong, "the action must be a whole number from 1")
    if table.empty:
        raise UserError(f"{path}: holds no box with an action")
    corners = table[_CORNERS].to_numpy(np.float64)
    ids = action.to_numpy().astype(int)
    truth: dict[Keyframe, tuple[np.ndarray, list[list[int]]]] = {}
    for keyframe, rows in rows_by_keyframe(table):
        labels: dict[tuple[float, ...], list[int]] = {}
        for box, action in zip(map(tuple, corners[rows].tolist()), ids[rows].tolist()):
            if action not in labels.setdefault(box, []):
                labels[box].append(action)
        boxes = np.asarray(list(labels), np.float32).reshape(-1, 4)
        truth[keyframe] = boxes, list(labels.values())
    return truth


def assign_labels(
    proposals: Proposals,
    truth: Mapping[Keyframe, tuple[np.ndarray, list[list[int]]]],
    min_iou: float = 0.9,
) -> dict[Keyframe, list[list[int]]]:
    """The actions of each proposal: those of the true box that it overlaps most, or [-1].

    Args:
        proposals: what was detected.
        truth: from :func:`read_labelled_truth`.
        min_iou: overlap from which a proposal takes the labels (0.9 in the published lists).

    Raises:
        UserError: an overlap outside 0..1, or not one keyframe is in both: every label would
            be -1 because of another spelling of names, or other seconds.
    """
    if not 0 < min_iou <= 1:
        raise UserError(f"an overlap (IoU) of {min_iou:g}: must be above 0 and at most 1")
    if proposals.boxes_norm and not proposals.boxes_norm.keys() & truth.keys():
        mine, other = min(proposals.boxes_norm), min(truth, default=None)
        raise UserError(
            f"no keyframe of the proposals is in the ground truth (first ones: {mine}, {other}); "
            "compare the movies' names and the seconds (--movie-start)"
        )
    assigned: dict[Keyframe, list[list[int]]] = {}
    for keyframe, boxes in proposals.boxes_norm.items():
        true_boxes, labels = truth.get(keyframe, (np.zeros((0, 4), np.float32), []))
        rows: list[list[int]] = [[-1] for _ in boxes]
        if len(true_boxes) and len(boxes):
            overlaps = box_math.iou(boxes.astype(np.float64), true_boxes.astype(np.float64))
            for row, best in enumerate(overlaps.argmax(axis=1)):
                if overlaps[row, best] >= min_iou:
                    rows[row] = labels[best]
        assigned[keyframe] = rows
    return assigned
