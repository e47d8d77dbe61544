"""Multigrid training: the schedule by hand, what the sampler hands out, what data sets do."""

from __future__ import annotations

from collections import Counter
from itertools import chain, pairwise

import pytest
import torch

from avadet.data.charades import CharadesDataset
from avadet.data.draws import ClipShape, Draw
from avadet.data.kinetics import ClipDataset
from avadet.data.loader import build_loader
from avadet.data.multigrid import MultigridPlan, plan, resized
from avadet.data.sampler import EpochBatches
from avadet.data.transforms import TestPolicy, TrainPolicy
from avadet.engine.schedule import create_schedule
from avadet.errors import UserError

BASE = ClipShape(64, 2, 224)
CHARADES = {"epochs": 57, "steps": [0, 41, 49], "factors": [1, 0.1, 0.01]}


def table(made: MultigridPlan) -> list[tuple]:
    return [
        (p.start, p.end, round(p.rate, 9), [(g.batch, g.num_frames, g.side) for g in p.grids])
        for p in made.phases
    ]


def test_the_schedule_of_charades_by_hand() -> None:
    # Batches of the short cycle, 64 * 224^2 / (t * s^2): 16, 8, 8; 8, 4, 4; 8, 4, 2; 4, 2, 1. Their
    # means are 32/3, 16/3, 14/3 and 7/3, together 23. So the 41 epochs before the first step of the
    # rate are shared out as 41 * (32, 16, 14, 7) / 69, the 8 after it likewise; a plain epoch
    # costs 4/23 of its steps, and the last 8 get 8 * 4/23 * 7/3 = 3.2464 epochs. All of them are
    # 52.2464, which is stretched to 1.5 * 57 = 85.5: by 1.63648. Sums, rounded: 31.12, 46.67,
    # 60.29, 67.10; 73.17, 76.20, 78.86, 80.19; 85.50. The last phase is halved at (80 + 86) // 2.
    eighth = [(16, 16, 112), (8, 16, 158), (8, 16, 158)]
    quarter = [(8, 32, 112), (4, 32, 158), (4, 32, 158)]
    half = [(8, 32, 112), (4, 32, 158), (2, 32, 224)]
    full = [(4, 64, 112), (2, 64, 158), (1, 64, 224)]
    made = plan(BASE, **CHARADES)
    assert table(made) == [
        (0, 31, 8, eighth),
        (31, 47, 4, quarter),
        (47, 60, 2, half),
        (60, 67, 1, full),
        (67, 73, 0.8, eighth),
        (73, 76, 0.4, quarter),
        (76, 79, 0.2, half),
        (79, 80, 0.1, full),
        (80, 83, 0.1, full),
        (83, 86, 0.01, full),
    ]
    assert made.epochs == 86
    assert made.grid(30, 2).side == 158
    assert made.grid(47, 5).side == 224
    assert made.grid(99, 3).batch == 4  # after the end as at the end
    assert made.strides(made.grid(0, 0)) == (2, 8)
    assert made.strides(made.grid(60, 0)) == (2, 2)
    schedule = create_schedule(
        "step", lr=0.0375, epochs=made.epochs, steps=made.steps, factors=made.factors,
        warmup_epochs=4, warmup_lr=1e-4,
    )  # fmt: skip
    assert schedule(2.0) == pytest.approx((1e-4 + 8 * 0.0375) / 2)
    assert [schedule(epoch) / 0.0375 for epoch in (30.9, 31, 66.5, 67, 82.9, 85)] == pytest.approx(
        [8, 4, 1, 0.8, 0.1, 0.01]
    )


