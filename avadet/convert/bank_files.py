"""Feature banks of MMAction2: ``lfb_{train,val}.pkl``, read as data."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avadet.convert.unpickle import read_checkpoint
from avadet.errors import UserError

# Of one movie: its keyframes' seconds, increasing, and the (n,D) features of the people of each.
MovieFeatures = tuple[list[float], list[np.ndarray]]


def read_mmaction2_bank(path: str | os.PathLike[str]) -> Iterator[tuple[str, MovieFeatures]]:
    """The movies of a bank that MMAction2's ``LFBInferHead`` wrote.

    The file is a dict: movie -> second -> (n,D) tensor, or a list of n tensors of D channels.

    Yields:
        name and features of each movie, float32.

    Raises:
        UserError: unreadable, or of another form; names movie and second.
    """
    content, _ = read_checkpoint(path)
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"{path}: not a feature bank of MMAction2 (movie -> second -> features)")
    channels: set[int] = set()
    for video, by_second in content.items():
        if not isinstance(video, str) or not isinstance(by_second, Mapping):
            raise UserError(f"{path}: not a feature bank of MMAction2: the entry {video!r:.60}")
        seconds, features = [], []
        for second in sorted(by_second, key=_as_second):
            rows = _rows(by_second[second])
            if rows is None or isinstance(second, bool) or not isinstance(second, int | float):
                raise UserError(f"{path}: {video}, second {second!r:.30}: no features of persons")
            if not len(rows):
                continue
            channels.add(rows.shape[1])
            seconds.append(float(second))
            features.append(rows)
        if len(channels) > 1:
            raise UserError(f"{path}: {video}: features of {sorted(channels)} channels in one bank")
        yield video, (seconds, features)


def _as_second(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("inf")


def _rows(value: Any) -> np.ndarray | None:
    """(n,D) float32; None for anything else."""
    parts = [value] if isinstance(value, Tensor) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(each, Tensor) for each in parts):
        return None
    flat = [each.reshape(-1, each.shape[-1]) for each in parts if each.ndim and each.numel()]
    if not flat:
        return np.zeros((0, 0), np.float32)
    if len({each.shape[1] for each in flat}) != 1 or not flat[0].is_floating_point():
        return None
    return torch.cat(flat).float().numpy()
