"""Exponential moving average of the weights."""

from __future__ import annotations

import copy

import torch
from torch import nn


class Ema:
    """A slowly following copy of a model, evaluated and exported in its place.

    After ``n`` updates the effective decay is ``min(decay, (1 + n) / (10 + n))``, so that a short
    run is not dominated by the initial weights (the ramp of TensorFlow's
    ``ExponentialMovingAverage``). Batch-norm statistics are averaged alike, because the averaged
    weights see averaged activations; counters are copied.

    Attributes:
        model: the averaged copy, in eval mode.
        updates: how many updates it has seen.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"decay must lie between 0 and 1: {decay}")
        self.decay = decay
        self.updates = 0
        # Which parameters learn stays marked: precise statistics leave frozen batch norms alone.
        self.model = copy.deepcopy(model).eval()

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Moves the copy towards ``model``."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        current = model.state_dict()
        for name, average in self.model.state_dict().items():
            if average.is_floating_point():
                average.lerp_(current[name].to(average.dtype), 1 - decay)
            else:
                average.copy_(current[name])

    def state_dict(self) -> dict[str, object]:
        """Plain containers of tensors and numbers."""
        return {"updates": self.updates, "model": self.model.state_dict()}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Restores what ``state_dict`` gave."""
        self.updates = int(state["updates"])  # type: ignore[call-overload]
        self.model.load_state_dict(state["model"])  # type: ignore[arg-type]
