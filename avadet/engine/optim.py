"""Optimisers and their parameter groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from avadet.errors import UserError

# Everything whose scale and shift normalise rather than compute. Instance and batch norms derive
# from ``_NormBase``.
NORMS = (
    _NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.LocalResponseNorm,
    *((nn.RMSNorm,) if hasattr(nn, "RMSNorm") else ()),
)


def parameter_groups(
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    norm_weight_decay: float = 0.0,
    bias_weight_decay: float | None = None,
    lr_scales: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """The trainable parameters, grouped by weight decay and learning-rate scale.

    Args:
        model: parameters that do not require a gradient are left out.
        lr: base learning rate.
        weight_decay: of weights, and of biases where ``bias_weight_decay`` is None.
        norm_weight_decay: of the scale and shift of every norm (PySlowFast's
            ``BN.WEIGHT_DECAY``, 0 in its recipes).
        bias_weight_decay: of biases outside norms; transformers' recipes use 0.
        lr_scales: parameter-name prefix -> factor of the learning rate; the longest prefix that
            fits wins. ``{"backbone": 0.1}`` trains the backbone ten times slower; one prefix per
            layer gives layer-wise decay.

    Returns:
        Groups with ``params``, ``lr``, ``lr_scale``, ``weight_decay`` and ``names``, in the order
        in which the model holds its parameters.

    Raises:
        UserError: nothing is trainable, or a prefix fits no parameter.
    """
    scales = dict(lr_scales or {})
    unused = set(scales)
    bias_decay = weight_decay if bias_weight_decay is None else bias_weight_decay
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    seen: set[int] = set()
    for module_name, module in model.named_modules():
        for local_name, parameter in module.named_parameters(recurse=False):
            # Shared weights are met once per owner; the first owner decides.
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            name = f"{module_name}.{local_name}" if module_name else local_name
            decay = weight_decay
            if isinstance(module, NORMS):
                decay = norm_weight_decay
            elif local_name == "bias":
                decay = bias_decay
            fitting = [
                prefix for prefix in scales if name == prefix or name.startswith(f"{prefix}.")
            ]
            unused.difference_update(fitting)
            scale = scales[max(fitting, key=len)] if fitting else 1.0
            group = groups.setdefault(
                (decay, scale),
                {
                    "params": [],
                    "names": [],
                    "lr": lr * scale,
                    "lr_scale": scale,
                    "weight_decay": decay,
                },
            )
            group["params"].append(parameter)
            group["names"].append(name)
    if unused:
        raise UserError(f"lr_scales: no trainable parameter starts with {sorted(unused)}")
    if not groups:
        raise UserError("the model has no trainable parameter")
    return list(groups.values())


def create_optimizer(
    model: nn.Module,
    name: Literal["sgd", "adamw"] = "sgd",
    *,
    lr: float,
    weight_decay: float = 0.0,
    norm_weight_decay: float = 0.0,
    bias_weight_decay: float | None = None,
    lr_scales: Mapping[str, float] | None = None,
    momentum: float = 0.9,
    nesterov: bool = True,
    betas: tuple[float, float] = (0.9, 0.999),
    fused: bool = False,
) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW (decoupled decay), over ``parameter_groups``.

    ``fused`` updates all weights in a few kernels: for GPUs.

    Raises:
        UserError: the name is unknown or a value does not fit.
    """
    groups = parameter_groups(
        model,
        lr=lr,
        weight_decay=weight_decay,
        norm_weight_decay=norm_weight_decay,
        bias_weight_decay=bias_weight_decay,
        lr_scales=lr_scales,
    )
    try:
        if name == "sgd":
            # Nesterov without momentum is plain gradient descent, which torch refuses to spell so.
            return torch.optim.SGD(
                groups,
                lr=lr,
                momentum=momentum,
                nesterov=nesterov and momentum > 0,
                fused=fused or None,
            )
        if name == "adamw":
            return torch.optim.AdamW(groups, lr=lr, betas=betas, fused=fused or None)
    except ValueError as error:
        raise UserError(f"optimizer '{name}': {error}") from error
    raise UserError(f"unknown optimizer '{name}'. Known: adamw, sgd")


def follow(optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    """Points a fresh optimiser's groups at the parameters that now have its parameters' names.

    For parameters that became other objects, as sharding makes them.
    """
    named = dict(model.named_parameters())
    for group in optimizer.param_groups:
        group["params"] = [named[name] for name in group["names"]]


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets every group to ``lr`` times the group's own scale."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)
