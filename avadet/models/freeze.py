"""Parts of a network that training leaves as they are: for linear probing."""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import nn


def freeze(module: nn.Module) -> None:
    """Fixes a module for good: no gradients, and evaluation mode whatever the training loop says,
    so that batch norms keep their statistics and dropout is off.

    The class is swapped rather than the module wrapped, so that parameter names, copies and
    ``isinstance`` are as before; calling it twice is harmless.
    """
    module.requires_grad_(False)
    if not isinstance(module, _Frozen):
        module.__class__ = _frozen(type(module))
    module.eval()


class _Frozen(nn.Module):
    """What is mixed into a frozen module's class."""

    def train(self, mode: bool = True) -> Any:
        return super().train(False)


@cache
def _frozen(kind: type[nn.Module]) -> type[nn.Module]:
    return type(kind.__name__, (_Frozen, kind), {"__module__": kind.__module__})
