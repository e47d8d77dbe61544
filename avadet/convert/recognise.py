"""Whose checkpoint is it, and of which architecture: told by content.

The names of the tensors tell the source; their shapes tell depth, kernels, heads. What shapes do
not show comes, in this order, from ``arch``, from the settings inside the file, from the file's
name (publishers' names are aliases of architectures), or from there being one candidate only.
Nothing is guessed: several candidates are an error that lists them.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avadet.convert import (
    architectures,
    caffe2,
    convnets,
    mmaction2,
    mvit,
    pyslowfast,
    pytorchvideo,
    torchvision,
    videomae,
    zoo,
)
from avadet.convert import facts as facts_of
from avadet.convert import vmz as vmz
from avadet.convert.architectures import Architecture
from avadet.convert.config_text import read_python_settings, read_yaml_settings
from avadet.convert.layout import Layout
from avadet.convert.rules import Renamed, listing
from avadet.convert.structure import Structure
from avadet.convert.structure_families import read_family
from avadet.convert.unpickle import read_checkpoint
from avadet.errors import UserError
from avadet.models.description import ModelDescription

logger = logging.getLogger(__name__)

LAYOUTS: tuple[Layout, ...] = (
    *pyslowfast.LAYOUTS,
    *caffe2.LAYOUTS,
    *pytorchvideo.LAYOUTS,
    *mmaction2.LAYOUTS,
    *vmz.LAYOUTS,
    *torchvision.LAYOUTS,
    *convnets.LAYOUTS,
    *mvit.LAYOUTS,
    *videomae.LAYOUTS,
)
_CONTAINERS = ("blobs", "model_state", "state_dict", "model_state_dict", "model", "module")
# What publishers append to the names of their files.
_SUFFIXES = re.compile(r"(_\d{8}-[0-9a-f]{8}|-[0-9a-f]{8}|_f\d{6,})$")


@dataclass
class Recognised:
    """A checkpoint that is understood.

    Attributes:
        path: the file.
        format: of the file, see ``unpickle``.
        layout: source and rules.
        renamed: its tensors under our names.
        structure: what their shapes say.
        description: everything about the network.
        assumed: where the facts that shapes do not show come from, for people.
    """

    path: Path
    format: str
    layout: Layout
    renamed: Renamed
    structure: Structure
    description: ModelDescription
    assumed: list[str] = field(default_factory=list)


def recognise(
    path: str | os.PathLike[str], arch: str | None = None, published: str | None = None
) -> Recognised:
    """Reads a foreign checkpoint and finds out what it is.

    Args:
        path: the file.
        arch: name of its architecture, where the file leaves it open.
        published: the architecture it was published as; it counts as the file's name does.

    Raises:
        UserError: unreadable, of an unknown source, or ambiguous.
    """
    path = Path(path)
    content, kind = read_checkpoint(path)
    state, settings = unwrap(content, path)
    layout = find_layout(state, path)
    renamed = layout.read(state, path)
    try:
        structure = read_family(layout.family, renamed.shapes)
    except UserError as error:
        detail = f"\nalso not understood:\n{listing(renamed.unclaimed)}" * bool(renamed.unclaimed)
        raise UserError(f"{path}: named as {layout.source} does, but {error}{detail}") from error
    description, assumed = _describe(path, layout, structure, settings, arch, published)
    description.refuse_code(str(path))
    for line in assumed:
        logger.info("%s: %s", path, line)
    return Recognised(path, kind, layout, renamed, structure, description, assumed)


def unwrap(content: Any, path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a checkpoint and the settings that travel with them.

    Returns:
        tensors by the names of the source (arrays become tensors, ``module.`` of parallel wrappers
        is dropped); and the parsed settings, {} where there are none.

    Raises:
        UserError: there are no tensors.
    """
    settings = _settings(content)
    state = content
    for _ in range(3):
        inner = next((state[key] for key in _CONTAINERS if _holds(state, key)), None)
        if inner is None:
            break
        state = inner
    # One array under many names is turned into one tensor, lest a small file fill the memory.
    made: dict[int, Tensor] = {}
    tensors = {
        name: made[id(value)] if id(value) in made else made.setdefault(id(value), _tensor(value))
        for name, value in (state.items() if isinstance(state, Mapping) else ())
        if isinstance(name, str) and isinstance(value, Tensor | np.ndarray | np.generic)
    }
    if not tensors:
        raise UserError(f"{path}: it holds no tensors; is this a checkpoint of a network?")
    for prefix in ("module.", "model."):
        # PySlowFast wraps PyTorchVideo's networks as "model.", heads included.
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name[len(prefix) :]: value for name, value in tensors.items()}
    return tensors, settings


