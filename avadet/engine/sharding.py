"""Training a model whose parameters are spread over the processes: what is made whole, and when.

Checkpoints and evaluations see whole tensors, so that a run may go on with another number of
processes, or without sharding. Evaluation runs on a whole copy: the processes have different
numbers of test clips, and a sharded forward pass would wait for all of them each time.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from avadet.engine import distributed
from avadet.engine.ema import Ema
from avadet.engine.optim import follow
from avadet.errors import UserError
from avadet.models.recompute import blocks_of

Sharding = Literal["none", "fsdp2"]


def check(sharding: str, channels_last: bool | None) -> bool:
    """Whether this run is to be sharded: it is asked for, and there are several processes.

    Raises:
        UserError: an unknown kind, or one that does not go with the rest.
    """
    if sharding not in ("none", "fsdp2"):
        raise UserError(f"train.sharding: '{sharding}' is not one of none, fsdp2")
    if sharding == "none" or distributed.world_size() == 1:
        return False
    if channels_last:
        raise UserError(
            "train.sharding: fsdp2 cuts weights in their plain order, not channels-last"
        )
    return True


def shard_model(
    model: nn.Module, optimizer: torch.optim.Optimizer, ema: Ema | None, device: torch.device
) -> nn.Module:
    """Shards a model and its moving average, and hands the optimiser the new parameters.

    Returns:
        the model's skeleton: whole, with parameters that hold nothing, for ``assemble``.

    Raises:
        UserError: the backbone names no blocks, or this torch has no FSDP2.
    """
    skeleton = copy.deepcopy(model)
    for module in skeleton.modules():
        for name, parameter in module.named_parameters(recurse=False):
            hollow = torch.empty_like(parameter, device="meta")
            setattr(module, name, nn.Parameter(hollow, requires_grad=parameter.requires_grad))
    for each in (model, *([ema.model] if ema else [])):
        distributed.shard(each, blocks_of(getattr(each, "backbone", each)), device)
    follow(optimizer, model)
    return skeleton


def assemble(skeleton: nn.Module, model: nn.Module) -> nn.Module:
    """A whole copy of a sharded model, on every process, in the skeleton's shape."""
    copied = copy.deepcopy(skeleton)
    copied.load_state_dict(distributed.whole(model.state_dict()), assign=True)
    return copied


def parts(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """A whole state's tensors, cut as those of ``model`` are; unknown names and shapes pass."""
    own = model.state_dict()
    return {
        name: distributed.part_like(tensor, own[name])
        if name in own and own[name].shape == tensor.shape
        else tensor
        for name, tensor in state.items()
    }


def optimizer_parts(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """A whole optimiser state, cut as the optimiser's parameters are."""
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    cut = {}
    for number, values in state["state"].items():
        like = parameters[number] if number < len(parameters) else None
        cut[number] = {
            name: distributed.part_like(value, like)
            if isinstance(value, Tensor) and like is not None and value.shape == like.shape
            else value
            for name, value in values.items()
        }
    return {**state, "state": cut}
