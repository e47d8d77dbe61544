"""What the training loop asks of a task, with the answers that most tasks share."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from avadet.models.description import save_weights


class Task(ABC):
    """A model, the loss of a batch and the worth of the model.

    A batch is any value with ``.to(device)``.

    Attributes:
        model: what is trained. The loop may exchange its batch norms, so ``loss`` must reach it
            by this attribute.
    """

    model: nn.Module

    @abstractmethod
    def loss(self, batch: Any) -> Tensor:
        """Scalar loss of a batch on the device: a mean over what ``weight`` counts.

        With nothing to learn from (no box), it must still depend on all parameters, as
        ``logits.sum()`` of no rows does: the other processes wait for the gradients.
        """

    @abstractmethod
    def describe(self, batch: Any) -> list[str]:
        """A name for each clip or picture of the batch, for messages."""

    def weight(self, batch: Any) -> float:
        """How many terms ``loss`` is a mean of: clips, unless a task counts boxes.

        The loop weights the losses of accumulated steps and of processes with it, so that the
        gradient is that of the mean over all of them, however unevenly they are spread.
        """
        return float(len(self.describe(batch)))

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Metrics, the most important first, higher is better; {} where there is no test set.

        Runs on all processes and returns the same on all. ``model`` is in eval mode: the one
        trained, or its moving average.
        """
        return {}

    def export(self, path: str | os.PathLike[str], model: nn.Module) -> None:
        """Writes weights for use; called on the main process."""
        save_weights(path, model)


class LossModule(nn.Module):
    """A task's loss as a module's forward, which is what gradient averaging wraps."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.model = task.model
        self._task = task

    def forward(self, batch: Any) -> Tensor:
        return self._task.loss(batch)
