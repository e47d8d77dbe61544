"""One optimiser step over a group of batches."""

from __future__ import annotations

import math
from contextlib import nullcontext

import torch
from torch import nn

from avadet.engine import distributed, nonfinite
from avadet.engine.feed import Group
from avadet.engine.precision import Precision
from avadet.engine.run_state import RunState
from avadet.engine.task import Task

_MEND = "lower the learning rate, set clip_grad_norm, try precision fp32, or look at these clips"


def seed_step(seed: int, step: int) -> None:
    """Makes what a step draws (dropout) depend on seed, step and process only."""
    mixed = (seed * 1_000_003 + step) * 65_537 + distributed.rank()
    torch.manual_seed(mixed % 2**63)


def optimizer_step(
    wrapped: nn.Module,
    task: Task,
    state: RunState,
    group: Group,
    precision: Precision,
    device: torch.device,
    clip_grad_norm: float | None,
) -> tuple[float, float]:
    """One optimiser step; returns the mean loss over all processes and the gradient's norm.

    Args:
        wrapped: the task's ``LossModule``, wrapped for several processes.
        clip_grad_norm: longest gradient, or None.

    Raises:
        UserError: the loss or the gradient is not finite; the weights are as before the step.
    """
    optimizer, scaler = state.optimizer, state.scaler
    optimizer.zero_grad(set_to_none=True)
    losses = []
    for number, (batch, share) in enumerate(zip(group.batches, group.shares), start=1):
        last = number == len(group.batches)
        with nullcontext() if last else distributed.without_sync(wrapped):
            with precision.autocast():
                loss = wrapped(batch.to(device))
            scaler.scale(loss * share).backward()
        losses.append(loss.detach())
    scaler.unscale_(optimizer)
    parameters = [p for p in task.model.parameters() if p.grad is not None]
    # Clipping to infinity changes nothing and returns the norm.
    limit = float("inf") if clip_grad_norm is None else clip_grad_norm
    norm = distributed.whole(nn.utils.clip_grad_norm_(parameters, limit))
    # The one wait for the device in a step.
    *values, own_norm = torch.stack([*losses, norm.to(losses[0])]).tolist()
    # A batch that only keeps pace has weight 0, whatever its loss.
    own_loss = sum(value * weight for value, weight in zip(values, group.weights) if weight)
    told = distributed.gather_numbers([own_loss, own_norm])
    loss_sum, grad_norm = float(told[:, 0].sum()), float(told[0, 1])

    # float16 gradients may overflow until the scale has come down; then it is no excuse.
    may_overflow = scaler.is_enabled() and scaler.get_scale() >= 1.0
    loss_failed = not math.isfinite(loss_sum)
    if loss_failed or not (math.isfinite(grad_norm) or may_overflow):
        nonfinite.stop(
            "the loss" if loss_failed else "a gradient",
            names=[name for batch in group.batches for name in task.describe(batch)],
            batches=group.batches,
            guilty=not (loss_failed and math.isfinite(own_loss)),
            run_dir=state.run_dir,
            step=state.progress.step,
            hint=_MEND,
        )
    if not math.isfinite(grad_norm):
        # The scaler leaves this step out and halves its scale.
        state.progress.skipped += 1
    scaler.step(optimizer)
    scaler.update()
    mean_loss = loss_sum / group.total_weight if group.total_weight else 0.0
    return mean_loss, grad_norm