def _holds(state: Any, key: str) -> bool:
    return (
        isinstance(state, Mapping)
        and isinstance(state.get(key), Mapping)
        and any(isinstance(v, Tensor | np.ndarray | Mapping) for v in state[key].values())
    )


def _tensor(value: Any) -> Tensor:
    """As a tensor of its own type; ``fit`` makes it the network's."""
    if isinstance(value, Tensor):
        return value.detach()
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        return torch.empty(0)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)
    return torch.from_numpy(np.ascontiguousarray(array).reshape(array.shape))


def _settings(content: Any) -> dict[str, Any]:
    if not isinstance(content, Mapping):
        return {}
    text = content.get("cfg")
    if isinstance(text, Mapping):
        return dict(text)
    if isinstance(text, str):
        return read_yaml_settings(text)
    meta = content.get("meta")
    if isinstance(meta, Mapping):
        for key in ("cfg", "config"):
            if isinstance(meta.get(key), str):
                return read_python_settings(meta[key])
            if isinstance(meta.get(key), Mapping):
                return dict(meta[key])
    return {}


def find_layout(state: Mapping[str, Tensor], path: Path) -> Layout:
    """The first layout that names tensors so.

    Raises:
        UserError: none does; names what the file looks like.
    """
    for layout in LAYOUTS:
        if layout.recognises(state):
            return layout
    if backbone_layout(state) is not None:
        raise UserError(
            f"{path}: a pre-trained backbone without a classifier; start a training from it: "
            "model.init: {source: file, path: ...}"
        )
    names = list(state)
    if any(name.startswith(("proposal_generator.", "roi_heads.")) for name in names):
        raise UserError(
            f"{path}: these are the weights of a person detector; give them to `avadet detect` "
            "or `avadet demo --persons-weights`"
        )
    known = ", ".join(sorted({layout.source for layout in LAYOUTS}))
    raise UserError(
        f"{path}: its tensors ({', '.join(names[:4])}, ...) are named as in no network that avadet "
        f"reads ({known}); `avadet models` lists the architectures"
    )


def backbone_layout(state: Mapping[str, Tensor]) -> Layout | None:
    """The layout of a backbone without a classifier, None where it is something else."""
    return next((each for each in videomae.BACKBONE_LAYOUTS if each.recognises(state)), None)


def _describe(
    path: Path,
    layout: Layout,
    structure: Structure,
    settings: dict[str, Any],
    arch: str | None,
    published: str | None,
) -> tuple[ModelDescription, list[str]]:
    candidates, classes = _candidates(layout, structure), structure.num_classes
    if arch is not None:
        chosen = architectures.get(arch, candidates)
        return _of(structure, chosen), [f"architecture {chosen.name}, as asked"]
    described = _from_settings(layout, structure, settings, path)
    if described is not None:
        alike = sorted(candidates, key=lambda each: each.description.num_classes != classes)
        name = next((each.name for each in alike if _same(each, described)), described.name)
        line = f"architecture {name}, by the settings inside the file"
        return replace(described, name=name), [line]
    exact = [c for c in candidates if c.description.num_classes == classes]
    of_name = [architectures.get(published)] if published else _of_name(_stem(path))
    named = [each for each in of_name if each in exact] or [
        each for each in of_name if each in candidates
    ]
    for group, reason in ((named, "by the name of the file"), (exact or candidates, "")):
        different = _distinct(group)
        if len(different) == 1:
            chosen = different[0]
            reason = reason or "the only published one with these tensors"
            return _of(structure, chosen), [f"architecture {chosen.name}, {reason}"]
        if group is named and different:
            candidates = exact = different
    if not candidates:
        raise UserError(
            f"{path}: {layout.source} weights of a {structure.backbone} ({_shown(structure)}) that "
            "no published architecture has, and the file carries no settings; say with --arch "
            "which one it was made from"
        )
    options = _distinct(exact or candidates)
    switches = differences(*(each.description for each in options))
    raise UserError(
        f"{path}: {layout.source} weights of a {structure.backbone}; several architectures have "
        f"these tensors and differ in what tensors do not show ({switches}): "
        f"{', '.join(each.name for each in options)}. Say which it is with --arch NAME"
    )


