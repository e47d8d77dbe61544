"""The list of classes: numbers on disk, 0..K-1 in tensors."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avadet.errors import UserError
from avadet.files import read_text

# A table has a place for every id up to the largest.
_LARGEST_ID = 1_000_000


@dataclass(frozen=True)
class LabelMap:
    """Classes in the order of the network's outputs.

    Attributes:
        ids: the number of each class in the annotation files, distinct, from 1 on.
        names: one per class.
    """

    ids: tuple[int, ...]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.names):
            raise ValueError(f"{len(self.ids)} class ids but {len(self.names)} names")
        if not self.ids or min(self.ids) < 1 or len(set(self.ids)) != len(self.ids):
            raise ValueError("class ids must be distinct numbers from 1 on, at least one")

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def numbered(cls, count: int, names: Sequence[str] | None = None) -> LabelMap:
        """Ids 1..count, as AVA's 80."""
        given = tuple(names) if names is not None else tuple(f"class {n + 1}" for n in range(count))
        return cls(tuple(range(1, count + 1)), given)

    def index_table(self) -> np.ndarray:
        """(max id + 1,) int16: the class index of each id, -1 for ids that are not in the map."""
        table = np.full(max(self.ids) + 1, -1, dtype=np.int16)
        table[list(self.ids)] = np.arange(len(self.ids))
        return table


def read_label_map(path: str | os.PathLike[str]) -> LabelMap:
    """Reads AVA's class lists in any of their forms, ordered by id.

    Understood are ``item { name id }`` and ``label { name label_id label_type }`` text protocol
    buffers, spread over lines or not, the CSV ``label_id,label_name,label_type``, UCF-101's
    ``1 Name`` in each line, Something-Something's JSON object of names and places from 0, and a
    plain list of names, one a line, numbered from 1.

    Raises:
        UserError: the file is missing, empty, or gives an id twice.
    """
    path = Path(path)
    text = read_text(path, "a class list")
    if text.lstrip().startswith("{"):
        pairs = _parse_json(path, text)
    elif "{" in text:
        pairs = _parse_blocks(path, text)
    elif re.match(r"\s*\"?(label_)?id\"?\s*,", text) or re.match(r"\s*\d+\s*,", text):
        pairs = _parse_csv(path, text)
    else:
        names = [line.strip() for line in text.splitlines() if line.strip()]
        pairs = list(enumerate(names, 1))
        # UCF-101's classInd.txt, where every line begins with its own number.
        if names and all(re.match(rf"{number}\s+\S", name) for number, name in pairs):
            pairs = [(number, name.split(maxsplit=1)[1]) for number, name in pairs]
    if not pairs:
        raise UserError(f"{path}: holds no classes")
    pairs.sort(key=lambda pair: pair[0])
    try:
        return LabelMap(tuple(number for number, _ in pairs), tuple(name for _, name in pairs))
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def _parse_blocks(path: Path, text: str) -> list[tuple[int, str]]:
    pairs = []
    for block in re.finditer(r"\w+\s*\{(.*?)\}", text, flags=re.DOTALL):
        number = re.search(r"\b(?:label_)?id\s*:\s*(-?\d+)", block[1])
        name = re.search(r"""\bname\s*:\s*(?:"([^"]*)"|'([^']*)')""", block[1])
        if number is None or name is None:
            line = text[: block.start()].count("\n") + 1
            raise UserError(f"{path}:{line}: a class needs a name and an id")
        line = text[: block.start()].count("\n") + 1
        given = name[1] if name[1] is not None else name[2]
        pairs.append((_number(number[1], f"{path}:{line}"), given))
    return pairs


def _parse_json(path: Path, text: str) -> list[tuple[int, str]]:
    try:
        places = json.loads(text)
        return [(int(str(place)) + 1, str(name)) for name, place in places.items()]
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: expected a JSON object of names and their places from 0, such as "
            '{"walk": 0, "run": 1}'
        ) from error


def _parse_csv(path: Path, text: str) -> list[tuple[int, str]]:
    pairs = []
    for line, content in enumerate(text.splitlines(), 1):
        try:
            row = next(csv.reader([content]), [])
        except csv.Error as error:
            raise UserError(f"{path}:{line}: no line of CSV ({error})") from error
        if not row or (line == 1 and not row[0].strip().isdecimal()):
            continue
        if len(row) < 2 or not row[0].strip().isdecimal():
            raise UserError(f"{path}:{line}: expected 'id,name', found {','.join(row)!r}")
        pairs.append((_number(row[0].strip(), f"{path}:{line}"), row[1].strip()))
    return pairs


def _number(text: str, where: str) -> int:
    """The id that decimal digits tell."""
    if len(text) > len(str(_LARGEST_ID)) or int(text) > _LARGEST_ID:
        raise UserError(f"{where}: a class id above {_LARGEST_ID}; number the classes from 1 on")
    return int(text)
