"""The table of all networks: sizes, costs, published numbers, weights.

What ``avadet models`` prints and ``docs/zoo.md`` shows. Parameters and multiply-adds stand in
``costs.json``, since counting all takes a minute and more; write it again after adding a network:
``python -m avadet.convert.model_table > costs.json``, then move it over the old one.
"""

from __future__ import annotations

import fnmatch
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch

from avadet.convert import architectures, zoo
from avadet.models.backbones import BACKBONES
from avadet.models.cost import count_flops, count_parameters
from avadet.models.description import create

# Frames and side at which a backbone by itself is counted: those of its paper; the first match.
_INPUTS = (
    ("r2d_tiny", 32, 80),  # its frames are channels, of which it has so many
    ("*_tiny", 16, 80),
    ("r2plus1d_50", 16, 256),
    ("r2plus1d_1*", 32, 224),
    ("c3d", 16, 112),
    ("f_r2d_*", 16, 112),
    ("r2d_*", 16, 112),
    ("r3d_*", 16, 112),
    ("mc*", 16, 112),
    ("rmc*", 16, 112),
    ("r2plus1d_*", 16, 112),
    ("p3d_*", 16, 160),
    ("i3d_inception", 64, 224),
    ("s3d*", 64, 224),
    ("x3d_xs", 4, 182),
    ("x3d_s", 13, 182),
    ("x3d_m", 16, 256),
    ("x3d_l", 16, 356),
    ("*csn_*", 32, 224),
    ("c2d_*", 8, 256),
    ("i3d_*", 8, 256),
    ("slow_*", 8, 256),
    ("slowfast_*_16x8", 64, 256),
    ("torchvision_swin*", 32, 224),
    ("torchvision_s3d", 16, 224),
    ("torchvision_*", 16, 112),
    ("mvit_v2_l", 40, 312),
    ("mvit_v2_b", 32, 224),
    ("mvit_v1_b24", 32, 224),
    ("mvit_*_32x3", 32, 224),
    ("mvit_*", 16, 224),
    ("vit_*", 16, 224),
    ("*", 32, 256),
)


def names(pattern: str = "*") -> list[str]:
    """Architectures and backbones that match a shell pattern, each sorted, architectures first."""
    known = architectures.architecture_names()
    return [
        *fnmatch.filter(known, pattern),
        *(name for name in BACKBONES.names(pattern) if name not in known),
    ]


def rows(pattern: str = "*") -> list[dict[str, Any]]:
    """One row a network, as plain values.

    Returns:
        rows with ``name``, ``task`` ("classification", "detection", or "backbone" for one without
        a head, which configs name), ``classes``, ``params`` and ``macs`` (of the backbone, one per
        multiply-add, of one clip) at ``frames`` x ``side`` x ``side``; ``published``: a list of
        ``{metric: per cent}`` with ``protocol``, ``source``, ``weights`` (zoo name) and
        ``licence``.
    """
    return [
        _architecture(name) if _is_published(name) else _backbone(name) for name in names(pattern)
    ]


def _is_published(name: str) -> bool:
    return name in architectures.architectures()


def _architecture(name: str) -> dict[str, Any]:
    what = architectures.get(name).description
    clip = what.preprocessing
    params, macs = costs(name)
    return {
        "name": name,
        "task": what.task,
        "classes": what.num_classes,
        "params": params,
        "macs": macs,
        "frames": clip.num_frames,
        "side": clip.test_short_side,
        "published": [
            {
                "numbers": row.published,
                "protocol": row.protocol,
                "source": row.source,
                "weights": row.name,
                "licence": row.licence,
            }
            for row in zoo.rows().values()
            if row.arch == name
        ],
    }


def _backbone(name: str) -> dict[str, Any]:
    params, macs = costs(name)
    frames, side = _input(name)
    return {
        "name": name,
        "task": "backbone",
        "classes": None,
        "params": params,
        "macs": macs,
        "frames": frames,
        "side": side,
        "published": [],
    }


def _input(name: str) -> tuple[int, int]:
    return next((frames, side) for glob, frames, side in _INPUTS if fnmatch.fnmatch(name, glob))


def costs(name: str) -> tuple[int, int]:
    """Parameters and multiply-adds of a network, as written down; counted where they are not."""
    known = _written().get(name)
    return (known[0], known[1]) if known else count(name)


def count(name: str) -> tuple[int, int]:
    """Parameters and multiply-adds, counted now, on the meta device."""
    with torch.device("meta"):
        if not _is_published(name):
            backbone = BACKBONES.get(name)()
            frames, side = _input(name)
            return count_parameters(backbone), count_flops(backbone, (1, 3, frames, side, side))
        description = architectures.get(name).description
        model: Any = create(description)
    clip = description.preprocessing
    shape = (1, clip.channels, clip.num_frames, clip.test_short_side, clip.test_short_side)
    return count_parameters(model), count_flops(model.backbone, shape)


@cache
def _written() -> dict[str, list[int]]:
    text = (Path(__file__).parent / "costs.json").read_text(encoding="utf-8")
    values: dict[str, list[int]] = json.loads(text)
    return values


def main() -> None:
    """Counts every network and writes what belongs into ``costs.json``."""
    lines = [f"{json.dumps(name)}: {json.dumps(count(name))}" for name in names()]
    sys.stdout.write("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
