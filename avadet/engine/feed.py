"""From a loader to groups of batches, one group for each optimiser step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from avadet.engine import distributed
from avadet.engine.interrupt import StopRequest
from avadet.engine.progress import Progress
from avadet.engine.task import Task
from avadet.errors import UserError


class Loader(Protocol):
    """Batches in an order that depends on seed and epoch alone (``data.loader.ClipLoader``)."""

    def __len__(self) -> int:
        """Batches of this process in epoch 0."""
        ...

    def batches_in(self, epoch: int) -> int:
        """Batches of this process in ``epoch``."""
        ...

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """The batches of ``epoch`` without its first ``start``."""
        ...

    def full_sized(self, epoch: int) -> Iterator[Any]:
        """Batches of ``epoch`` at the clip's full size, where steps vary it; for statistics."""
        ...


@dataclass(frozen=True)
class Group:
    """The batches of one optimiser step on this process.

    Attributes:
        batches: as many on every process.
        shares: factor of each batch's loss, so that the gradient averaged over processes is that
            of the mean over all terms of all batches.
        weights: number of terms in each batch; 0 for one that only keeps pace.
        size: batches by which the position advances.
        total_weight: terms, over all batches and processes.
        clips: clips, likewise.
        minutes: wall time of the run on the main process.
        stop: some process was asked to stop: do not train on this group.
        wait_seconds: how long the loader kept this process waiting.
    """

    batches: list[Any]
    shares: list[float]
    weights: list[float]
    size: int
    total_weight: float
    clips: int
    minutes: float
    stop: bool
    wait_seconds: float


class Feed:
    """Groups for the rest of the present epoch; ends with the position at the next one.

    Epochs may differ in length: class-balanced sampling draws a slightly different number each
    time, and multigrid training changes the size of the batches.

    All processes get the same number of groups and, within a group, of batches, even if one of
    them runs out earlier: it then repeats the epoch's first batch with weight 0. So nobody waits
    for a gradient or a batch-norm statistic that never comes.
    """

    def __init__(
        self,
        loader: Loader,
        task: Task,
        progress: Progress,
        accumulate: int,
        stop: StopRequest,
        started: float,
    ) -> None:
        self._loader = loader
        self._task = task
        self._progress = progress
        self._accumulate = accumulate
        self._stop = stop
        self._started = started

    def __iter__(self) -> Iterator[Group]:
        progress = self._progress
        epoch = progress.epoch
        if not progress.epoch_batches:
            lengths = distributed.gather_numbers([self._loader.batches_in(epoch)])
            progress.epoch_batches = int(lengths.max())
        iterator = self._loader.epoch(epoch, progress.batch)
        while progress.epoch == epoch:
            group = self._group(iterator)
            if group.size == 0 and not group.stop:
                if progress.batch == 0:
                    raise UserError(f"epoch {epoch} has no batch: is the training set empty?")
                progress.next_epoch()
                return
            yield group

    def _group(self, iterator: Iterator[Any]) -> Group:
        progress = self._progress
        began = time.monotonic()
        wanted = min(self._accumulate, progress.epoch_length - progress.batch)
        batches: list[Any] = []
        try:
            while len(batches) < wanted and not self._stop.requested:
                batches.append(next(iterator))
        except StopIteration:
            pass
        except RuntimeError:
            # Ctrl-C reaches data-loader workers as well; their death is not news then.
            if not self._stop.requested:
                raise
        waited = time.monotonic() - began
        weights = [self._task.weight(batch) for batch in batches]
        clips = sum(len(self._task.describe(batch)) for batch in batches)
        told = distributed.gather_numbers(
            [
                len(batches),
                sum(weights),
                clips,
                float(bool(self._stop.requested)),
                (time.monotonic() - self._started) / 60,
            ]
        )
        size, total = int(told[:, 0].max()), float(told[:, 1].sum())
        stop = bool(told[:, 3].any())
        missing = size - len(batches)
        if missing and not stop:
            filler = next(self._loader.epoch(progress.epoch), None)
            if filler is None:
                raise UserError(
                    "a process has no training batch; use fewer processes or a smaller batch"
                )
            batches += [filler] * missing
            weights += [0.0] * missing
        scale = distributed.world_size() / total if total else 0.0
        return Group(
            batches=batches,
            shares=[weight * scale for weight in weights],
            weights=weights,
            size=size,
            total_weight=total,
            clips=int(told[:, 2].sum()),
            minutes=float(told[0, 4]),
            stop=stop,
            wait_seconds=waited,
        )
