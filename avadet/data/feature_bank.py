"""A long-term feature bank on disk: what a network knows of every person of whole movies.

    DIR/bank.json                 the network, its precision, channels
    DIR/movies/<video>.npy        (N,D) float32 or float16, one row a person, in movie order
    DIR/movies/<video>.json       seconds and persons of each keyframe, the boxes' hash, a checksum

A movie is there when its JSON is. Rows of one keyframe stand by falling score of their box. The
arrays are mapped, not read: workers and processes of one machine share the system's page cache,
whatever the bank's size.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avadet.errors import UserError
from avadet.files import atomic_path, write_json
from avadet.structures import BankWindow, Keyframe, Sample

FORMAT = 1
DTYPES = ("float32", "float16")
# Open maps hold a file each.
_MOST_OPEN = 256


@dataclass(frozen=True)
class BankFacts:
    """What a bank is made of; two parts of one bank must agree in all of it.

    Attributes:
        model: name of the network, for people.
        fingerprint: of the network, see ``models.description.fingerprint``.
        precision: "fp32", "bf16" or "fp16": in what the features were computed.
        channels: D.
        dtype: of the files, "float32" or "float16".
    """

    model: str
    fingerprint: str
    precision: str
    channels: int
    dtype: str


@dataclass(frozen=True)
class _Movie:
    """Rows of one movie.

    Attributes:
        features: (N,D), mapped.
        seconds: (F,) float64, increasing.
        first: (F+1,) int64: keyframe ``i`` has the rows ``first[i]:first[i + 1]``.
    """

    features: np.ndarray
    seconds: np.ndarray
    first: np.ndarray


def boxes_hash(seconds: Sequence[float], boxes_norm: Sequence[np.ndarray]) -> str:
    """A hash of which boxes a movie has: F seconds, and (N_i,4) boxes at each."""
    digest = hashlib.sha256()
    for second, boxes in zip(seconds, boxes_norm, strict=True):
        digest.update(np.float64([second, len(boxes)]).tobytes())
        digest.update(np.ascontiguousarray(boxes, np.float32).tobytes())
    return digest.hexdigest()


class BankWriter:
    """Fills a folder movie by movie, and goes on where an earlier run stopped.

    Args:
        folder: of the bank; made where it does not exist.
        facts: of the features to come.

    Raises:
        UserError: the folder holds a bank of other facts, or cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str], facts: BankFacts) -> None:
        self.folder = Path(folder)
        self.facts = facts
        if not (self.folder / "bank.json").exists():
            write_json(self.folder / "bank.json", {"format": FORMAT, **asdict(facts)})
        here = read_facts(self.folder)
        if replace(here, model=facts.model) != facts:
            raise UserError(
                f"{self.folder}: holds a bank of {_difference(here, facts)}; choose another folder "
                "or delete it"
            )

    def has(self, video: str, boxes: str) -> bool:
        """Whether a movie is finished.

        Args:
            boxes: ``boxes_hash`` of the boxes wanted.

        Raises:
            UserError: it is there with other boxes.
        """
        path = _path(self.folder, video, ".json")
        if not path.exists():
            return False
        if _read_json(path).get("boxes") != boxes:
            raise UserError(
                f"{path}: was made with other boxes than those of now; give the same box file and "
                "score cut, choose another folder, or delete this one"
            )
        return True

    def write(
        self,
        video: str,
        seconds: Sequence[float],
        counts: Sequence[int],
        boxes: str,
        parts: Iterable[np.ndarray],
    ) -> None:
        """Writes one movie while its features come in; until the last it is not there.

        Args:
            video: its name.
            seconds: F keyframes, increasing.
            counts: persons of each.
            boxes: their ``boxes_hash``.
            parts: the rows, (n,D) at a time.

        Raises:
            UserError: a feature is not finite, or the disk is full.
        """
        path, total, written = _path(self.folder, video, ".npy"), sum(counts), 0
        digest = hashlib.sha256()
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            header = {"descr": np.dtype(self.facts.dtype).str, "fortran_order": False}
            # Written as a stream: a map of a full disk is a crash, a write to it an error.
            np.lib.format.write_array_header_1_0(
                file, {**header, "shape": (total, self.facts.channels)}
            )
            for part in parts:
                with np.errstate(over="ignore"):
                    rows = np.ascontiguousarray(part.astype(self.facts.dtype))
                if not np.isfinite(rows).all():
                    raise UserError(
                        f"{video}: a feature is not finite as {self.facts.dtype}; the weights are "
                        "damaged, or the precision is too low (try fp32, and leave out --half)"
                    )
                file.write(rows.tobytes())
                digest.update(rows.tobytes())
                written += len(rows)
        if written != total:
            path.unlink()
            raise ValueError(f"{video}: {written} rows for {total} persons")
        note: dict[str, Any] = {
            "boxes": boxes,
            "sha256": digest.hexdigest(),
            "seconds": [float(second) for second in seconds],
            "counts": [int(count) for count in counts],
        }
        write_json(_path(self.folder, video, ".json"), note)


