"""Every published architecture by name, with the switches that its weights need.

Names are ``{backbone}_{frames}x{stride}[_variant]_{data set}[_{source}]``: frames and stride are
those of the Slow pathway, as the papers write them (8x8 of SlowFast is a clip of 32 frames, every
second one); variants are ``nl`` (non-local blocks), ``nopool``, ``context``, ``tmax`` (temporal max
pool), ``mlp``, ``acrn``, ``lfb_nl``, ``lfb_max``, ``lfb_avg`` (long-term feature bank); the source
is named where its network differs from PySlowFast's of that name (``mmaction2``, ``vmz``,
``pytorchvideo``) or for the ``short`` AVA schedule. Names are stable.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from avadet.convert.datasets import DATASETS, class_ids, class_names
from avadet.errors import UserError
from avadet.models.description import ModelDescription
from avadet.models.preprocess import Preprocessing
from avadet.registry import suggest

GREY = ((0.45, 0.45, 0.45), (0.225, 0.225, 0.225))
# ImageNet's, as MMAction2 uses them (123.675/255, ...).
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# Kinetics', of VMZ and torchvision.
KINETICS = ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))

K_PLACES = {"res3": [1, 3], "res4": [1, 3, 5]}
AVA_PLACES = {"res4": [6, 13, 20]}
# Frames and stride of a single pathway; of SlowFast's clip, with alpha.
CLIP = {"4x16": (4, 16), "8x8": (8, 8), "16x4": (16, 4)}
FAST = {"4x16": (32, 2, 8), "8x8": (32, 2, 4), "16x8": (64, 2, 4)}


@dataclass(frozen=True)
class Architecture:
    """A published network.

    Attributes:
        name: see the module.
        sources: whose checkpoints hold it: "pyslowfast", "caffe2", "pytorchvideo", ...
        description: everything about it but the weights.
        aliases: names that its publisher uses (configs, hub functions, files without suffix).
    """

    name: str
    sources: tuple[str, ...]
    description: ModelDescription
    aliases: tuple[str, ...] = ()


def non_local(
    places: dict[str, list[int]],
    kind: str = "dot_product",
    pool: Sequence[int] = (1, 2, 2),
    *,
    mmaction2: bool = False,
) -> dict[str, Any]:
    """Arguments of non-local blocks; MMAction2 pools keys and values, and has no output bias."""
    return {
        "places": places,
        "kind": kind,
        "pool": list(pool),
        "pool_first": not mmaction2,
        "out_bias": not mmaction2,
    }


def describe(
    name: str,
    backbone: str,
    dataset: str,
    frames: int,
    stride: int,
    *,
    args: dict[str, Any] | None = None,
    head: dict[str, Any] | None = None,
    head_name: str | None = None,
    norm: tuple[tuple[float, ...], tuple[float, ...]] = GREY,
    side: int = 256,
    one_crop_side: int | None = None,
    fps: float | None = None,
    modality: str = "rgb",
    source: str = "avadet",
) -> ModelDescription:
    """A description from what differs between architectures.

    Detection gets stride 16 in the backbone unless ``args`` say otherwise; ``fps`` defaults to the
    data set's.
    """
    data = DATASETS[dataset]
    detection = data.task == "detection"
    mean, std = norm
    backbone_args = dict(args or {})
    if detection:
        backbone_args.setdefault("output_stride", 16)
    return ModelDescription(
        name=name,
        task=data.task,
        backbone=backbone,
        num_classes=data.num_classes,
        preprocessing=Preprocessing(
            frames,
            stride,
            side,
            mean,  # type: ignore[arg-type]
            std,  # type: ignore[arg-type]
            fps=data.fps if fps is None else fps,
            modality=modality,
            one_crop_side=one_crop_side,
        ),
        activation=data.activation,
        backbone_args=backbone_args,
        head=head_name or ("roi" if detection else "pool"),
        head_args=dict(head or {}),
        class_names=class_names(dataset),
        class_ids=class_ids(dataset),
        source=source,
    )


def slowfast_args(clip: str, kernel: int, **more: Any) -> dict[str, Any]:
    """Arguments of a SlowFast backbone: frame-rate ratio by clip, lateral kernel, the rest."""
    return {"alpha": FAST[clip][2], "fusion_kernel": kernel, **more}


def row(
    name: str,
    backbone: str,
    dataset: str,
    frames: int,
    stride: int,
    sources: tuple[str, ...],
    facts: dict[str, Any],
    *aliases: str,
) -> Architecture:
    """One line of the tables; ``facts`` are keyword arguments of ``describe``."""
    description = describe(name, backbone, dataset, frames, stride, source=sources[0], **facts)
    return Architecture(name, sources, description, aliases)


def with_classes(description: ModelDescription, num_classes: int) -> ModelDescription:
    """The description for another number of classes, whose names are then unknown."""
    if num_classes == description.num_classes:
        return description
    return replace(description, num_classes=num_classes, class_names=None, class_ids=None)


def architectures() -> dict[str, Architecture]:
    """All published architectures by name."""
    if not _TABLE:
        from avadet.convert import published

        for each in published.rows():
            if each.name in _TABLE:
                raise ValueError(f"architecture '{each.name}' stands twice")
            _TABLE[each.name] = each
    return _TABLE


_TABLE: dict[str, Architecture] = {}


def architecture_names() -> list[str]:
    """Names of all published architectures, sorted."""
    return sorted(architectures())


def _plain(word: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "_", word.lower()).strip("_")


def find(word: str) -> list[Architecture]:
    """Architectures of that name, or whose publisher calls them so; case and dashes are ignored."""
    table = architectures()
    if word in table:
        return [table[word]]
    plain = _plain(word)
    return [
        each
        for each in table.values()
        if plain == _plain(each.name) or plain in map(_plain, each.aliases)
    ]


def get(name: str, among: Iterable[Architecture] | None = None) -> Architecture:
    """The one architecture called ``name``.

    Args:
        name: its name, or one its publisher uses.
        among: candidates that decide when a publisher uses one name for several networks.

    Raises:
        UserError: none or several.
    """
    found = find(name)
    if len(found) > 1 and among is not None:
        allowed = {each.name for each in among}
        found = [each for each in found if each.name in allowed] or found
    if len(found) == 1:
        return found[0]
    known = architecture_names()
    if not found:
        raise UserError(
            f"unknown architecture '{name}'.{suggest(name, known)} "
            "`avadet models` lists all architectures"
        )
    raise UserError(
        f"architecture '{name}' is the name of several: "
        f"{', '.join(each.name for each in found)}; give one of these"
    )
