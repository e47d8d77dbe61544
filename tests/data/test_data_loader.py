"""Order, resumption, balance and sharing out over processes."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import numpy as np
import pytest
import torch

from avadet.data.ava import AvaDataset
from avadet.data.draws import Draw
from avadet.data.loader import build_loader
from avadet.data.sampler import EpochBatches, class_repeat_factors
from avadet.data.transforms import TestPolicy, TrainPolicy
from avadet.errors import UserError


def drawn(batches: EpochBatches, epoch: int = 0, start: int = 0) -> list[list[int]]:
    batches.set(epoch, start)
    return [[draw.sample for draw in batch] for batch in batches]


def test_training_order_is_a_function_of_the_epoch():
    first, second = (EpochBatches(23, 4, train=True, seed=1) for _ in range(2))
    assert drawn(first, 3) == drawn(second, 3)
    assert drawn(first, 3) != drawn(first, 4)
    assert drawn(first, 3) != drawn(EpochBatches(23, 4, train=True, seed=2), 3)
    assert drawn(first, 3, start=2) == drawn(first, 3)[2:]
    assert len(first) == len(drawn(first)) == 5
    flat = list(chain(*drawn(first)))
    assert len(set(flat)) == len(flat) == 20


def test_processes_share_the_batches_of_one():
    alone = drawn(EpochBatches(50, 8, train=True, seed=7), 2)
    shared = [
        drawn(EpochBatches(50, 2, train=True, seed=7, rank=rank, world_size=4), 2)
        for rank in range(4)
    ]
    assert [list(chain(*parts)) for parts in zip(*shared)] == alone


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_tests_draw_everything_once(world_size):
    groups = ["a"] * 5 + ["b"] * 1 + ["c"] * 7
    seen = Counter()
    for rank in range(world_size):
        batches = EpochBatches(13, 3, train=False, rank=rank, world_size=world_size, groups=groups)
        found = drawn(batches)
        assert len(batches) == len(found)
        for batch in found:
            assert len({groups[sample] for sample in batch}) == 1
            assert len(batch) <= 3
            seen.update(batch)
    assert seen == Counter(range(13))


def test_few_samples():
    assert len(list(chain(*drawn(EpochBatches(3, 8, train=True))))) == 3
    with pytest.raises(UserError, match="too few"):
        EpochBatches(1, 8, train=True, world_size=2)
    with pytest.raises(ValueError, match="rank"):
        EpochBatches(8, 8, train=True, rank=2, world_size=2)


def test_rare_classes_are_drawn_more_often():
    # Class 0 on every sample, class 1 on 1 of 100.
    sample = np.concatenate([np.arange(100), [42]])
    label = np.concatenate([np.zeros(100, int), [1]])
    factors = class_repeat_factors((sample, label), 100, threshold=0.0625)
    assert factors[42] == pytest.approx(2.5)
    assert np.delete(factors, 42).tolist() == [1] * 99
    batches = EpochBatches(100, 1, train=True, repeat_factors=factors)
    counts = []
    for epoch in range(200):
        batches.set(epoch)
        draws = [draw for batch in batches for draw in batch]
        assert len(draws) == len(batches) == len(set(draws))
        counts.append(sum(draw.sample == 42 for draw in draws))
    assert set(counts) == {2, 3}
    assert np.mean(counts) == pytest.approx(2.5, abs=0.12)
    assert class_repeat_factors((np.zeros(0, int), np.zeros(0, int)), 4).tolist() == [1] * 4


@pytest.fixture(scope="module")
def dataset(small_ava) -> AvaDataset:
    return AvaDataset(
        small_ava.folder,
        groundtruth=small_ava.truth,
        proposals=small_ava.found,
        train=True,
        policy=TrainPolicy((72, 80), crop=48),
        num_frames=8,
        frame_stride=4,
        **small_ava.times,
    )


def equal(a, b) -> bool:
    return (
        a.keyframes == b.keyframes
        and torch.equal(a.video, b.video)
        and torch.equal(a.labels, b.labels)
        and all(torch.equal(x, y) for x, y in zip(a.boxes_px, b.boxes_px))
    )


def test_same_batches_whatever_the_workers(dataset):
    plain = build_loader(dataset, 2, train=True, balance=True)
    worked = build_loader(dataset, 2, train=True, balance=True, num_workers=2)
    for epoch in (1, 2):
        a, b = list(plain.epoch(epoch)), list(worked.epoch(epoch))
        assert len(a) == len(b) == len(plain) > 0
        assert all(equal(x, y) for x, y in zip(a, b))
    resumed = list(worked.epoch(2, start=2))
    assert len(resumed) == len(a) - 2
    assert equal(resumed[0], a[2])


def test_test_loader_keeps_movies_apart(small_ava):
    dataset = AvaDataset(
        small_ava.folder, groundtruth=small_ava.truth, policy=TestPolicy(36), **small_ava.times
    )
    batches = list(build_loader(dataset, 4, train=False))
    assert [len(batch.keyframes) for batch in batches] == [4, 1, 4, 1]
    assert [k for batch in batches for k in batch.keyframes] == dataset.keyframes


@pytest.mark.parametrize("workers", [0, 1])
def test_a_movie_that_cannot_be_read_is_one_line(small_ava, tmp_path, workers):
    (tmp_path / "a.mp4").write_bytes(b"nothing")
    (tmp_path / "b.mp4").write_bytes((small_ava.folder / "b.mp4").read_bytes())
    dataset = AvaDataset(tmp_path, groundtruth=small_ava.truth, **small_ava.times)
    with pytest.raises(UserError) as caught:
        next(iter(build_loader(dataset, 1, train=False, num_workers=workers)))
    assert str(caught.value).startswith(f"{tmp_path}/a.mp4: cannot be read")
    assert "\n" not in str(caught.value)


def test_draws_accept_plain_numbers():
    assert Draw.of(2, 5) == Draw(2, 0, 0)
    assert Draw.of(Draw(-1, 3), 5) == Draw(4, 3, 0)
    with pytest.raises(IndexError):
        Draw.of(5, 5)
