"""Test batches in the order of the movies, so that every frame is decoded once.

Clips around neighbouring keyframes overlap (two seconds each, one second apart), and each clip
read alone is decoded from the key frame before it, which lies up to ten seconds back. Read in
order, a movie needs a half to a tenth of that work, and gives the same pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Protocol

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from avadet.data.loader import prepare_worker, start_method, telling_user_errors
from avadet.data.sampler import consecutive_batches

# A longer way between two clips is skipped by seeking: about as far as key frames lie apart.
_LONGEST_GAP = 5.0
# Stretches per worker, so that all end at about the same time, and the fewest batches of one, so
# that little is decoded on the way to its first clip.
_PARTS, _SHORTEST = 4, 16


class StreamedDataset(Protocol):
    """A data set whose neighbouring samples can be read in one pass."""

    groups: Sequence[Hashable]
    collate: Callable[[list[Any]], Any]

    def __len__(self) -> int: ...

    def seconds(self) -> Sequence[float]:
        """The moment of every sample."""

    def stream(self, samples: Sequence[int]) -> Iterator[Any]:
        """``self[n]`` for increasing samples of one movie."""


class _Stretches(IterableDataset[Any]):
    """Yields the batches of this worker's share of the stretches."""

    def __init__(self, dataset: StreamedDataset, stretches: Sequence[Sequence[range]]) -> None:
        self.dataset = dataset
        self.stretches = stretches

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for stretch in self.stretches[first::step]:
            samples = self.dataset.stream([sample for batch in stretch for sample in batch])
            for batch in stretch:
                yield self.dataset.collate([next(samples) for _ in batch])


class MovieOrderLoader:
    """This process's share of the batches of a test set, every sample once.

    The batches are those of ``EpochBatches`` in test, whatever the number of processes and
    workers; only the order in which they come differs.

    Args:
        dataset: see ``StreamedDataset``.
        batch_size: samples per batch; a batch holds samples of one movie.
        num_workers: decoding processes; 0 decodes in this one.
        rank, world_size: this process and how many there are.
        pin_memory: for copies to a GPU.
        prefetch: batches in preparation per worker.
    """

    def __init__(
        self,
        dataset: StreamedDataset,
        batch_size: int,
        *,
        num_workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
        pin_memory: bool = False,
        prefetch: int = 2,
    ) -> None:
        batches = consecutive_batches(len(dataset), batch_size, dataset.groups)
        parts = _PARTS * world_size * max(num_workers, 1)
        longest = max(_SHORTEST, -(-len(batches) // parts))
        mine = _stretches(dataset, batches, longest)[rank::world_size]
        self._length = sum(map(len, mine))
        workers = min(num_workers, len(mine))
        self._loader = DataLoader(
            _Stretches(dataset, mine),
            batch_size=None,
            num_workers=workers,
            pin_memory=pin_memory,
            prefetch_factor=prefetch if workers else None,
            persistent_workers=workers > 0,
            worker_init_fn=prepare_worker if workers else None,
            multiprocessing_context=start_method() if workers else None,
        )

    def __len__(self) -> int:
        """Batches of this process."""
        return self._length

    def __iter__(self) -> Iterator[Any]:
        """The batches.

        Raises:
            UserError: a sample cannot be read; the message names the file.
        """
        return telling_user_errors(iter(self._loader))


def _stretches(
    dataset: StreamedDataset, batches: Sequence[range], longest: int
) -> list[list[range]]:
    """Runs of at most ``longest`` batches that lie close together in one movie."""
    groups, seconds = dataset.groups, dataset.seconds()
    found: list[list[range]] = []
    for batch in batches:
        last = found[-1][-1][-1] if found else None
        if (
            last is not None
            and groups[last] == groups[batch[0]]
            and seconds[batch[0]] - seconds[last] <= _LONGEST_GAP
            and len(found[-1]) < longest
        ):
            found[-1].append(batch)
        else:
            found.append([batch])
    return found
