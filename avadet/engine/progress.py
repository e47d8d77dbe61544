"""Where a run stands: all that a resumed run must know besides tensors."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from avadet.errors import UserError

# Positions are ratios of integers; comparisons forgive their rounding.
_EPS = 1e-9


@dataclass
class Progress:
    """Position and results.

    Attributes:
        epoch, batch: the next batch is number ``batch`` (of each process) of epoch ``epoch``.
        step: optimiser steps done.
        clips: terms of the loss seen by all processes (``Task.weight``).
        minutes: wall time spent so far, over all interruptions.
        evaluation_due: the evaluation that follows the last step is not done yet.
        finished: nothing is left to do.
        metrics: of the last evaluation.
        best: the best value so far of the first metric; best_step: its step.
        skipped: optimiser steps left out because float16 gradients overflowed.
        batches_per_epoch, world_size: of the data, in epoch 0; see ``check``.
        epoch_batches: batches of the present epoch where it has another number; 0 where not.
    """

    batches_per_epoch: int
    world_size: int
    epoch: int = 0
    batch: int = 0
    step: int = 0
    clips: float = 0.0
    minutes: float = 0.0
    evaluation_due: bool = False
    finished: bool = False
    metrics: dict[str, float] = field(default_factory=dict)
    best: float | None = None
    best_step: int | None = None
    skipped: int = 0
    epoch_batches: int = 0

    @property
    def epoch_length(self) -> int:
        """Batches of each process in the present epoch."""
        return self.epoch_batches or self.batches_per_epoch

    @property
    def position(self) -> float:
        """Epochs done, fractional."""
        return self.epoch + self.batch / self.epoch_length

    def advance(self, batches: int) -> None:
        """Counts one optimiser step over ``batches`` batches."""
        self.step += 1
        self.batch += batches
        if self.batch >= self.epoch_length:
            self.next_epoch()

    def next_epoch(self) -> None:
        """Goes to the beginning of the next epoch."""
        self.epoch, self.batch, self.epoch_batches = self.epoch + 1, 0, 0

    def reached(self, epochs: float) -> bool:
        """True when ``epochs`` are done."""
        return self.position >= epochs - _EPS

    def crossed(self, before: float, every: float) -> bool:
        """True when a multiple of ``every`` epochs lies in (before, position]."""
        return every > 0 and math.floor(self.position / every + _EPS) > math.floor(
            before / every + _EPS
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Progress:
        """The inverse of ``to_dict``."""
        return cls(**{each.name: values[each.name] for each in fields(cls) if each.name in values})

    def check(self, batches_per_epoch: int, world_size: int, source: str) -> None:
        """Goes on with other data only where the position keeps its meaning.

        Another number of processes cuts the same steps into other parts (the batch size counts a
        whole step), so the position stays. Between epochs the number of batches may change with it.

        Raises:
            UserError: the data differ from those the checkpoint was made with.
        """
        if world_size == self.world_size or self.batch:
            then, now = self.batches_per_epoch, batches_per_epoch
            if then != now:
                raise UserError(
                    f"{source}: was made with batches_per_epoch {then}, now it is {now}: the data, "
                    "the batch size or the number of processes has changed, so the run cannot "
                    "continue where it stopped; restore them or start a new run in another folder"
                )
        self.batches_per_epoch, self.world_size = batches_per_epoch, world_size
