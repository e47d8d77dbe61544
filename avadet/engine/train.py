"""The training loop, for every task."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from avadet.engine import checkpoint, distributed
from avadet.engine import norm as norms
from avadet.engine import sharding as shards
from avadet.engine.ema import Ema
from avadet.engine.feed import Feed, Loader
from avadet.engine.interrupt import StopRequest
from avadet.engine.log import RunLog
from avadet.engine.meter import Meter
from avadet.engine.optim import set_lr
from avadet.engine.precision import Precision, place, resolve
from avadet.engine.progress import Progress
from avadet.engine.run_state import RunState
from avadet.engine.schedule import Schedule
from avadet.engine.step import optimizer_step, seed_step
from avadet.engine.task import LossModule, Task
from avadet.errors import UserError

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FitResult:
    """How a run ended.

    Attributes:
        finished: trained to the end; False where it was asked to stop.
        progress: where it stands.
        metrics: of the last evaluation.
        weights: the exported weights of a finished run.
        checkpoint: the newest checkpoint.
        message: one line for the user.
    """

    finished: bool
    progress: Progress
    metrics: dict[str, float]
    weights: Path | None
    checkpoint: Path | None
    message: str


def fit(
    task: Task,
    loader: Loader,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    *,
    epochs: float,
    run_dir: str | os.PathLike[str],
    device: torch.device | str = "cpu",
    precision: Precision | str = "auto",
    channels_last: bool | None = None,
    norm: norms.NormMode = "batch",
    norm_clips: int = 8,
    sharding: shards.Sharding = "none",
    accumulate: int = 1,
    clip_grad_norm: float | None = None,
    ema_decay: float | None = None,
    precise_bn_batches: int = 0,
    eval_every: float | None = 1.0,
    checkpoint_minutes: float = 10.0,
    checkpoint_steps: int | None = None,
    keep_checkpoints: int = 2,
    resume: bool = False,
    max_steps: int | None = None,
    max_minutes: float | None = None,
    log_every: int = 10,
    seed: int = 0,
    find_unused_parameters: bool = False,
    settings: dict[str, Any] | None = None,
    tensorboard: bool = True,
    label: str = "train",
) -> FitResult:
    """Trains ``task.model`` and writes everything under ``run_dir``.

    One optimiser step takes ``accumulate`` batches on each process; its gradient is that of the
    mean over all their terms (``Task.weight``). Killed at any moment and called again with
    ``resume=True``, a run on the CPU ends with the same bits as one left alone.

    ``run_dir`` receives ``checkpoints/``, ``log.jsonl``, ``tensorboard/``, at each new best
    evaluation ``best.safetensors``, and at the end ``model.safetensors`` (the last weights; the
    moving average where there is one).

    Args:
        task: model, loss and evaluation.
        loader: training batches of this process.
        optimizer: over the parameters of ``task.model``.
        schedule: learning rate by fractional epoch.
        epochs: may be fractional.
        precision: "auto", "fp32", "bf16", "fp16", or a resolved one.
        channels_last: memory format, see ``precision.place``.
        norm: batch norms plain, frozen, synchronised over processes, or over groups of
            ``norm_clips`` clips ("sub_batch").
        sharding: "fsdp2" leaves a part of the model on each of several processes.
        clip_grad_norm: longest gradient (2-norm over all parameters).
        ema_decay: follow the weights with a moving average; it is what is evaluated.
        precise_bn_batches: before each evaluation, take batch-norm statistics from this many
            training batches of each process.
        eval_every: epochs between evaluations; 0 only at the end, None never.
        checkpoint_minutes, checkpoint_steps: time and steps between checkpoints; one is written
            around every evaluation and at the end too.
        resume: continue from the newest checkpoint of ``run_dir``, if there is one; a finished
            run too, where epochs, steps or minutes are more than they were.
        max_steps: end after so many optimiser steps.
        max_minutes: end after so much time of training and evaluation (the last evaluation comes
            on top). A run that a quarter of the time shows to be too slow for its epochs goes
            through its schedule by the clock, so that it ends with the small learning rate.
        log_every: steps between log entries.
        find_unused_parameters: for models some of whose parameters get no gradient in a step, on
            several processes.
        settings: kept in the checkpoints; plain values.

    Raises:
        UserError: a loss or gradient is not finite (the batch is named and saved), a checkpoint
            cannot be written or does not fit, or ``run_dir`` holds a run and ``resume`` is off.
    """
    device = torch.device(device)
    if not isinstance(precision, Precision):
        precision = resolve(precision, device)
    sharded = shards.check(sharding, channels_last)
    if sharded:
        channels_last = False
    run_dir = Path(run_dir)
    task.model = norms.prepare(task.model, norm, device, norm_clips)
    place(task.model, device, precision, channels_last)
    distributed.share_state(task.model)
    lengths = distributed.gather_numbers([len(loader)])
    if lengths.max() < 1:
        raise UserError("the training set gives no batch; is it empty, or the batch too large?")
    ema = Ema(task.model, ema_decay) if ema_decay else None
    skeleton = shards.shard_model(task.model, optimizer, ema, device) if sharded else None
    state = RunState(
        run_dir=run_dir,
        model=task.model,
        optimizer=optimizer,
        scaler=precision.scaler(),
        ema=ema,
        progress=Progress(int(lengths.max()), distributed.world_size()),
        settings=settings or {},
        seed=seed,
        keep=keep_checkpoints,
        skeleton=skeleton,
    )
    if resume:
        state.restore()
    else:
        checkpoint.check_unused(run_dir)
    if distributed.is_main():
        checkpoint.remove_unfinished(run_dir)
    progress = state.progress

    def at_the_end() -> bool:
        return (
            progress.reached(epochs)
            or (max_steps is not None and progress.step >= max_steps)
            or (max_minutes is not None and progress.minutes >= max_minutes)
        )

    # A finished run goes on where it is now allowed more.
    progress.finished = progress.finished and at_the_end()
    wrapped = distributed.wrap(LossModule(task), device, find_unused_parameters)
    started = time.monotonic() - 60 * progress.minutes
    saved_at = progress.minutes
    log = RunLog(
        run_dir,
        active=distributed.is_main(),
        resume_step=progress.step,
        redo_evaluation=progress.evaluation_due,
        tensorboard=tensorboard,
        label=label,
    )
    meter = Meter(progress.position)
    if state.saved:
        log.say(f"resuming from {state.saved} at epoch {progress.position:.2f}")

    with closing(log), StopRequest() as stop:
        if progress.evaluation_due:
            _evaluate(task, state, precision, loader, precise_bn_batches, device, log)
        before = progress.position
        while not progress.finished:
            norms.set_training(wrapped, norm)
            for group in Feed(loader, task, progress, accumulate, stop, started):
                progress.minutes = group.minutes
                if group.stop:
                    state.save()
                    return _interrupted(state, stop)
                lr = schedule(_schedule_position(progress, epochs, max_minutes))
                set_lr(optimizer, lr)
                seed_step(seed, progress.step)
                loss, grad_norm = optimizer_step(
                    wrapped, task, state, group, precision, device, clip_grad_norm
                )
                if state.ema:
                    state.ema.update(task.model)
                progress.advance(group.size)
                progress.clips += group.clips

                meter.add(loss, grad_norm, group.clips, group.wait_seconds)
                if progress.step % log_every == 0:
                    meter.report(log, progress, lr, epochs, max_steps, max_minutes)

                progress.finished = at_the_end()
                if eval_every is not None:
                    progress.evaluation_due = progress.finished or progress.crossed(
                        before, eval_every
                    )
                before = progress.position
                if (
                    progress.finished
                    or progress.evaluation_due
                    # By the main process's clock: all must save at the same step.
                    or progress.minutes - saved_at > checkpoint_minutes
                    or (checkpoint_steps and progress.step % checkpoint_steps == 0)
                ):
                    state.save()
                    saved_at = progress.minutes
                if progress.evaluation_due:
                    _evaluate(task, state, precision, loader, precise_bn_batches, device, log)
                    meter.restart(progress.position)
                    # The evaluation may have drawn from the loader: open the feed again.
                    break
                if progress.finished:
                    break

    weights = run_dir / "model.safetensors"
    best = state.best_model()
    if distributed.is_main():
        task.export(weights, best)
    distributed.barrier()
    return FitResult(
        finished=True,
        progress=progress,
        metrics=progress.metrics,
        weights=weights,
        checkpoint=state.saved,
        message=f"trained {progress.position:.2f} epochs ({progress.step} steps): {weights}",
    )


def _evaluate(
    task: Task,
    state: RunState,
    precision: Precision,
    loader: Loader,
    precise_bn_batches: int,
    device: torch.device,
    log: RunLog,
) -> None:
    """Scores the model, keeps the best weights, and notes that it is done."""
    progress = state.progress
    model = state.best_model()
    # Statistics of batch norms differ between processes until the main one's are handed out.
    distributed.share_state(model)
    if precise_bn_batches:
        with _model_of(task, model), precision.autocast():
            norms.precise_statistics(
                model,
                islice(loader.full_sized(progress.epoch), precise_bn_batches),
                lambda batch: task.loss(batch.to(device)),
            )
            state.take_statistics(model)
    model.eval()
    with torch.no_grad(), precision.autocast(), _as_written(model):
        metrics = distributed.from_main(task.evaluate(model))
    progress.metrics = {name: float(value) for name, value in metrics.items()}
    progress.evaluation_due = False
    if metrics:
        log.record("eval", progress, **progress.metrics)
        shown = ", ".join(f"{name} {value:.4f}" for name, value in progress.metrics.items())
        log.say(f"epoch {progress.position:.2f}: {shown}")
        first = next(iter(progress.metrics.values()))
        # NaN is not above anything.
        if first > (float("-inf") if progress.best is None else progress.best):
            progress.best, progress.best_step = first, progress.step
            if distributed.is_main():
                task.export(state.run_dir / "best.safetensors", model)
    state.save()


def _schedule_position(progress: Progress, epochs: float, max_minutes: float | None) -> float:
    """The epoch at which the schedule is read: by steps, or by the clock where it runs ahead."""
    position = progress.position
    if max_minutes is not None and progress.minutes > 0.25 * max_minutes:
        position = max(position, epochs * min(progress.minutes / max_minutes, 1.0))
    return position


def _interrupted(state: RunState, stop: StopRequest) -> FitResult:
    progress = state.progress
    message = (
        f"stopped ({stop.requested or 'on request'}) at epoch {progress.position:.2f}, step "
        f"{progress.step}; run the same command with resume to continue from {state.saved}"
    )
    if distributed.is_main():
        _logger.warning("%s", message)
    return FitResult(
        finished=False,
        progress=progress,
        metrics=progress.metrics,
        weights=None,
        checkpoint=state.saved,
        message=message,
    )


@contextmanager
def _model_of(task: Task, model: nn.Module) -> Iterator[None]:
    """Lets ``task.loss`` run another model for a while."""
    own, task.model = task.model, model
    try:
        yield
    finally:
        task.model = own


@contextmanager
def _as_written(model: nn.Module) -> Iterator[None]:
    """Runs compiled parts as they are written: test clips differ in size, each would compile."""
    if not any(module._compiled_call_impl for module in model.modules()):
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
