"""Scores of whole clips as a file: what ``avadet eval`` writes beside its result, for fusion."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avadet.errors import UserError
from avadet.evaluation.tables import Floats, Ints
from avadet.files import atomic_path


@dataclass(frozen=True)
class ClipTable:
    """A probability per clip and class.

    Attributes:
        names: (N,) clips.
        labels: (N,) class indices.
        scores: (N,K).
    """

    names: list[str]
    labels: Ints
    scores: Floats

    def write(self, path: str | Path) -> None:
        """An ``.npz`` of ``names``, ``labels`` and ``scores`` (float32)."""
        names = np.asarray(self.names, dtype=np.str_)
        with atomic_path(path) as temporary:
            np.savez(
                temporary, names=names, labels=self.labels, scores=self.scores.astype(np.float32)
            )


def read_clip_scores(path: str | Path) -> ClipTable:
    """The inverse of ``ClipTable.write``.

    Raises:
        UserError: the file is missing or no such file, or its arrays do not belong together.
    """
    told = f"{path}: not scores of clips, which `avadet eval` writes as scores.npz"
    try:
        # Opened here: what is no archive would be read as a bare array.
        with zipfile.ZipFile(path) as archive, np.load(path, allow_pickle=False) as file:
            absent = {"names.npy", "labels.npy", "scores.npy"} - set(archive.namelist())
            if absent:
                raise UserError(f"{told} (without {', '.join(sorted(absent))})")
            arrays = [np.asarray(file[name]) for name in ("names", "labels", "scores")]
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{told}; is the file damaged?") from error
    names, labels, scores = arrays
    if [array.dtype.kind for array in arrays] not in (["U", "i", "f"], ["U", "u", "f"]):
        kinds = ", ".join(str(array.dtype) for array in arrays)
        raise UserError(f"{told} (its names, labels and scores are {kinds})")
    if scores.ndim != 2 or names.shape != scores.shape[:1] or labels.shape != scores.shape[:1]:
        raise UserError(
            f"{told} (names {names.shape}, labels {labels.shape}, scores {scores.shape} do not fit)"
        )
    if not scores.size:
        raise UserError(f"{path}: holds no scores; score a list of clips first")
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise UserError(
            f"{path}: labels {labels.min()} to {labels.max()} of {scores.shape[1]} classes; write "
            "the scores again"
        )
    if len(np.unique(names)) != len(names):
        raise UserError(f"{path}: a clip stands there twice")
    if not np.isfinite(scores).all():
        raise UserError(f"{path}: holds scores that are not finite")
    return ClipTable(names.tolist(), labels.astype(np.int64), scores.astype(np.float64))
