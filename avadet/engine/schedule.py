"""Learning rates as functions of the fractional epoch.

A schedule is a function ``epoch -> lr``; ``epoch`` is the number of epochs done when the step
begins: 1.5 is the middle of the second epoch. Nothing is kept between calls, so a resumed run
needs no schedule state.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal

from avadet.errors import UserError

Schedule = Callable[[float], float]


def constant(lr: float) -> Schedule:
    """The same rate throughout."""
    return lambda epoch: lr


def step(lr: float, steps: Sequence[float], factors: Sequence[float]) -> Schedule:
    """``lr * factors[i]`` from epoch ``steps[i]`` on.

    PySlowFast's AVA recipe (configs/AVA/*_SHORT.yaml): steps 0, 10, 15, 20 with factors 1, 0.1,
    0.01, 0.001.

    Raises:
        UserError: lengths differ, the first step is not 0, or steps do not rise.
    """
    if len(steps) != len(factors) or not steps:
        raise UserError(f"steps ({len(steps)}) and factors ({len(factors)}) must pair up")
    if steps[0] != 0 or any(a >= b for a, b in itertools.pairwise(steps)):
        raise UserError(f"steps {list(steps)} must begin with 0 and rise")
    rates = [lr * factor for factor in factors]
    return lambda epoch: rates[max(bisect.bisect_right(steps, epoch) - 1, 0)]


def cosine(lr: float, epochs: float, final_lr: float = 0.0, start: float = 0.0) -> Schedule:
    """Half a cosine from ``lr`` at epoch ``start`` to ``final_lr`` at ``epochs``.

    With ``start`` 0 the wave begins at epoch 0 and a warm-up cuts into it, as in PySlowFast's
    Kinetics recipe; with ``start`` at the warm-up's end it begins there
    (``COSINE_AFTER_WARMUP``).
    """
    if epochs <= start:
        raise UserError(f"the cosine schedule's end {epochs:g} is not after its start {start:g}")

    def rate(epoch: float) -> float:
        done = min(max((epoch - start) / (epochs - start), 0.0), 1.0)
        return final_lr + (lr - final_lr) * 0.5 * (1.0 + math.cos(math.pi * done))

    return rate


def with_warmup(policy: Schedule, epochs: float, first_lr: float) -> Schedule:
    """Linear from ``first_lr`` at epoch 0 to the policy's own value at ``epochs``."""
    if epochs <= 0:
        return policy
    goal = policy(epochs)

    def rate(epoch: float) -> float:
        if epoch < epochs:
            return first_lr + (goal - first_lr) * epoch / epochs
        return policy(epoch)

    return rate


def create_schedule(
    name: Literal["step", "cosine", "constant"],
    *,
    lr: float,
    epochs: float,
    steps: Sequence[float] = (),
    factors: Sequence[float] = (),
    final_lr: float = 0.0,
    warmup_epochs: float = 0.0,
    warmup_lr: float = 0.0,
    cosine_after_warmup: bool = False,
) -> Schedule:
    """A policy with its warm-up; ``cosine_after_warmup`` starts the cosine where that ends.

    Raises:
        UserError: the name is unknown or the values do not fit.
    """
    if warmup_epochs >= epochs > 0 and warmup_epochs > 0:
        raise UserError(f"warmup_epochs {warmup_epochs:g} leaves nothing of {epochs:g} epochs")
    if name == "step":
        policy = step(lr, steps, factors)
    elif name == "cosine":
        policy = cosine(lr, epochs, final_lr, warmup_epochs if cosine_after_warmup else 0.0)
    elif name == "constant":
        policy = constant(lr)
    else:
        raise UserError(f"unknown schedule '{name}'. Known: constant, cosine, step")
    return with_warmup(policy, warmup_epochs, warmup_lr)
