"""Anchors, deltas, matching, levels, pooling and sizes, by hand and by second implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from avadet.persons import box_coding, images
from avadet.persons.images import ImagePreprocessing, resized_size
from avadet.persons.roi_heads import assign_levels, pool


def test_cell_anchors_have_the_area_and_the_ratio() -> None:
    cells = box_coding.cell_anchors([32, 64], [0.5, 2.0])
    expected_width = 32 * math.sqrt(2)
    np.testing.assert_allclose(
        cells[0], [-expected_width / 2, -expected_width / 4, expected_width / 2, expected_width / 4]
    )
    sides = cells[:, 2:] - cells[:, :2]
    np.testing.assert_allclose(sides.prod(1), [32**2, 32**2, 64**2, 64**2], rtol=1e-5)
    np.testing.assert_allclose(sides[:, 1] / sides[:, 0], [0.5, 2.0, 0.5, 2.0], rtol=1e-5)


def test_grid_anchors_go_row_by_row_and_may_be_offset() -> None:
    cells = torch.tensor([[-1.0, -1.0, 1.0, 1.0], [-2.0, -2.0, 2.0, 2.0]])
    grid = box_coding.grid_anchors(cells, 2, 3, stride=8)
    assert grid.shape == (12, 4)
    assert grid[3].tolist() == [6.0, -2.0, 10.0, 2.0]
    assert grid[6].tolist() == [-1.0, 7.0, 1.0, 9.0]
    moved = box_coding.grid_anchors(cells, 2, 3, stride=8, offset=0.5)
    assert (moved - grid == 4.0).all()


def test_decode_undoes_encode() -> None:
    rng = np.random.default_rng(0)
    corner = torch.from_numpy(rng.uniform(0, 50, (40, 2, 2)).astype(np.float32))
    sides = torch.from_numpy(rng.uniform(5, 60, (40, 2, 2)).astype(np.float32))
    anchors, targets = torch.cat((corner, corner + sides), dim=2).unbind(1)
    weights = (10.0, 10.0, 5.0, 5.0)
    deltas = box_coding.encode(anchors, targets, weights)
    torch.testing.assert_close(
        box_coding.decode(anchors, deltas, weights), targets, atol=1e-3, rtol=1e-4
    )


def test_growth_is_limited() -> None:
    anchor = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    box = box_coding.decode(anchor, torch.tensor([[0.0, 0.0, 50.0, 50.0]]), (1, 1, 1, 1))
    torch.testing.assert_close(box, torch.tensor([[-492.0, -492.0, 508.0, 508.0]]))


def test_matching_ignores_the_middle_and_rescues_the_best() -> None:
    truth = torch.tensor([[0.0, 0.0, 10.0, 10.0], [100.0, 100.0, 110.0, 110.0]])
    candidates = torch.tensor(
        [
            [0.0, 0.0, 10.0, 9.0],  # IoU 0.9 with the first
            [0.0, 0.0, 10.0, 5.0],  # 0.5: neither
            [50.0, 0.0, 60.0, 10.0],  # 0: background
            [100.0, 100.0, 110.0, 102.0],  # 0.2, but the best the second has
        ]
    )
    indices, labels = box_coding.match(truth, candidates, 0.3, 0.7, rescue=True)
    assert labels.tolist() == [1, -1, 0, 1]
    assert indices[[0, 3]].tolist() == [0, 1]
    _, plain = box_coding.match(truth, candidates, 0.3, 0.7, rescue=False)
    assert plain.tolist() == [1, -1, 0, 0]
    _, nobody = box_coding.match(truth[:0], candidates, 0.3, 0.7, rescue=True)
    assert nobody.tolist() == [0, 0, 0, 0]


def test_sampling_fills_up_with_background() -> None:
    labels = torch.tensor([1, 1, 1, 1, 0, 0, 0, 0, 0, 0, -1, -1], dtype=torch.int8)
    positive, negative = box_coding.sample(labels, 8, 0.25)
    assert len(positive) == 2
    assert len(negative) == 6
    assert (labels[positive] == 1).all()
    assert (labels[negative] == 0).all()


def test_levels_follow_the_formula() -> None:
    sides = torch.tensor([10.0, 111.0, 112.0, 223.9, 224.0, 448.0, 5000.0])
    boxes = torch.stack((torch.zeros(7), torch.zeros(7), sides, sides), dim=1)
    assert assign_levels(boxes, 2, 5).tolist() == [2, 2, 3, 3, 4, 5, 5]


def test_pooling_takes_each_box_from_its_level_and_keeps_the_order() -> None:
    maps = {2: torch.full((2, 1, 64, 64), 2.0), 3: torch.full((2, 1, 32, 32), 3.0)}
    maps[2][1] += 10
    maps[3][1] += 10
    small, large = [0.0, 0.0, 20.0, 20.0], [0.0, 0.0, 150.0, 150.0]
    boxes = [torch.tensor([large, small]), torch.tensor([small, large])]
    crops = pool(maps, {2: 4, 3: 8}, boxes, 2)
    assert crops[:, 0, 0, 0].tolist() == [3.0, 2.0, 12.0, 13.0]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((240, 320), (800, 1067)),
        ((1080, 1920), (750, 1333)),
        ((1920, 1080), (1333, 750)),
        ((480, 480), (800, 800)),
    ],
)
def test_resized_sizes(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    assert resized_size(*shape, 800, 1333) == expected


@given(st.integers(1, 4000), st.integers(1, 4000))
def test_the_longer_side_keeps_its_limit(height: int, width: int) -> None:
    assert max(resized_size(height, width, 800, 1333)) <= 1333
    assert resized_size(height, width, 0, 1333) == (height, width)


def test_pictures_of_two_sizes_are_padded_with_zeros_after_normalisation() -> None:
    pixels = ImagePreprocessing(short_side=0, mean=(1, 2, 3), std=(2, 2, 2), divisor=8)
    small = np.full((3, 5, 3), (10, 20, 30), np.uint8)
    large = np.full((9, 4, 3), (0, 0, 0), np.uint8)
    batch, sizes = images.to_batch([small, large], pixels, "cpu")
    assert batch.shape == (2, 3, 16, 8)
    assert sizes == [(3, 5), (9, 4)]
    # BGR: the blue value 30 comes first, with the first mean.
    assert batch[0, :, 2, 4].tolist() == [14.5, 9.0, 3.5]
    assert batch[0, :, 3:].abs().sum() == 0
    alone, _ = images.to_batch([small], pixels, "cpu")
    assert torch.equal(alone[0, :, :3, :5], batch[0, :, :3, :5])
    assert ImagePreprocessing.from_dict(pixels.to_dict()) == pixels
