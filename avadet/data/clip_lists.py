"""Lists of labelled clips, in the forms that data sets are published in.

==================  ==============================================================================
Kinetics            the official CSVs, ``label,youtube_id,time_start,time_end,split``
PySlowFast          ``path label`` with a blank between; ours with a comma, label a name or index
UCF-101             ``trainlist01.txt`` and ``testlist01.txt``; classes in ``classInd.txt``
HMDB-51             ``splits/*_test_split1.txt``: the pattern; 1 trains, 2 tests, 0 neither
Something-Something ``train.json``, ``validation.json``; classes in ``labels.json``
a folder            one folder of movies a class
==================  ==============================================================================
"""

from __future__ import annotations

import csv
import glob
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from avadet.data.media import MOVIE_SUFFIXES
from avadet.errors import UserError
from avadet.files import read_text

# No data set has a billion classes; tensors of labels hold that many.
_MOST_DIGITS = 9


@dataclass(frozen=True)
class ClipList:
    """Labelled clips.

    Attributes:
        root: folder that the names are relative to.
        clips: (name, class index).
    """

    root: Path
    clips: list[tuple[str, int]]


def read_clips(
    source: str | os.PathLike[str],
    class_names: Sequence[str] | None = None,
    *,
    root: str | os.PathLike[str] | None = None,
    train: bool = False,
) -> ClipList:
    """Reads a list of any of the forms above, told by its content.

    Args:
        source: file, folder, or pattern of HMDB-51's split files.
        class_names: in the order of the network's outputs; None where labels are indices.
        root: folder of the clips; that of the list (or the folder of classes itself) when None.
        train: which of the clips of HMDB-51's files.

    Raises:
        UserError: missing, empty, or a wrong row, named by file and line.
    """
    text_path = os.fspath(source)
    if os.path.isdir(text_path):
        found = _folders(Path(text_path), class_names)
    elif glob.has_magic(text_path) and not os.path.exists(text_path):
        folder = Path(root) if root is not None else Path(text_path).parent
        found = ClipList(folder, _hmdb(text_path, class_names, train))
    else:
        path = Path(text_path)
        folder = Path(root) if root is not None else path.parent
        lines = _lines(path)
        if path.suffix.lower() == ".json" or lines[:1] == ["["]:
            clips = _something(path, "\n".join(lines), class_names, folder)
        elif lines and "youtube_id" in lines[0].split(","):
            clips = _kinetics(path, lines, class_names, folder)
        else:
            clips = _rows(path, lines, class_names)
        found = ClipList(folder, clips)
    if not found.clips:
        raise UserError(f"{source}: lists no clips")
    return found


def folder_classes(folder: str | os.PathLike[str]) -> tuple[str, ...]:
    """The classes of a folder of class folders, sorted.

    Raises:
        UserError: there are none.
    """
    try:
        names = sorted(each.name for each in os.scandir(folder) if each.is_dir())
    except OSError as error:
        raise UserError(f"{folder}: cannot be read as a folder: {error.strerror}") from error
    shown = tuple(name for name in names if not name.startswith("."))
    if not shown:
        raise UserError(f"{folder}: holds no folders, one a class")
    return shown


class _Classes:
    """Looks labels up as they are written: names, or the same with underscores, or indices."""

    def __init__(self, names: Sequence[str] | None) -> None:
        self._count = len(names or ())
        self._places: dict[str, int] = {}
        for place, name in enumerate(names or ()):
            self._places.setdefault(_plain(name), place)
        self._places |= {name: place for place, name in enumerate(names or ())}

    def place(self, label: str, where: str) -> int:
        """Raises UserError where it is none."""
        found = self.named(label)
        if found is not None:
            return found
        if _is_index(label) and (not self._count or int(label) < self._count):
            return int(label)
        if self._count:
            raise UserError(
                f"{where}: label {label!r} is neither a class name nor an index of the "
                f"{self._count} classes"
            )
        raise UserError(f"{where}: label {label!r} is not an index; give the class list")

    def named(self, label: str) -> int | None:
        """The class of this name, if there is one."""
        return self._places.get(label, self._places.get(_plain(label)))


def _is_index(label: str) -> bool:
    return label.isdecimal() and len(label) <= _MOST_DIGITS


def _plain(name: str) -> str:
    return name.replace("_", " ").strip().lower()


def _lines(path: Path) -> list[str]:
    return read_text(path, "a list of clips").splitlines()


def _split(line: str, where: str) -> list[str]:
    """The fields of a line of CSV."""
    try:
        return next(csv.reader([line]))
    except csv.Error as error:
        raise UserError(f"{where}: no line of CSV ({error})") from error


