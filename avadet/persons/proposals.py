"""Person boxes on disk: AVA's CSV, MMAction2's dictionary, COCO json; and labels by overlap.

AVA's layout is that of the box lists published with FAIR's models::

    video,second,x1,y1,x2,y2,label,score        1j20qq1JyX4,0902,0.0020,0.1180,0.7140,0.9770,,0.9923

Boxes are normalised; the label is empty for detections, an action id or -1 in labelled lists.
"""

from __future__ import annotations

import os
import zipfile
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
_COLUMNS = ("video", "second", "x1", "y1", "x2", "y2", "label", "score")


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
            start = f"{keyframe.video},{spell_second(keyframe.second)},"
            found = zip(proposals.boxes_norm[keyframe], proposals.scores[keyframe])
            for number, (box, score) in enumerate(found):
                place = start + ",".join(f"{value:.4f}" for value in box)
                names = [""] if labels is None else map(str, labels[keyframe][number])
                for name in names:
                    file.write(f"{place},{name},{score:.6f}\n")
                    rows += 1
    return rows


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
                return _from_dictionary({name: archive[name] for name in archive.files}, path)
        except (ValueError, OSError, zipfile.BadZipFile) as error:
            raise UserError(f"{path}: not a proposals archive ({error})") from error
    if path.suffix in (".pkl", ".pickle"):
        content, _ = read_checkpoint(path)
        if not isinstance(content, dict):
            raise UserError(f"{path}: not MMAction2's proposals: a {type(content).__name__}")
        return _from_dictionary(content, path)
    return _read_csv(path)


def _from_dictionary(content: Mapping[str, Any], path: Path) -> Proposals:
    boxes_norm, scores = {}, {}
    for name, value in content.items():
        video, _, second = str(name).rpartition(",")
        table = np.asarray(value, dtype=np.float32)
        try:
            keyframe = Keyframe(video, float(second))
        except ValueError:
            keyframe = Keyframe("", 0.0)
        if not keyframe.video or table.ndim != 2 or table.shape[1] not in (4, 5):
            raise UserError(
                f"{path}: entry '{name}' of shape {table.shape} is not 'video,second' with "
                "(N,5) x1,y1,x2,y2,score"
            )
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


def _read_csv(path: Path) -> Proposals:
    try:
        table = pd.read_csv(path, header=None, names=list(_COLUMNS), dtype={"video": str})
        numbers = table[["second", "x1", "y1", "x2", "y2"]].astype(float)
        score = table["score"].astype(float).fillna(1.0)
    except pd.errors.EmptyDataError:
        return Proposals({}, {}, {})
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(
            f"{path}: not rows of video,second,x1,y1,x2,y2,label,score: {str(error).strip()}"
        ) from error
    if numbers.isna().any(axis=None):
        line = int(numbers.isna().any(axis=1).idxmax()) + 1
        raise UserError(f"{path}, line {line}: a number is missing")
    table = numbers.assign(video=table["video"], score=score)
    # Lists with labels repeat a box for every label.
    table = table.drop_duplicates()
    all_boxes = table[["x1", "y1", "x2", "y2"]].to_numpy(np.float32)
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
        UserError: the file is missing or a row is not video,second,x1,y1,x2,y2,action,...
    """
    try:
        table = pd.read_csv(
            path,
            header=None,
            names=[*_COLUMNS[:7], "person"],
            usecols=range(7),
            dtype={"video": str},
        )
        table = table.dropna(subset=["x1", "label"])
        numbers = table[["second", "x1", "y1", "x2", "y2"]].astype(float)
        actions = table["label"].astype(int)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such annotation file") from error
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(
            f"{path}: not rows of video,second,x1,y1,x2,y2,action,...: {str(error).strip()}"
        ) from error
    table = numbers.assign(video=table["video"], action=actions)
    corners = table[["x1", "y1", "x2", "y2"]].to_numpy(np.float64)
    ids = table["action"].to_numpy()
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
    """
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
