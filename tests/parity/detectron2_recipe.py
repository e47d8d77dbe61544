"""Weights and pictures of the Detectron2 goldens, drawn from names and seeds.

Every tensor has a generator of its own, seeded with the CRC-32 of its name, so that neither order
nor framework plays a part. The rules are those of the goldens' README.
"""

from __future__ import annotations

import json
import math
import pickle
import zlib
from pathlib import Path
from typing import Any

import numpy as np

GOLDENS = Path(__file__).resolve().parent.parent / "persons" / "goldens"


def _generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def draw_tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The tensor called ``name``: positive for 1-D weights and variances, else normal."""
    rng = _generator(zlib.crc32(name.encode()))
    flat = len(shape) <= 1
    if name.endswith("running_var") or (flat and name.endswith("weight")):
        value = rng.uniform(0.5, 1.5, shape)
    elif flat:
        value = 0.1 * rng.standard_normal(shape)
    else:
        value = rng.standard_normal(shape) / math.sqrt(math.prod(shape[1:]))
    return np.asarray(value, np.float32)


def draw_picture(seed: int, height: int, width: int) -> np.ndarray:
    """Six waves per channel, (H,W,3) uint8, in the channel order of the reference (BGR)."""
    rng = _generator(seed)
    y, x = np.mgrid[0:height, 0:width]
    picture = np.zeros((height, width, 3))
    for channel in range(3):
        for _ in range(6):
            fx, fy, phase = rng.uniform(0.005, 0.08), rng.uniform(0.005, 0.08), rng.uniform(0, 6.28)
            picture[..., channel] += np.sin(2 * np.pi * (fx * x + fy * y) + phase)
    picture -= picture.min()
    return (picture / picture.max() * 255).astype(np.uint8)


def read_golden(name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The manifest and the numbers of a configuration."""
    manifest = json.loads((GOLDENS / f"{name}.json").read_text())
    with np.load(GOLDENS / f"{name}.npz") as numbers:
        return manifest, dict(numbers)


def draw_state(manifest: dict[str, Any]) -> dict[str, np.ndarray]:
    """All tensors of a manifest, scaled as it says, by Detectron2's names."""
    scale = manifest["weight_scale"]
    return {
        name: draw_tensor(name, tuple(shape)) * np.float32(scale.get(name, 1.0))
        for name, shape in manifest["state_dict"].items()
    }


def write_checkpoint(path: Path, manifest: dict[str, Any]) -> Path:
    """A model file as Detectron2's zoo has it: a pickle of numpy arrays."""
    content = {"model": draw_state(manifest), "__author__": "drawn", "matching_heuristics": True}
    with path.open("wb") as file:
        pickle.dump(content, file, protocol=2)
    return path