def _of_name(stem: str) -> list[Architecture]:
    """The architectures that publishers call so, or of the public files of that name."""
    files = {
        row.arch for row in zoo.rows().values() if row.arch and _stem(Path(row.filename)) == stem
    }
    return architectures.find(stem) + [architectures.get(name) for name in sorted(files)]


def _candidates(layout: Layout, structure: Structure) -> list[Architecture]:
    return [
        each
        for each in architectures.architectures().values()
        if layout.source in each.sources
        and layout.task in (None, each.description.task)
        and structure.agrees(
            each.description.backbone,
            each.description.backbone_args,
            each.description.head_args,
            each.description.head,
        )
    ]


def _of(structure: Structure, chosen: Architecture) -> ModelDescription:
    return architectures.with_classes(chosen.description, structure.num_classes)


def _from_settings(
    layout: Layout, structure: Structure, settings: dict[str, Any], path: Path
) -> ModelDescription | None:
    name = _stem(path)
    try:
        if layout.source in ("pyslowfast", "pytorchvideo", "caffe2"):
            return facts_of.from_pyslowfast(structure, settings, name, layout.source)
        if layout.source == "mmaction2":
            return facts_of.from_mmaction2(structure, settings, name)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # They come with the file: words for numbers, numbers for lists.
        raise UserError(
            f"{path}: the settings inside the file make no sense ({error}); say with --arch which "
            "architecture it was made from"
        ) from error
    except UserError as error:
        raise UserError(
            f"{path}: by the settings inside the file: {error}; if it was trained with others, say "
            "with --arch which architecture it was made from"
        ) from error
    return None


def _stem(path: Path) -> str:
    stem = re.sub(r"\.(pkl|pyth|pth|pt|safetensors)$", "", path.name)
    return _SUFFIXES.sub("", stem)


def _facts(description: ModelDescription) -> dict[str, Any]:
    facts = {
        each.name: getattr(description, each.name)
        for each in fields(description)
        if each.name not in ("name", "source")
    }
    # Norms that train no further answer as any others.
    args = description.backbone_args
    facts["backbone_args"] = {key: args[key] for key in args if key != "frozen_norms"}
    return facts


def _same(each: Architecture, description: ModelDescription) -> bool:
    ours = _facts(architectures.with_classes(each.description, description.num_classes))
    return ours == _facts(description)


def _distinct(group: list[Architecture]) -> list[Architecture]:
    """One of each set of architectures that differ by name only (as AVA 2.1 and 2.2 do)."""
    kept: list[Architecture] = []
    for each in group:
        if not any(_facts(each.description) == _facts(other.description) for other in kept):
            kept.append(each)
    return kept


def differences(*descriptions: ModelDescription) -> str:
    """In what descriptions differ but for name and source, in words; "" when in nothing."""
    flat = [_flatten(_facts(each)) for each in descriptions]
    keys = sorted({key for values in flat for key in values})
    shown = []
    for key in keys:
        values = {str(each.get(key, "default")) for each in flat}
        if len(values) > 1:
            long = key in ("class_names", "class_ids")
            shown.append(key if long else f"{key}: {' or '.join(sorted(values))}")
    return "; ".join(shown)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if hasattr(value, "to_dict"):
            value = value.to_dict()
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _shown(structure: Structure) -> str:
    parts = {**structure.args, **structure.head_args, "num_classes": structure.num_classes}
    return ", ".join(f"{key} {value}" for key, value in parts.items())
