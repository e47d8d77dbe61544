"""A network made ready to run and never to learn again: as fast as the machine allows."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn

from avadet.engine.precision import Precision, place, resolve
from avadet.models.folding import fold_norms, fuse_convolutions


@dataclass(frozen=True)
class Prepared:
    """A network and how it runs.

    Attributes:
        model: in eval mode; to be called under ``precision.autocast()``.
        precision: what was chosen.
        choice: the same and the reason, for people.
    """

    model: nn.Module
    precision: Precision
    choice: str


def prepare_for_inference(
    model: nn.Module, device: torch.device | str, precision: str = "auto"
) -> Prepared:
    """Folds norms, fuses convolutions, and chooses number and memory format by the processor.

    Folding changes results by rounding (relative 1e-6 in float32); bfloat16 changes scores by
    some thousandths. The result has another state dict and cannot be trained.

    Args:
        model: with its weights; a copy of it is prepared.
        precision: "auto" is bfloat16 where the processor multiplies it in hardware, else float32
            (float16 on GPUs without it); or "fp32", "bf16", "fp16".

    Raises:
        UserError: the device cannot do it.
    """
    device = torch.device(device)
    chosen = resolve(precision, device)
    model = copy.deepcopy(model).to(device).eval()
    folded = fold_norms(model)
    # On a GPU float32 keeps the default layout; channels-last pays with tensor cores only.
    fused = 0
    if device.type == "cpu" or chosen.name != "fp32":
        fused = fuse_convolutions(model, chosen.dtype)
    # What is no plain 3D convolution: linear layers, norms of transformers, 2D convolutions.
    place(model, device, chosen)
    reason = "chosen for this processor" if precision == "auto" else "as asked"
    parts = [f"{chosen.name} on {device} ({reason})"]
    if fused:
        parts.append(f"{fused} convolutions fused, channels last")
    if folded:
        parts.append(f"{folded} norms folded")
    return Prepared(model, chosen, ", ".join(parts))


def prepare_for_scoring(model: nn.Module, device: torch.device, precision: str) -> Prepared:
    """As ``prepare_for_inference``, but float32 stays the trained network to the last bit.

    For numbers that will be compared with those of others.
    """
    if precision != "fp32":
        return prepare_for_inference(model, device, precision)
    chosen = resolve(precision, device)
    return Prepared(place(model, device, chosen).eval(), chosen, f"fp32 on {device} (as trained)")