class FeatureBank:
    """A bank that is there, read as it is asked for.

    Args:
        folder: see the module.

    Raises:
        UserError: it is no bank.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.facts = read_facts(self.folder)
        self._open: dict[str, _Movie] = {}

    def __getstate__(self) -> dict[str, Any]:
        # A map that travels to a spawned worker would travel with all it shows.
        return {**self.__dict__, "_open": {}}

    @property
    def videos(self) -> list[str]:
        """Names of its movies, sorted."""
        found = (path.stem for path in (self.folder / "movies").glob("*.json"))
        # What a killed process left behind begins with a dot.
        return sorted(name for name in found if not name.startswith("."))

    def require(self, videos: Iterable[str]) -> None:
        """Checks that movies are there.

        Raises:
            UserError: some are not; names the first.
        """
        wanted, here = set(videos), set(self.videos)
        absent = sorted(wanted - here)
        if absent:
            named = ", ".join(absent[:5]) + (", ..." if len(absent) > 5 else "")
            raise UserError(
                f"{self.folder}: {len(absent)} of {len(wanted)} movies are not in the bank: "
                f"{named}; add them with `avadet features ... --bank {self.folder}` and the "
                f"weights of {self.facts.model}"
            )

    def movie(self, video: str) -> _Movie:
        """The rows of one movie.

        Raises:
            UserError: it is not there, or its files do not fit together.
        """
        found = self._open.get(video)
        if found is None:
            found = self._read(video)
            if len(self._open) >= _MOST_OPEN:
                self._open.pop(next(iter(self._open)))
            self._open[video] = found
        return found

    def window(
        self, keyframe: Keyframe, window: BankWindow, rng: np.random.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """What the bank has around a keyframe.

        Args:
            keyframe: of a movie in the bank; it may have no entry itself.
            window: which entries.
            rng: draws among too many persons of a step; the surest are taken when None.

        Returns:
            (L,D) float32, step after step, zeros where a step has fewer persons than it may;
            (L,) bool, True where there is an entry.
        """
        movie = self.movie(keyframe.video)
        steps, most = window.steps, window.max_persons
        number = np.floor((movie.seconds - keyframe.second) * window.rate + 0.5).astype(np.int64)
        place = number + steps // 2
        near = (place >= 0) & (place < steps)
        if not window.include_own:
            near &= number != 0
        counts = np.diff(movie.first)[near]
        step = np.repeat(place[near], counts)
        starts = movie.first[:-1][near]
        row = np.arange(len(step)) + np.repeat(starts - (np.cumsum(counts) - counts), counts)
        if rng is not None:
            order = rng.permutation(len(step))
            order = order[np.argsort(step[order], kind="stable")]
            step, row = step[order], row[order]
        rank = np.arange(len(step)) - np.searchsorted(step, step)
        kept = rank < most
        slots = step[kept] * most + rank[kept]
        features = np.zeros((window.size, self.facts.channels), np.float32)
        features[slots] = movie.features[row[kept]]
        mask = np.zeros(window.size, bool)
        mask[slots] = True
        return torch.from_numpy(features), torch.from_numpy(mask)

    def check(self) -> int:
        """Compares every file with its checksum.

        Returns:
            the number of rows.

        Raises:
            UserError: a file was changed; names it.
        """
        rows = 0
        for video in self.videos:
            features = self._read(video).features
            rows += len(features)
            digest = hashlib.sha256()
            for start in range(0, len(features), 4096):
                digest.update(np.ascontiguousarray(features[start : start + 4096]).tobytes())
            path = _path(self.folder, video, ".json")
            if digest.hexdigest() != _read_json(path).get("sha256"):
                raise UserError(
                    f"{path.with_suffix('.npy')}: was changed since it was written; delete it and "
                    f"{path.name} and make them again"
                )
        return rows

    def _read(self, video: str) -> _Movie:
        note_path = _path(self.folder, video, ".json")
        if not note_path.exists():
            self.require([video])
        note = _read_json(note_path)
        path = note_path.with_suffix(".npy")
        try:
            counts = np.asarray(note["counts"], np.int64)
            seconds = np.asarray(note["seconds"], np.float64)
            first = np.concatenate([[0], np.cumsum(counts)])
            features = np.load(path, mmap_mode="r" if first[-1] else None, allow_pickle=False)
        except (OSError, ValueError, KeyError, TypeError, OverflowError, EOFError) as error:
            raise UserError(
                f"{path}: cannot be read as part of a bank ({error}); delete it and "
                f"{note_path.name} and make them again"
            ) from error
        expected = (int(first[-1]), self.facts.channels)
        sound = seconds.shape == counts.shape and (counts >= 0).all() and seconds.ndim == 1
        # Written so that NaN fails too.
        if not sound or not np.isfinite(seconds).all() or not (np.diff(seconds) > 0).all():
            raise UserError(f"{note_path}: its seconds and counts do not fit; make it again")
        if features.shape != expected or features.dtype != np.dtype(self.facts.dtype):
            raise UserError(
                f"{path}: holds {features.shape} {features.dtype} where {note_path.name} and "
                f"bank.json say {expected} {self.facts.dtype}; delete both and make them again"
            )
        return _Movie(features, seconds, first)


@dataclass(frozen=True)
class BankView:
    """A bank as one network looks at it.

    Attributes:
        bank: where the entries are.
        window: which of them each keyframe is shown.
    """

    bank: FeatureBank
    window: BankWindow

    def at(
        self, keyframe: Keyframe, rng: np.random.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """(L,D) entries and (L,) mask of a keyframe, see ``FeatureBank.window``."""
        return self.bank.window(keyframe, self.window, rng)

    def added_to(self, sample: Sample) -> Sample:
        """A sample of a test with its window."""
        features, mask = self.at(sample.keyframe)
        return replace(sample, bank=features, bank_mask=mask)


def read_facts(folder: str | os.PathLike[str]) -> BankFacts:
    """What the bank in a folder is made of.

    Raises:
        UserError: there is no bank, or one of another version.
    """
    path = Path(folder) / "bank.json"
    if not path.is_file():
        raise UserError(
            f"{folder}: holds no feature bank (no bank.json); make one with `avadet features "
            f"CONFIG --weights BASE --bank {folder}`"
        )
    values = _read_json(path)
    if values.pop("format", None) != FORMAT:
        raise UserError(f"{path}: a bank of another format than {FORMAT}; make it again")
    types = {each.name: int if each.name == "channels" else str for each in fields(BankFacts)}
    if {key: type(value) for key, value in values.items()} != types:
        raise UserError(f"{path}: must hold {', '.join(types)}; make the bank again")
    facts = BankFacts(**values)
    if facts.dtype not in DTYPES or facts.channels < 1:
        raise UserError(f"{path}: dtype {facts.dtype}, channels {facts.channels}: not a bank's")
    return facts


def _difference(here: BankFacts, wanted: BankFacts) -> str:
    """``here`` where it differs from ``wanted``, in words."""
    if here.fingerprint != wanted.fingerprint:
        return (
            f"another network ({here.model}, fingerprint {here.fingerprint[:8]}, not "
            f"{wanted.model}, {wanted.fingerprint[:8]})"
        )
    texts = [
        f"{each.name} {getattr(here, each.name)}, not {getattr(wanted, each.name)}"
        for each in fields(BankFacts)
        if each.name != "model" and getattr(here, each.name) != getattr(wanted, each.name)
    ]
    return "; ".join(texts)


def _path(folder: Path, video: str, suffix: str) -> Path:
    if not video or video.startswith(".") or any(mark in video for mark in "/\\\0"):
        raise UserError(f"'{video}': this movie's name cannot be that of a file of the bank")
    return folder / "movies" / f"{video}{suffix}"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); make the bank again") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: must hold a JSON object; make the bank again")
    return value
