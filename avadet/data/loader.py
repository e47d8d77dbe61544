"""From a data set to batches, the same ones whatever the number of workers."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from avadet.data.multigrid import MultigridPlan
from avadet.data.sampler import EpochBatches, class_repeat_factors
from avadet.errors import UserError

_ERROR_MARK = "avadet.errors.UserError: "


class ClipLoader:
    """Batches of a data set, epoch by epoch.

    ``loader.epoch(3, start=10)`` gives the batches of epoch 3 from the eleventh on: the same
    ones an uninterrupted run would have seen there. Iterating over the loader gives what
    ``set_epoch`` chose last, at first epoch 0, which is what tests need.

    Attributes:
        dataset: the data set.
        batches: the order.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        batches: EpochBatches,
        collate: Callable[[list[Any]], Any],
        num_workers: int = 0,
        pin_memory: bool = False,
        prefetch: int = 2,
        context: str | None = None,
    ) -> None:
        self.dataset = dataset
        self.batches = batches
        self._position = (0, 0)
        self._loader = DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=num_workers,
            pin_memory=pin_memory,
            prefetch_factor=prefetch if num_workers else None,
            persistent_workers=num_workers > 0,
            worker_init_fn=prepare_worker if num_workers else None,
            multiprocessing_context=context if num_workers else None,
        )

    def __len__(self) -> int:
        """Batches of this process per epoch."""
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        return self.epoch(*self._position)

    def set_epoch(self, epoch: int, start_batch: int = 0) -> None:
        """Chooses what the next iteration gives."""
        self._position = (epoch, start_batch)

    def batches_in(self, epoch: int) -> int:
        """Batches of this process in an epoch of training."""
        return self.batches.batches_in(epoch)

    def full_sized(self, epoch: int) -> Iterator[Any]:
        """Batches of ``epoch`` of full-sized clips, where multigrid training varies the size."""
        self.batches.set(epoch, full_size=True)
        return telling_user_errors(iter(self._loader))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """Batches of ``epoch``, without its first ``start``.

        Raises:
            UserError: a sample cannot be read; the message names the file.
        """
        self.batches.set(epoch, start)
        return telling_user_errors(iter(self._loader))


def telling_user_errors(batches: Iterator[Any]) -> Iterator[Any]:
    """Passes batches on; what users must know arrives as they would read it without workers."""
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except UserError as error:
            # Workers send the text of their traceback; only its last line is for the user.
            raise UserError(str(error).rsplit(_ERROR_MARK, 1)[-1].strip()) from error
        yield batch


def build_loader(
    dataset: Any,
    batch_size: int,
    *,
    train: bool,
    num_workers: int = 0,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    balance: bool = False,
    balance_threshold: float = 0.05,
    repeats: int = 1,
    pin_memory: bool = False,
    prefetch: int = 2,
    multigrid: MultigridPlan | None = None,
    accumulate: int = 1,
) -> ClipLoader:
    """A loader for a data set of this room.

    Args:
        dataset: has ``__len__``, ``__getitem__(Draw)`` and ``collate``; ``groups`` keeps batches
            of a test to one frame size, ``label_pairs`` is needed for ``balance``.
        batch_size: samples per batch and process.
        train: shuffled full batches; else every sample once, in order.
        num_workers: decoding processes; 0 decodes in this one.
        seed: of the order (that of the augmentation is the data set's).
        rank, world_size: this process and how many there are.
        balance: draw samples of rare classes more often (training only).
        repeats: draws of each sample that come together in a batch (training only).
        pin_memory: for copies to a GPU.
        prefetch: batches in preparation per worker.
        multigrid, accumulate: see ``EpochBatches`` (training only).

    Raises:
        UserError: too few samples.
    """
    factors = None
    if balance and train:
        factors = class_repeat_factors(dataset.label_pairs(), len(dataset), balance_threshold)
    groups: Sequence[Any] | None = None if train else getattr(dataset, "groups", None)
    batches = EpochBatches(
        len(dataset),
        batch_size,
        train=train,
        seed=seed,
        rank=rank,
        world_size=world_size,
        repeat_factors=factors,
        repeats=repeats if train else 1,
        groups=groups,
        multigrid=multigrid if train else None,
        accumulate=accumulate,
    )
    return ClipLoader(
        dataset,
        batches,
        dataset.collate,
        num_workers=num_workers,
        pin_memory=pin_memory,
        prefetch=prefetch,
        context=start_method(),
    )


def start_method() -> str | None:
    """Fork where it exists: workers share the annotation tables and start in no time."""
    return "fork" if "fork" in multiprocessing.get_all_start_methods() else None


def prepare_worker(worker: int) -> None:
    """What every worker process does first."""
    # One thread each: there are as many workers as the machine should be busy with. The samples
    # seed themselves; this is for code in data sets that does not.
    torch.set_num_threads(1)
    np.random.seed((torch.initial_seed() + worker) % 2**32)  # noqa: NPY002
