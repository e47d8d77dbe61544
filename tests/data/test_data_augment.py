"""Strong augmentation: drawn once for a clip, the same for all of its frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avadet.data.augment import (
    OPERATIONS,
    Erasing,
    ImageOperation,
    Patch,
    RandAugment,
    RandomArea,
    StrongPolicy,
)
from avadet.data.sampler import EpochBatches
from avadet.data.transforms import TrainPolicy
from avadet.errors import UserError


def clip(frames: int = 3, height: int = 24, width: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), np.uint8)


def still(frames: int = 3) -> np.ndarray:
    return np.repeat(clip(1), frames, axis=0)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("negative", [False, True])
def test_every_operation_does_the_same_to_all_frames(name, negative):
    video = torch.from_numpy(still().transpose(0, 3, 1, 2).copy())
    changed = ImageOperation(name, 7.0, negative)(video)
    assert changed.dtype == torch.uint8
    assert changed.shape == video.shape
    assert changed[0].equal(changed[2])
    if name not in ("autocontrast",):
        assert not changed.equal(video)


def test_strengths_by_hand():
    grey = torch.full((1, 3, 10, 10), 100, dtype=torch.uint8)
    # 1 + 0.9 * 0.7 = 1.63, and 1 - 0.63 = 0.37.
    assert ImageOperation("brightness", 7)(grey).unique().tolist() == [163]
    assert ImageOperation("brightness", 7, True)(grey).unique().tolist() == [37]
    # 256 - int(256 * 0.7) = 77: above it pixels are inverted.
    assert ImageOperation("solarize", 7)(grey).unique().tolist() == [155]
    # int(110 * 0.7) = 77, for pixels under 128.
    assert ImageOperation("solarize_add", 7)(grey).unique().tolist() == [177]
    # 4 - int(4 * 0.7) = 2 bits of 01100100 are left.
    assert ImageOperation("posterize", 7)(grey).unique().tolist() == [64]
    # A shift by 0.45 * 0.5 * 10, that is 2, to the right uncovers the mean colour.
    moved = ImageOperation("translate_x", 5)(grey)
    assert moved[0, :, 0, 0].tolist() == [124, 116, 104]
    assert moved[0, :, 0, 2:].unique().tolist() == [100]


def test_operations_are_drawn_at_the_published_rate():
    policy = RandAugment()
    rng = np.random.default_rng(0)
    drawn = [policy.draw(rng) for _ in range(2000)]
    assert max(map(len, drawn)) == 4
    assert np.mean([len(each) for each in drawn]) == pytest.approx(2.0, abs=0.1)
    flat = [operation for each in drawn for operation in each]
    assert {operation.name for operation in flat} == set(OPERATIONS)
    levels = np.asarray([operation.level for operation in flat])
    assert levels.mean() == pytest.approx(7.0, abs=0.05)
    assert levels.std() == pytest.approx(0.5, abs=0.05)
    assert policy.draw(np.random.default_rng(5)) == policy.draw(np.random.default_rng(5))


def test_random_areas_have_the_area_and_shape_drawn():
    part = RandomArea(((0.5, 0.5, 0.0, 1.0),), (0.2, 0.4), (0.5, 2.0))
    # 0.3 of 100x200 pixels, as wide as high: 77.46 pixels, at the top right.
    assert part.patch(100, 200).pixels(100, 200) == (0, 123, 77, 77)
    # Nothing fits: the middle square.
    part = RandomArea(((1.0, 1.0, 0.0, 0.0),), (1.0, 1.0), (3.0, 4.0))
    assert part.patch(100, 200).pixels(100, 200) == (0, 50, 100, 100)
    rng = np.random.default_rng(0)
    for _ in range(200):
        drawn = RandomArea((tuple(rng.random(4)),), (0.08, 1.0), (0.75, 4 / 3)).patch(120, 160)
        top, left, height, width = drawn.pixels(120, 160)
        assert top >= 0
        assert top + height <= 120
        assert left >= 0
        assert left + width <= 160


def test_erasing_hits_one_part_and_nothing_else():
    video = torch.zeros(3, 4, 20, 20, dtype=torch.uint8)
    middle = RandomArea(((0.0, 0.5, 0.5, 0.5),), (0.25, 0.25), (1.0, 1.0))
    assert middle.patch(20, 20) == Patch(0.25, 0.25, 0.5, 0.5)
    erased = Erasing(middle, 3)(video)
    assert int(video.sum()) == 0
    inside = erased[:, :, 5:15, 5:15].float() / 255
    assert inside.mean() == pytest.approx(0.45, abs=0.02)
    assert inside.std() == pytest.approx(0.22, abs=0.02)
    erased[:, :, 5:15, 5:15] = 0
    assert int(erased.sum()) == 0
    assert Erasing(middle, 3)(video).equal(Erasing(middle, 3)(video))


def test_the_whole_policy():
    policy = StrongPolicy(
        TrainPolicy((24, 24), crop=16), RandAugment(), area=(0.1, 1.0), erasing=0.5
    )
    erased = 0
    for seed in range(30):
        transform = policy.draw(np.random.default_rng(seed))
        assert transform == policy.draw(np.random.default_rng(seed))
        erased += transform.erasing is not None
        video = transform.frames(still(), transform.corner(24, 32))
        assert video.shape == (3, 3, 16, 16)
        if transform.erasing is None:
            assert video[:, 0].equal(video[:, 2])
    assert 5 < erased < 25
    # Without anything strong it is the plain policy.
    plain = StrongPolicy(TrainPolicy((24, 24), crop=16))
    base = TrainPolicy((24, 24), crop=16).draw(np.random.default_rng(1))
    drawn = plain.draw(np.random.default_rng(1))
    corner = drawn.corner(24, 32)
    assert drawn.frames(clip(), corner).equal(base.frames(clip(), corner))
    with pytest.raises(ValueError, match="needs 'crop'"):
        StrongPolicy(TrainPolicy(crop=None), area=(0.1, 1))


def test_a_crop_of_the_whole_frame_is_the_frame_scaled():
    policy = StrongPolicy(
        TrainPolicy((24, 24), crop=24, flip=0), area=(1.0, 1.0), aspect=(1.0, 1.0)
    )
    square = clip(2, 24, 24)
    video = policy.draw(np.random.default_rng(0)).frames(square)
    np.testing.assert_array_equal(video.numpy().transpose(1, 2, 3, 0), square)


def test_repeats_stand_together_and_are_told_apart():
    batches = list(EpochBatches(7, 4, train=True, repeats=2))
    assert len(batches) == 3
    for batch in batches:
        assert [draw.sample for draw in batch[::2]] == [draw.sample for draw in batch[1::2]]
        assert [draw.repeat for draw in batch] == [0, 1, 0, 1]
    # Two processes see what one sees.
    parts = [list(EpochBatches(8, 2, train=True, repeats=2, rank=k, world_size=2)) for k in (0, 1)]
    whole = list(EpochBatches(8, 4, train=True, repeats=2))
    assert [a + b for a, b in zip(*parts)] == whole
    with pytest.raises(UserError, match="does not divide the batch of 3"):
        EpochBatches(8, 3, train=True, repeats=2)
