"""What a network costs: parameters and multiply-adds, without computing anything."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(model: nn.Module) -> int:
    """Learnable and frozen parameters; buffers (running statistics) do not count."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_flops(model: nn.Module, *input_shapes: Sequence[int]) -> int:
    """Multiply-adds of one forward pass, as the literature counts "FLOPs".

    Convolutions, linear layers and matrix products count, one per multiply-add (torch's counter
    says two, hence the division). Norms, activations, pools and RoIAlign do not: they are under
    one per cent of every network here, and the published tables are met within one per cent so.
    A copy of the model runs on the meta device, so that no memory is used for activations.

    Args:
        model: a backbone or a classifier (a detector's cost is its backbone's).
        input_shapes: (B,3,T,H,W), once, or once per pathway.
    """
    clone = copy.deepcopy(model).to("meta").eval()
    clips = tuple(torch.empty(tuple(shape), device="meta") for shape in input_shapes)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        clone(clips[0] if len(clips) == 1 else clips)
    return counter.get_total_flops() // 2
