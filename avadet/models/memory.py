"""How much memory a training step needs, counted tensor by tensor on any device, ``meta`` too."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Context that counts the bytes of the tensors made within it and still alive.

    Views share their storage and count once. What kernels use inside themselves does not count.

    Attributes:
        now, peak: bytes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._add(leaf.untyped_storage())
        return result

    def ignore(self, *tensors: Tensor) -> None:
        """These existed before."""
        for tensor in tensors:
            self._known.add(tensor.untyped_storage())

    def _add(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._remove, size)

    def _remove(self, size: int) -> None:
        self.now -= size


def step_bytes(model: nn.Module, *input_shapes: Sequence[int]) -> dict[str, int]:
    """Bytes of one forward and backward pass in float32, without computing anything.

    A copy of the model runs in training mode on the meta device.

    Args:
        model: a backbone or a classifier; with ``recompute.recompute_blocks`` or without.
        input_shapes: (B,3,T,H,W), once, or once per pathway.

    Returns:
        ``weights``: parameters and buffers, ``kept``: what the forward pass keeps for the
        backward pass, ``peak``: the most that is alive at a time, gradients of parameters
        included, weights not.
    """
    clone = copy.deepcopy(model).to("meta").train()
    clips = tuple(torch.empty(tuple(shape), device="meta") for shape in input_shapes)
    own = [*clone.parameters(), *clone.buffers()]
    with LiveBytes() as live:
        live.ignore(*own, *clips)
        result = clone(clips[0] if len(clips) == 1 else clips)
        maps = [result] if isinstance(result, Tensor) else list(result)
        kept = live.now
        torch.autograd.backward(maps, [torch.ones_like(each) for each in maps])
    weights = sum(each.numel() * each.element_size() for each in own)
    return {"weights": weights, "kept": kept, "peak": live.peak}
