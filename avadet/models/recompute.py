"""Activation checkpointing: the inside of a backbone's blocks is computed again in the backward
pass instead of being kept (Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016).

A backbone names the classes of its blocks in ``block_types``; that is all it must do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from avadet.errors import UserError


def blocks_of(backbone: nn.Module) -> list[nn.Module]:
    """The blocks of a backbone, in the order of its modules; a block within a block is part of it.

    Raises:
        UserError: the backbone names no ``block_types``.
    """
    types = tuple(getattr(backbone, "block_types", ()))
    if not types:
        raise UserError(
            f"{type(backbone).__name__} names no blocks (block_types), which "
            "train.activation_checkpointing and train.sharding work on; set both to none"
        )
    found: list[nn.Module] = []
    inside: set[int] = set()
    for module in backbone.modules():
        if isinstance(module, types) and id(module) not in inside:
            found.append(module)
            inside.update(id(each) for each in module.modules())
    return found


def recompute_blocks(backbone: nn.Module) -> int:
    """Turns every block into one that keeps its input only; returns how many there are.

    Results and gradients have the same bits: what blocks draw (dropout, drop path) is drawn again
    from the same random state, and batch norms count a batch once. In evaluation mode and without
    gradients nothing changes. The class of each block is swapped rather than the block wrapped, so
    that parameter names, copies and ``isinstance`` are as before; calling it twice is harmless.

    Raises:
        UserError: as ``blocks_of``.
    """
    blocks = blocks_of(backbone)
    for block in blocks:
        if not isinstance(block, _Recomputed):
            block.__class__ = _recomputed(type(block))
    return len(blocks)


class _Recomputed(nn.Module):
    """What is mixed into a block's class."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if not (self.training and torch.is_grad_enabled()):
            return super().forward(*args, **kwargs)  # type: ignore[misc]

        def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
            return nullcontext(), _statistics_at_rest(self)

        inside = super().forward  # type: ignore[misc]
        return checkpoint(inside, *args, use_reentrant=False, context_fn=contexts, **kwargs)


@cache
def _recomputed(kind: type[nn.Module]) -> type[nn.Module]:
    return type(kind.__name__, (_Recomputed, kind), {"__module__": kind.__module__})


@contextmanager
def _statistics_at_rest(block: nn.Module) -> Iterator[None]:
    """The batch norms below count into copies of their running statistics, which are forgotten.

    Leaving the statistics out altogether would make batch norm keep other tensors for the backward
    pass than it did the first time, which ``checkpoint`` refuses.
    """
    kept = [
        (module, dict(module._buffers))
        for module in block.modules()
        if isinstance(module, _BatchNorm) and module.training
    ]
    for module, buffers in kept:
        for name, buffer in buffers.items():
            module._buffers[name] = None if buffer is None else buffer.clone()
    try:
        yield
    finally:
        for module, buffers in kept:
            module._buffers.update(buffers)