def test_cycles_alone() -> None:
    long = plan(BASE, **CHARADES, short_cycle=False)
    assert [len(p.grids) for p in long.phases] == [1] * len(long.phases)
    assert {p.grids[0].batch for p in long.phases} == {8, 4, 2, 1}
    short = plan(BASE, **CHARADES, long_cycle=False)
    full = [(4, 64, 112), (2, 64, 158), (1, 64, 224)]
    assert table(short) == [(0, 61, 1, full), (61, 73, 0.1, full), (73, 85, 0.01, full)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": [0], "factors": [1]}, "at least two steps"),
        ({"steps": [0, 41, 57]}, "the last before epoch 57"),
        ({"steps": [1, 2, 3]}, "must begin with 0"),
        ({"factors": [1]}, "pair with factors"),
        ({"base": ClipShape(2, 2, 224)}, "2 frames has no quarter"),
        ({"long_cycle": False, "short_cycle": False}, "both cycles are off"),
        ({"long_cycle": False, "epoch_factor": 0.01}, "less than one"),
        ({"epoch_factor": 0.005}, "less than one"),
    ],
)
def test_schedules_that_leave_no_room(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan(**{"base": BASE, **CHARADES, **changes})


def test_the_work_of_a_step_stays() -> None:
    for phase in plan(BASE, **CHARADES).phases:
        for grid in phase.grids:
            work = grid.batch * grid.num_frames * grid.side**2 / (64 * 224**2)
            assert 0.98 < work < 1.02


# The sampler --------------------------------------------------------------------------------------


def batches(epoch: int, *, world: int = 1, rank: int = 0, size: int = 2, **options):
    sampler = EpochBatches(
        1003, size, train=True, seed=5, rank=rank, world_size=world,
        multigrid=plan(BASE, **CHARADES), **options,
    )  # fmt: skip
    sampler.set(epoch)
    assert len(sampler) == sampler.batches_in(epoch)
    return list(sampler)


def test_epochs_have_the_batches_that_their_sizes_give() -> None:
    # 1,003 clips in turns of 32, 16 and 16: 15 turns make 960, a 32 makes 992, and 11 are left.
    first = batches(0)
    assert [len(batch) for batch in first] == [32, 16, 16] * 15 + [32]
    assert [{draw.shape[::2] for draw in batch} for batch in first[:3]] == [
        {(16, 112)}, {(16, 158)}, {(16, 158)},
    ]  # fmt: skip
    # 8, 4 and 2: 71 turns make 994, an 8 makes 1,002.
    assert [len(batch) for batch in batches(66)] == [8, 4, 2] * 71 + [8]
    seen = Counter(draw.sample for draw in chain(*first))
    assert max(seen.values()) == 1
    strides = Counter(draw.shape.frame_stride for draw in chain(*first))
    assert sorted(strides) == list(range(2, 9))
    assert min(strides.values()) > 90
    assert {draw.shape.frame_stride for draw in chain(*batches(66))} == {2}
    # Larger batches than there are clips: one batch of all.
    alone = EpochBatches(9, 2, train=True, multigrid=plan(BASE, **CHARADES))
    assert [len(batch) for batch in alone] == [9]


def test_processes_share_sizes_and_strides() -> None:
    alone = batches(50, size=4)
    shared = [batches(50, size=1, world=4, rank=rank) for rank in range(4)]
    assert len({len(part) for part in shared}) == 1
    for whole, *parts in zip(alone, *shared, strict=True):
        assert [len(part) for part in parts] == [len(whole) // 4] * 4
        assert list(chain(*parts)) == whole
        assert len({draw.shape[::2] for draw in whole}) == 1


def test_resumed_and_accumulated() -> None:
    sampler = EpochBatches(
        1003, 2, train=True, seed=5, multigrid=plan(BASE, **CHARADES), accumulate=2
    )
    sampler.set(0)
    whole = list(sampler)
    assert [len(batch) for batch in whole[:6]] == [32, 32, 16, 16, 16, 16]
    sampler.set(0, 7)
    assert list(sampler) == whole[7:]
    sampler.set(0, full_size=True)
    plain = list(sampler)
    assert {len(batch) for batch in plain} == {2}
    assert {draw.shape for draw in chain(*plain)} == {None}
    assert sampler.batches_in(0) == len(whole)


# Data sets ----------------------------------------------------------------------------------------


def test_crops_and_their_short_sides() -> None:
    policy = TrainPolicy((256, 340), crop=224, flip=0.25)
    assert resized(policy, None) is policy
    small = resized(policy, ClipShape(16, 4, 112))
    assert small == TrainPolicy((128, 340), crop=112, flip=0.25)
    assert resized(policy, ClipShape(16, 4, 224)) == policy
    with pytest.raises(UserError, match=r"needs data\.crop"):
        resized(TestPolicy(), ClipShape(16, 4, 112))


def test_data_sets_obey(small_ava, tmp_path) -> None:
    (tmp_path / "clips.csv").write_text("a.mp4,0\nb.mp4,1\n")
    (tmp_path / "videos.csv").write_text("id,actions,length\na,c001 0 8,8\nb,,8\n")
    policy = TrainPolicy((64, 80), crop=64)
    options = {"train": True, "policy": policy, "num_frames": 16, "frame_stride": 2}
    made = plan(ClipShape(16, 2, 64), epochs=6, steps=[0, 4], factors=[1, 0.1])
    for dataset in (
        ClipDataset(tmp_path / "clips.csv", root=small_ava.folder, **options),
        CharadesDataset(small_ava.folder, tmp_path / "videos.csv", num_classes=2, **options),
    ):
        video = dataset[Draw(0, 1, 0, ClipShape(4, 8, 45))].video
        assert video.shape == (3, 4, 45, 45)
        # The grey of a picture tells its number, modulo 40. Four frames 8 points apart span
        # 31 of 1/30 s (Kinetics' spread reaches the last point) or 24 of 1/24 s, 30 pictures.
        shades = video[0, :, 0, 0].int().tolist()
        steps = [(after - before) % 40 for before, after in pairwise(shades)]
        assert sum(steps) == pytest.approx(30.5, abs=2)
        loader = build_loader(dataset, 1, train=True, multigrid=made)
        workers = build_loader(dataset, 1, train=True, multigrid=made, num_workers=1)
        for epoch in (0, 4):
            own, theirs = list(loader.epoch(epoch)), list(workers.epoch(epoch))
            assert len(own) == len(theirs) == loader.batches_in(epoch) > 0
            assert all(torch.equal(x.video, y.video) for x, y in zip(own, theirs))
        assert next(loader.epoch(0)).video.shape == (2, 3, 4, 32, 32)
        assert next(loader.full_sized(0)).video.shape == (1, 3, 16, 64, 64)
        assert next(loader.epoch(0)).video.shape == (2, 3, 4, 32, 32)