def _rows(
    path: Path, lines: Iterable[str], class_names: Sequence[str] | None
) -> list[tuple[str, int]]:
    """``path,label``, ``path label``, or ``class/clip`` alone, as in UCF-101's test lists."""
    classes = _Classes(class_names)
    found: list[tuple[str, int]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        # Commas first: paths and class names may hold blanks.
        fields = _split(line, where) if "," in line else line.rsplit(maxsplit=1)
        fields = [field.strip() for field in fields]
        folder = classes.named(Path(fields[0]).parent.name) if fields else None
        if len(fields) == 1 and folder is not None:
            found.append((fields[0], folder))
            continue
        if len(fields) != 2 or not fields[0]:
            raise UserError(f"{where}: expected 'path,label', found {line!r}")
        name, label = fields
        if _is_index(label) and folder is not None:
            # UCF-101 counts from 1, others from 0: the folder tells, and must fit either way.
            if int(label) not in (folder, folder + 1):
                raise UserError(
                    f"{where}: label {label} is not class {folder} of the folder "
                    f"{Path(name).parent.name!r}; is this the class list of these clips?"
                )
            found.append((name, folder))
        else:
            found.append((name, classes.place(label, where)))
    return found


def _folders(folder: Path, class_names: Sequence[str] | None) -> ClipList:
    present = folder_classes(folder)
    classes = _Classes(class_names if class_names is not None else present)
    clips: list[tuple[str, int]] = []
    for name in present:
        label = classes.named(name)
        if label is None:
            raise UserError(f"{folder / name}: the folder is none of the classes")
        files = sorted(each.name for each in os.scandir(folder / name) if _is_movie(each.name))
        clips += [(f"{name}/{file}", label) for file in files]
    return ClipList(folder, clips)


def _is_movie(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in MOVIE_SUFFIXES and not name.startswith(".")


def _hmdb(pattern: str, class_names: Sequence[str] | None, train: bool) -> list[tuple[str, int]]:
    paths = [Path(each) for each in sorted(glob.glob(pattern))]
    if not paths:
        raise UserError(f"{pattern}: no file fits")
    present = [re.sub(r"_test_split\d+$", "", path.stem) for path in paths]
    classes = _Classes(class_names if class_names is not None else present)
    clips = []
    for path, name in zip(paths, present):
        label = classes.named(name)
        if label is None:
            raise UserError(f"{path}: {name!r} is none of the classes")
        for number, line in enumerate(_lines(path), 1):
            file, _, use = line.strip().rpartition(" ")
            if line.strip() and use not in ("0", "1", "2"):
                raise UserError(f"{path}:{number}: expected 'file 0', '1' or '2', found {line!r}")
            if use == ("1" if train else "2"):
                clips.append((f"{name}/{file.strip()}", label))
    return clips


def _something(
    path: Path, text: str, class_names: Sequence[str] | None, root: Path
) -> list[tuple[str, int]]:
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: expected a list of objects with 'id' and 'template', found no JSON; is the "
            "file whole?"
        ) from error
    pairs = []
    for number, row in enumerate(rows if isinstance(rows, list) else [None], 1):
        label = row.get("template", row.get("label")) if isinstance(row, dict) else None
        if label is None or "id" not in row:
            raise UserError(
                f"{path}: expected a list of objects with 'id' and 'template'; entry {number} is "
                "none"
            )
        pairs.append((str(row["id"]), str(label)))
    classes = _Classes(class_names)
    suffix = ".mp4" if any(root.glob("*.mp4")) else ".webm"
    # 'Holding [something]' in the lists is 'Holding something' in labels.json.
    return [
        (f"{name}{suffix}", classes.place(re.sub(r"[\[\]]", "", label), f"{path}: id {name}"))
        for name, label in pairs
    ]


def _kinetics(
    path: Path, lines: list[str], class_names: Sequence[str] | None, root: Path
) -> list[tuple[str, int]]:
    """Clips that are not there keep the official name, for the list of what is missing."""
    classes = _Classes(class_names)
    present = dict(_movies_below(root))
    found = []
    header = _split(lines[0], f"{path}:1")
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        row = dict(zip(header, _split(line, where)))
        name, label = row.get("youtube_id") or "", row.get("label") or ""
        if not name or not label:
            raise UserError(f"{where}: the youtube_id or the label is missing")
        try:
            start, end = (int(float(row[key] or "x")) for key in ("time_start", "time_end"))
        except (KeyError, ValueError, OverflowError):
            raise UserError(f"{where}: time_start or time_end is not a number") from None
        cut = f"{name}_{start:06d}_{end:06d}"
        file = present.get(cut) or present.get(name) or f"{cut}.mp4"
        found.append((file, classes.place(label, where)))
    return found


def _movies_below(root: Path) -> Iterator[tuple[str, str]]:
    """(stem, path relative to ``root``) of every movie; of equal stems the first by path."""
    seen: set[str] = set()
    for folder, folders, files in os.walk(root):
        folders.sort()
        for file in sorted(files):
            stem = os.path.splitext(file)[0]
            if _is_movie(file) and stem not in seen:
                seen.add(stem)
                yield stem, os.path.relpath(os.path.join(folder, file), root)
