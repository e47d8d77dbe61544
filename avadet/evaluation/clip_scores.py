"""Scores of whole clips as a file: what ``avadet eval`` writes beside its result, for fusion."""

from __future__ import annotations

import zipfile
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
    try:
        with np.load(path, allow_pickle=False) as file:
            names, labels, scores = (file[name] for name in ("names", "labels", "scores"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path}: not scores of clips, which `avadet eval` writes as scores.npz ({error})"
        ) from error
    plain = names.dtype.kind == "U" and labels.dtype.kind in "iu" and scores.dtype.kind == "f"
    if (
        not plain
        or scores.ndim != 2
        or names.shape != (len(scores),)
        or labels.shape != (len(scores),)
    ):
        raise UserError(
            f"{path}: names {names.shape}, labels {labels.shape}, scores {scores.shape}"
        )
    if len(np.unique(names)) != len(names):
        raise UserError(f"{path}: a clip stands there twice")
    if not np.isfinite(scores).all():
        raise UserError(f"{path}: holds scores that are not finite")
    return ClipTable(names.tolist(), labels.astype(np.int64), scores.astype(np.float64))
