"""Augmentation: determinism, ranges, and boxes that follow the pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avadet.data.transforms import (
    ClipTransform,
    ColorTransform,
    TestPolicy,
    TrainPolicy,
    spatial_crops,
)


def marked(height: int, width: int, box: tuple[int, int, int, int]) -> np.ndarray:
    frames = np.zeros((3, height, width, 3), np.uint8)
    left, top, right, bottom = box
    frames[:, top:bottom, left:right] = 255
    return frames


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 60), st.integers(0, 40))
def test_boxes_follow_the_pixels(seed, left, top):
    height, width, box = 80, 120, (left, top, left + 40, top + 30)
    frames = marked(height, width, box)
    box_norm = np.asarray([box], np.float32) / [width, height, width, height]
    transform = TrainPolicy((80, 90), crop=64).draw(np.random.default_rng(seed))
    corner = transform.corner(height, width, box_norm)
    video = transform.frames(frames, corner)
    boxes = transform.boxes_px(box_norm, height, width, corner)
    assert video.shape == (3, 3, 64, 64)
    assert video.is_contiguous()
    x1, y1, x2, y2 = np.rint(boxes[0]).astype(int)
    inside = torch.zeros(64, 64, dtype=torch.bool)
    inside[y1:y2, x1:x2] = True
    assert torch.equal(video[0, 0] == 255, inside)


def test_same_generator_same_transform():
    policy = TrainPolicy(color=True)
    first = [policy.draw(np.random.default_rng(5)) for _ in range(2)]
    assert first[0] == first[1]
    assert first[0] != policy.draw(np.random.default_rng(6))


def test_short_side_is_drawn_as_published():
    rng = np.random.default_rng(0)
    sides = np.asarray([TrainPolicy((256, 320)).draw(rng).short_side for _ in range(20000)])
    assert sides.min() == 256
    assert sides.max() == 320
    # 1/s is uniform: the mean of s is ln(320/256) / (1/256 - 1/320).
    assert sides.mean() == pytest.approx(np.log(1.25) / (1 / 256 - 1 / 320), abs=0.5)
    policy = TrainPolicy((256, 320), sampling="uniform")
    sides = np.asarray([policy.draw(rng).short_side for _ in range(20000)])
    assert sides.mean() == pytest.approx(288, abs=0.5)


def test_flips_half_of_the_time():
    rng = np.random.default_rng(0)
    assert np.mean([TrainPolicy().draw(rng).flip for _ in range(2000)]) == pytest.approx(
        0.5, abs=0.04
    )
    assert not any(TrainPolicy(flip=0).draw(rng).flip for _ in range(50))


def test_crop_looks_for_a_person():
    transform = ClipTransform(crop=10, places=((0.0, 0.0), (1.0, 1.0)))
    far = np.asarray([[0.8, 0.8, 1.0, 1.0]], np.float32)
    assert transform.corner(40, 40, far) == (30, 30)
    assert transform.corner(40, 40, np.asarray([[0.0, 0.0, 0.2, 0.2]], np.float32)) == (0, 0)
    assert transform.corner(40, 40, np.asarray([[0.5, 0.5, 0.6, 0.6]], np.float32)) == (0, 0)
    assert transform.corner(40, 40) == (0, 0)
    assert ClipTransform().corner(40, 40, far) == (0, 0)
    with pytest.raises(ValueError, match="does not fit"):
        transform.corner(9, 40)


def test_boxes_outside_the_crop_have_no_area():
    transform = ClipTransform(crop=10, places=((0.0, 0.0),), flip=True)
    boxes = np.asarray([[0.8, 0.8, 1, 1], [0, 0, 0.5, 0.5]], np.float32)
    assert transform.boxes_px(boxes, 40, 40, (0, 0)).tolist() == [[0, 10, 0, 10], [0, 0, 10, 10]]


def test_test_policy_keeps_the_whole_frame():
    transform = TestPolicy(256).draw(np.random.default_rng(0))
    assert transform == ClipTransform(short_side=256)
    frames = np.random.default_rng(0).integers(0, 255, (2, 6, 8, 3), dtype=np.uint8)
    assert torch.equal(transform.frames(frames), torch.from_numpy(frames).permute(3, 0, 1, 2))
    boxes = np.asarray([[0, 0.5, 0.5, 1]], np.float32)
    assert transform.boxes_px(boxes, 6, 8).tolist() == [[0, 3, 4, 6]]
    mirrored = TestPolicy(None, flip=True).draw(np.random.default_rng(0))
    assert torch.equal(mirrored.frames(frames), transform.frames(frames).flip(3))
    assert mirrored.boxes_px(boxes, 6, 8).tolist() == [[4, 3, 8, 6]]


def test_colours():
    frames = np.full((2, 4, 4, 3), 100, np.uint8)
    frames[:, :2] = (200, 100, 0)
    assert np.array_equal(ColorTransform()(frames), frames)
    assert ColorTransform((("brightness", 0.5),))(frames)[0, 0, 0].tolist() == [100, 50, 0]
    grey = ColorTransform((("saturation", 0.0),))(frames)[0, 0, 0]
    assert grey.tolist() == [119] * 3  # 0.299 * 200 + 0.587 * 100, halves up
    flat = ColorTransform((("contrast", 0.0),))(frames)
    assert len(np.unique(flat)) == 1
    shifted = ColorTransform(shift=(0.1, 0.0, -0.1))(frames)[0, 0, 0]
    assert shifted.tolist() == [226, 100, 0]
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, 20, 30, 3), np.uint8)
    for _ in range(8):
        color = TrainPolicy(color=True).draw(rng).color
        assert np.abs(color(frames).astype(float) - step_by_step(color, frames)).max() <= 0.51
    drawn = [TrainPolicy(color=True).draw(rng).color for _ in range(300)]
    factors = np.asarray([factor for color in drawn for _, factor in color.steps])
    assert factors.min() >= 0.6
    assert factors.max() <= 1.4
    assert len({tuple(kind for kind, _ in color.steps) for color in drawn}) == 6


def step_by_step(color: ColorTransform, frames: np.ndarray) -> np.ndarray:
    """The changes of colour one after the other, as they are defined."""
    values, luma = frames.astype(np.float64), np.asarray([0.299, 0.587, 0.114])
    for kind, factor in color.steps:
        grey = {"brightness": np.zeros(1), "saturation": (values @ luma)[..., None]}.get(kind)
        if grey is None:
            grey = (values @ luma).mean(axis=(1, 2))[:, None, None, None]
        values = grey + factor * (values - grey)
    return np.clip(values + np.asarray(color.shift) * 255, 0, 255)


def test_impossible_policies_are_refused():
    with pytest.raises(ValueError, match="low, high"):
        TrainPolicy((320, 256))
    with pytest.raises(ValueError, match="does not fit"):
        TrainPolicy((200, 256), crop=224)
    with pytest.raises(ValueError, match="sampling"):
        TrainPolicy(sampling="random")


def test_spatial_crops():
    assert spatial_crops(256, 340, 3) == [(0.5, 0.0), (0.5, 0.5), (0.5, 1.0)]
    assert spatial_crops(340, 256, 3) == [(0.0, 0.5), (0.5, 0.5), (1.0, 0.5)]
    assert spatial_crops(9, 9, 1) == [(0.5, 0.5)]
    with pytest.raises(ValueError, match="1 or 3"):
        spatial_crops(9, 9, 2)
    # The middle of an odd room is rounded up, as published.
    assert ClipTransform(crop=256).corner(256, 341) == (0, 43)
