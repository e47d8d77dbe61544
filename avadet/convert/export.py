"""Writing a network for people who must stay with PySlowFast or MMAction2.

The file is read back before it is kept: what the other framework cannot express is an error, not
a network that answers differently.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from avadet.convert.config_text import read_python_settings, read_yaml_settings
from avadet.convert.facts import from_mmaction2, from_pyslowfast
from avadet.convert.foreign_settings import pyslowfast_settings
from avadet.convert.foreign_settings_mmaction2 import mmaction2_settings
from avadet.convert.layout import Layout
from avadet.convert.recognise import LAYOUTS, differences
from avadet.convert.structure_families import read_family
from avadet.errors import UserError
from avadet.files import atomic_path
from avadet.models.description import ModelDescription, save_weights

TARGETS = ("avadet", "pyslowfast", "mmaction2")


def export(model: nn.Module, path: str | os.PathLike[str], to: str = "avadet") -> None:
    """Writes a network's weights.

    Args:
        model: with its description.
        path: the new file.
        to: "avadet" (safetensors), "pyslowfast" (``.pyth``) or "mmaction2" (``.pth``).

    Raises:
        UserError: an unknown target, or one that cannot express this network: names what differs.
    """
    if to == "avadet":
        save_weights(path, model)
        return
    if to not in TARGETS:
        raise UserError(f"--to: '{to}' is not one of {', '.join(TARGETS)}")
    own = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    description: Any = model.description
    _, state, text = write(own, description, to)
    content: dict[str, Any] = (
        {"epoch": 0, "model_state": state, "cfg": text}
        if to == "pyslowfast"
        else {"meta": {"cfg": text}, "state_dict": state}
    )
    with atomic_path(Path(path)) as temporary, open(temporary, "wb") as file:
        torch.save(content, file)


def write(
    own: Mapping[str, Tensor], description: ModelDescription, to: str
) -> tuple[Layout, dict[str, Tensor], str]:
    """The layout, the tensors under its names, and the settings that make the network there.

    Raises:
        UserError: the other framework cannot express this network: names what differs.
    """
    settings = pyslowfast_settings if to == "pyslowfast" else mmaction2_settings
    text = settings(description)
    layout, state = _rename(own, to, description)
    _check(state, layout, text, description)
    return layout, state, text


def _rename(
    own: Mapping[str, Tensor], to: str, description: ModelDescription
) -> tuple[Layout, dict[str, Tensor]]:
    reasons = []
    for layout in LAYOUTS:
        if layout.source != to or layout.task not in (None, description.task):
            continue
        try:
            state = layout.table.write(own)
        except UserError as error:
            reasons.append(str(error))
            continue
        read_back = layout.table.read(state)
        if layout.recognises(state) and set(read_back.tensors) == set(own):
            return layout, state
    shortest = min(reasons, key=len, default="")
    raise UserError(f"{to} has no network like {description.name}: {shortest}".rstrip(": "))


def _check(
    state: dict[str, Tensor], layout: Layout, text: str, description: ModelDescription
) -> None:
    """Reads the file's content as a stranger would and compares.

    Raises:
        UserError: the other framework would build another network.
    """
    structure = read_family(layout.family, layout.table.read(state).shapes)
    if layout.source == "pyslowfast":
        seen = from_pyslowfast(structure, read_yaml_settings(text), description.name)
    else:
        seen = from_mmaction2(structure, read_python_settings(text), description.name)
    assert seen is not None, "the settings that are written are complete"
    changed = differences(_comparable(description), _comparable(seen))
    if changed:
        raise UserError(
            f"{layout.source} cannot express {description.name}; it would differ in: {changed}"
        )


def _comparable(description: ModelDescription) -> ModelDescription:
    """Without what no file of these frameworks says: names of classes, the window of a test."""
    head = {key: value for key, value in description.head_args.items() if key != "window"}
    return replace(description, class_names=None, class_ids=None, head_args=head)
