"""Multigrid training: small clips in large batches first, large clips in small batches last.

Wu et al., "A Multigrid Method for Efficiently Training Video Models", CVPR 2020, with the
figures of the authors' code (PySlowFast, utils/multigrid.py): the same work per step all along,
so that the many clips of a large batch pay for their size.

* The **long cycle** goes through four clip sizes within each interval of the step schedule:
  (T/4, S/sqrt 2), (T/2, S/sqrt 2), (T/2, S), (T, S) in batches of 8, 4, 2 and 1 times the base
  batch, with the learning rate scaled alike. After the last step of the schedule come full-sized
  clips only, the first half of them still at the rate of the cycle before.
* The **short cycle** goes through the crops S/2, S/sqrt 2 and that of the long cycle from step to
  step, the batch growing as the area shrinks; the rate stays.
* ``epoch_factor`` (1.5) times as many epochs are seen as in the plain schedule.

Clips of fewer frames are spread over up to as much time as full ones: their stride is drawn between
the base stride and the one that spans the same time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from avadet.data.augment import StrongPolicy
from avadet.data.draws import ClipShape
from avadet.data.transforms import Policy, TrainPolicy
from avadet.errors import UserError

# Shares of the frames and of the side.
LONG_CYCLE = ((0.25, 0.5**0.5), (0.5, 0.5**0.5), (0.5, 1.0), (1.0, 1.0))
# Shares of the side; the third step has that of the long cycle.
SHORT_CYCLE = (0.5, 0.5**0.5)


@dataclass(frozen=True)
class Grid:
    """The clips of one step.

    Attributes:
        batch: size of the batch, in base batches.
        num_frames: T.
        side: of the crop, pixels.
    """

    batch: int
    num_frames: int
    side: int


@dataclass(frozen=True)
class Phase:
    """Epochs with one size of the long cycle.

    Attributes:
        start, end: epochs; the phase ends before ``end``.
        grids: what its steps go through in turn; the last is that of the long cycle.
        rate: learning rate, as a multiple of the base rate.
    """

    start: int
    end: int
    grids: tuple[Grid, ...]
    rate: float


@dataclass(frozen=True)
class MultigridPlan:
    """A whole training run.

    Attributes:
        base: the full clip.
        phases: one after the other, from epoch 0.
    """

    base: ClipShape
    phases: tuple[Phase, ...]

    @property
    def epochs(self) -> int:
        """Of the whole run."""
        return self.phases[-1].end

    @property
    def steps(self) -> list[float]:
        """Epochs at which the learning rate changes; the first is 0."""
        return [float(phase.start) for phase in self.phases]

    @property
    def factors(self) -> list[float]:
        """The learning rates from those epochs on, as multiples of the base rate."""
        return [phase.rate for phase in self.phases]

    def grid(self, epoch: int, step: int) -> Grid:
        """The clips of a step of an epoch; after the end, those of the last phase."""
        phase = next((each for each in self.phases if epoch < each.end), self.phases[-1])
        return phase.grids[step % len(phase.grids)]

    def strides(self, grid: Grid) -> tuple[int, int]:
        """Smallest and largest stride of clips of ``grid``, which spans no more than a full one."""
        stride = self.base.frame_stride
        return stride, stride * (self.base.num_frames // grid.num_frames)


def plan(
    base: ClipShape,
    *,
    epochs: float,
    steps: Sequence[float],
    factors: Sequence[float],
    long_cycle: bool = True,
    short_cycle: bool = True,
    epoch_factor: float = 1.5,
) -> MultigridPlan:
    """The multigrid run that takes the place of a plain one by a step schedule.

    Phases begin and end with whole epochs; one that would have none is left out.

    Args:
        base: the full clip.
        epochs: of the plain run.
        steps: epochs at which its learning rate changes, the first 0.
        factors: learning rates from those epochs on, as multiples of the base rate.

    Raises:
        UserError: the schedule or the clip leaves no room for the cycles.
    """
    if len(steps) != len(factors) or not steps or steps[0] != 0:
        raise UserError(f"multigrid: steps {list(steps)} must begin with 0 and pair with factors")
    if not long_cycle:
        return _short_only(base, epochs, steps, factors, short_cycle, epoch_factor)
    if len(steps) < 2 or steps[-1] >= epochs:
        raise UserError(
            "multigrid: the long cycle runs within the intervals of train.steps, so there must be "
            f"at least two steps, the last before epoch {epochs:g}; found {list(steps)}"
        )
    if base.num_frames < 4:
        raise UserError(f"multigrid: a clip of {base.num_frames} frames has no quarter")
    cycle = [
        _grids(base, round(base.num_frames * t), round(base.side * s), short_cycle)
        for t, s in LONG_CYCLE
    ]
    # The mean number of base batches in a step: each size gets as many steps as the others.
    sizes = [float(np.mean([grid.batch for grid in grids])) for grids in cycle]
    wanted: list[tuple[float, tuple[Grid, ...], float]] = []  # epochs, grids, rate
    for start, end, factor in zip(steps, steps[1:], factors):
        for grids, size in zip(cycle, sizes):
            share = (end - start) * size / sum(sizes)
            wanted.append((share, grids, factor * grids[-1].batch))
    # The last interval saves as many steps as the others do: one cycle of len(cycle) steps does
    # the epochs of sum(sizes) plain ones.
    last = (epochs - steps[-1]) * len(cycle) / sum(sizes) * sizes[-1]
    wanted.append((last, cycle[-1], factors[-1]))
    stretch = epochs * epoch_factor / sum(each for each, _, _ in wanted)
    bounds = [0, *(round(each) for each in np.cumsum([each * stretch for each, _, _ in wanted]))]
    phases = [
        Phase(start, end, grids, rate)
        for start, end, (_, grids, rate) in zip(bounds, bounds[1:], wanted)
    ]
    final = phases.pop()
    middle = (final.start + final.end) // 2
    phases += [
        replace(final, end=middle, rate=phases[-1].rate),
        replace(final, start=middle),
    ]
    return _whole(base, phases, epochs, epoch_factor)


def _short_only(
    base: ClipShape,
    epochs: float,
    steps: Sequence[float],
    factors: Sequence[float],
    short_cycle: bool,
    epoch_factor: float,
) -> MultigridPlan:
    if not short_cycle:
        raise UserError("multigrid: both cycles are off; leave train.multigrid out")
    bounds = [*(int(step * epoch_factor) for step in steps), int(epochs * epoch_factor)]
    grids = _grids(base, base.num_frames, base.side, True)
    phases = [
        Phase(start, end, grids, factor) for start, end, factor in zip(bounds, bounds[1:], factors)
    ]
    return _whole(base, phases, epochs, epoch_factor)


def _whole(
    base: ClipShape, phases: Sequence[Phase], epochs: float, epoch_factor: float
) -> MultigridPlan:
    """The plan of those phases that have an epoch."""
    found = tuple(each for each in phases if each.start < each.end)
    if not found:
        raise UserError(f"multigrid: {epochs:g} epochs by {epoch_factor:g} are less than one")
    return MultigridPlan(base, found)


def _grids(base: ClipShape, frames: int, side: int, short_cycle: bool) -> tuple[Grid, ...]:
    """The steps of the short cycle at one size of the long one."""
    sides = [base.side * share for share in SHORT_CYCLE] if short_cycle else []
    whole = base.num_frames * base.side**2
    return tuple(
        Grid(max(round(whole / (frames * each**2)), 1), frames, round(each))
        for each in (*sides, side)
    )


def resized(policy: Policy, shape: ClipShape | None) -> Policy:
    """The policy for crops of another side: the smallest short side shrinks with the crop.

    The largest stays, as published: a smaller crop may show more or less of the picture.

    Args:
        shape: as the sampler wants the clip; None leaves the policy alone.

    Raises:
        UserError: a policy without a crop cannot change its size.
    """
    if shape is None:
        return policy
    if isinstance(policy, StrongPolicy):
        return replace(policy, base=resized(policy.base, shape))
    if not isinstance(policy, TrainPolicy) or policy.crop is None:
        raise UserError("multigrid: needs data.crop, whose size it varies")
    side = shape.side
    low, high = policy.short_side
    smallest = max(round(low * side / policy.crop), side)
    return replace(policy, crop=side, short_side=(smallest, max(high, smallest)))
