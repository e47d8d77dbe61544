"""The order of an epoch: a pure function of seed, epoch, rank and world size."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from avadet.data.draws import ClipShape, Draw
from avadet.data.multigrid import Grid, MultigridPlan
from avadet.errors import UserError

# Keeps the shuffle's random numbers apart from those of the samples.
_SHUFFLE = 0x5EED


class EpochBatches(Sampler[list[Draw]]):
    """Batches of draws.

    In training every process gets the same number of full batches: global batch ``b`` of an
    epoch is the same set of samples whatever the number of processes is, as long as
    ``batch_size * world_size`` stays. What is left over at the end of an epoch waits for another
    epoch, except where there would be no batch at all.

    In test every sample is drawn exactly once over all processes, in order, and a batch holds
    samples of one group only (one movie: one frame size). Processes may get different numbers of
    batches; nothing is padded.

    Args:
        num_samples: of the data set.
        batch_size: samples per batch and process.
        train: shuffle, and drop what does not fill a batch.
        seed: of the shuffle.
        rank, world_size: this process and how many there are.
        repeat_factors: (num_samples,) how often each sample is drawn per epoch on average, at
            least 1 each; see ``class_repeat_factors``.
        repeats: draws of a sample that come together in a batch, each augmented in its own way
            (repeated augmentation, Hoffer et al. 2020); every draw above counts that often. The
            batch size must be a multiple of it.
        groups: (num_samples,) batches do not cross them in test.
        multigrid: sizes of clips and batches in training; ``batch_size`` is then that of full
            clips.
        accumulate: batches of one optimiser step, which have one size.

    Attributes:
        full_size: leave the sizes alone, once; for statistics.

    Raises:
        UserError: training with fewer samples than processes, or a batch size that the repeats do
            not divide.
        ValueError: counts that make no sense.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        *,
        train: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        repeat_factors: np.ndarray | None = None,
        repeats: int = 1,
        groups: Sequence[Hashable] | None = None,
        multigrid: MultigridPlan | None = None,
        accumulate: int = 1,
    ) -> None:
        if batch_size < 1 or not 0 <= rank < world_size:
            raise ValueError(f"batch_size {batch_size}, rank {rank} of {world_size}")
        if train and num_samples < world_size:
            raise UserError(f"{num_samples} samples are too few to train on {world_size} processes")
        if repeats < 1 or batch_size % repeats:
            raise UserError(
                f"data.repeats {repeats}: does not divide the batch of {batch_size} per process"
            )
        self.num_samples, self.batch_size, self.train = num_samples, batch_size, train
        self.repeats = repeats
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.repeat_factors, self.groups = repeat_factors, groups
        self.multigrid, self.accumulate = multigrid, accumulate
        self.epoch, self.start, self.full_size = 0, 0, False

    def set(self, epoch: int, start: int = 0, full_size: bool = False) -> None:
        """Which epoch the next iteration gives, and how many of its batches are done already."""
        self.epoch, self.start, self.full_size = epoch, start, full_size

    def __len__(self) -> int:
        """Batches of this process per epoch (of the present epoch, where samples repeat)."""
        if not self.train:
            return len(self._test_batches())
        return self.batches_in(self.epoch)

    def __iter__(self) -> Iterator[list[Draw]]:
        if self.train:
            yield from self._train_batches()
        else:
            for samples in self._test_batches()[self.start :]:
                yield [Draw(sample, self.epoch) for sample in samples]

    def batches_in(self, epoch: int) -> int:
        """Batches of this process in an epoch of training."""
        draws = int(self._counts(self._generator(epoch)).sum())
        return len(self._cuts(draws, epoch, full_size=False))

    def _generator(self, epoch: int) -> np.random.Generator:
        return np.random.default_rng((_SHUFFLE, self.seed, epoch))

    def _counts(self, rng: np.random.Generator) -> np.ndarray:
        """(num_samples,) draws of each sample in this epoch."""
        if self.repeat_factors is None:
            return np.ones(self.num_samples, dtype=np.int64)
        # A factor of 2.3 is two draws, and a third in 30% of the epochs.
        whole = np.floor(self.repeat_factors)
        more = rng.random(self.num_samples) < self.repeat_factors - whole
        counts: np.ndarray = whole.astype(np.int64) + more
        return counts

    def _cuts(
        self, num_draws: int, epoch: int, *, full_size: bool
    ) -> list[tuple[int, int, Grid | None]]:
        """(first draw, different draws per process, size of the clips) of each batch."""
        cuts: list[tuple[int, int, Grid | None]] = []
        start = 0
        while True:
            grid, size = None, self.batch_size // self.repeats
            if self.multigrid is not None and not full_size:
                grid = self.multigrid.grid(epoch, len(cuts) // self.accumulate)
                size *= grid.batch
            if not cuts:
                size = min(size, num_draws // self.world_size)
            if start + size * self.world_size > num_draws:
                return cuts
            cuts.append((start, size, grid))
            start += size * self.world_size

    def _train_batches(self) -> Iterator[list[Draw]]:
        rng = self._generator(self.epoch)
        counts = self._counts(rng)
        # Draws of sample n are numbered from ends[n - 1] on.
        ends = np.cumsum(counts)
        order = rng.permutation(ends[-1])
        # Where a stride is drawn, it depends on the place in the epoch, not on the process.
        chances = rng.random(len(order)) if self.multigrid is not None else None
        cuts = self._cuts(len(order), self.epoch, full_size=self.full_size)
        for start, size, grid in cuts[self.start :]:
            begin = start + self.rank * size
            batch: list[Draw] = []
            for place in range(begin, begin + size):
                sample = int(np.searchsorted(ends, order[place], side="right"))
                repeat = int(order[place] - ends[sample] + counts[sample])
                draw = Draw(sample, self.epoch, repeat * self.repeats)
                if grid is not None and self.multigrid is not None and chances is not None:
                    low, high = self.multigrid.strides(grid)
                    stride = low + int(chances[place] * (high - low + 1))
                    draw = draw._replace(shape=ClipShape(grid.num_frames, stride, grid.side))
                batch += [draw._replace(repeat=draw.repeat + copy) for copy in range(self.repeats)]
            yield batch

    def _test_batches(self) -> list[range]:
        batches = consecutive_batches(self.num_samples, self.batch_size, self.groups)
        return batches[self.rank :: self.world_size]


def consecutive_batches(
    num_samples: int, batch_size: int, groups: Sequence[Hashable] | None = None
) -> list[range]:
    """All samples in order, in batches that hold samples of one group only.

    Args:
        groups: (num_samples,); None for one group.

    Raises:
        ValueError: no sample fits a batch.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size {batch_size}")
    batches: list[range] = []
    first = 0
    for sample in range(1, num_samples + 1):
        ends = sample == num_samples or sample - first == batch_size
        if ends or (groups is not None and groups[sample] != groups[first]):
            batches.append(range(first, sample))
            first = sample
    return batches


def class_repeat_factors(
    pairs: tuple[np.ndarray, np.ndarray], num_samples: int, threshold: float = 0.05
) -> np.ndarray:
    """How often to draw each sample so that rare classes are seen more (Gupta et al., LVIS 2019).

    A class shown by a share ``f`` of the samples has the factor ``max(1, sqrt(threshold / f))``;
    a sample has the largest factor of its classes.

    Args:
        pairs: (sample, class), each (M,), each pair once.

    Shape: (num_samples,) float64, at least 1.
    """
    sample, label = pairs
    factors = np.ones(num_samples)
    if len(label):
        share = np.bincount(label) / num_samples
        of_class = np.maximum(1.0, np.sqrt(threshold / np.maximum(share, 1e-12)))
        np.maximum.at(factors, sample, of_class[label])
    return factors
