"""What a network costs: parameters and multiply-adds, without computing anything."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(model: nn.Module) -> int:
    """Learnable and frozen parameters; buffers (running statistics) do not count."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_flops(model: nn.Module, *input_shapes: Sequence[int], norm_cost: int = 0) -> int:
    """Multiply-adds of one forward pass, as the literature counts "FLOPs".

    Convolutions, linear layers and matrix products count, one per multiply-add (torch's counter
    says two, hence the division). Activations, pools and RoIAlign do not. Published numbers differ
    about batch norms, 1 to 2.5 per cent of these networks: papers leave them out, tables made with
    fvcore have 2 per element, older ones 5; ``norm_cost`` says which.

    A copy of the model runs on the meta device: nothing is computed and no memory is needed.

    Args:
        model: a backbone or a classifier (a detector's cost is its backbone's).
        input_shapes: (B,3,T,H,W), once, or once per pathway.
        norm_cost: multiply-adds per element of every batch norm's output.
    """
    clone = copy.deepcopy(model).to("meta").eval()
    clips = tuple(torch.empty(tuple(shape), device="meta") for shape in input_shapes)
    elements = 0

    def count(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal elements
        elements += output.numel()

    if norm_cost:
        for module in clone.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.register_forward_hook(count)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        clone(clips[0] if len(clips) == 1 else clips)
    return counter.get_total_flops() // 2 + norm_cost * elements
