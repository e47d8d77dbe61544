"""Heads by hand-made numbers: RoIAlign of ramps, windows, empty lists, mixed precision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from avadet.errors import UserError
from avadet.models.action import ActionClassifier, ActionDetector
from avadet.models.backbones import BACKBONES
from avadet.models.heads import PoolHead, RoIHead, activate
from avadet.models.roi import align_regions, batch_index


def ramp(height: int, width: int) -> Tensor:
    """(1,2,H,W): channel 0 is the column, channel 1 the row, at the centres of the cells."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y]).float()[None]


def test_roi_align_of_a_ramp_gives_coordinates() -> None:
    # Box 16..48 x 32..64 px at stride 4 is 4..12 x 8..16 cells; two cells a side of 4 each have
    # their centres at 6 and 10 (10 and 14), and a pixel's centre is half a cell further left.
    box = [torch.tensor([[16.0, 32.0, 48.0, 64.0]])]
    aligned = align_regions(ramp(20, 20), box, stride=4, resolution=2, aligned=True)
    assert aligned[0, 0, 0].tolist() == pytest.approx([5.5, 9.5])
    assert aligned[0, 1, :, 0].tolist() == pytest.approx([9.5, 13.5])
    shifted = align_regions(ramp(20, 20), box, stride=4, resolution=2, aligned=False)
    assert shifted[0, 0, 0].tolist() == pytest.approx([6.0, 10.0])


def test_roi_align_by_a_second_implementation() -> None:
    x = torch.randn(2, 3, 9, 11)
    boxes = [torch.tensor([[3.0, 5.0, 70.0, 60.0]]), torch.tensor([[20.5, 1.0, 33.25, 50.0]])]
    got = align_regions(x, boxes, stride=8, resolution=3, aligned=True)
    for n in range(2):
        x1, y1, x2, y2 = (float(v) / 8 - 0.5 for v in boxes[n][0])
        bin_w, bin_h = (x2 - x1) / 3, (y2 - y1) / 3
        grid_w, grid_h = -int(-bin_w // 1), -int(-bin_h // 1)  # ceil: samples per cell
        for row in range(3):
            for column in range(3):
                total = torch.zeros(3)
                for i in range(grid_h):
                    for j in range(grid_w):
                        sy = y1 + row * bin_h + (i + 0.5) * bin_h / grid_h
                        sx = x1 + column * bin_w + (j + 0.5) * bin_w / grid_w
                        total += bilinear(x[n], sy, sx)
                torch.testing.assert_close(
                    got[n, :, row, column], total / (grid_h * grid_w), rtol=1e-4, atol=1e-5
                )


def bilinear(x: Tensor, y: float, column: float) -> Tensor:
    """Value of (C,H,W) at a point; up to one cell outside counts as the edge."""
    height, width = x.shape[1:]
    if y < -1 or y > height or column < -1 or column > width:
        return torch.zeros(len(x))
    y, column = min(max(y, 0.0), height - 1.0), min(max(column, 0.0), width - 1.0)
    y0, x0 = int(y), int(column)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    fy, fx = y - y0, column - x0
    top = x[:, y0, x0] * (1 - fx) + x[:, y0, x1] * fx
    bottom = x[:, y1, x0] * (1 - fx) + x[:, y1, x1] * fx
    return top * (1 - fy) + bottom * fy


def test_number_of_box_lists_must_be_the_number_of_clips() -> None:
    with pytest.raises(ValueError, match="2 clips but boxes for 1"):
        align_regions(
            torch.zeros(2, 1, 4, 4), [torch.zeros(0, 4)], stride=4, resolution=2, aligned=True
        )


def test_batch_index() -> None:
    boxes = [torch.zeros(2, 4), torch.zeros(0, 4), torch.zeros(1, 4)]
    assert batch_index(boxes, torch.device("cpu")).tolist() == [0, 0, 2]


@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("mlp_hidden", [None, 6])
@pytest.mark.parametrize("temporal_pool", ["avg", "max"])
def test_roi_head_shapes_and_gradients(
    context: bool, mlp_hidden: int | None, temporal_pool: str
) -> None:
    head = RoIHead((3, 2), 4, context=context, mlp_hidden=mlp_hidden, temporal_pool=temporal_pool)
    maps = (
        torch.randn(2, 3, 2, 5, 6, requires_grad=True),
        torch.randn(2, 2, 8, 5, 6, requires_grad=True),
    )
    boxes = [torch.zeros(0, 4), torch.tensor([[3.0, 4.0, 50.0, 60.0], [0.0, 0.0, 96.0, 80.0]])]
    assert head.features(maps, boxes).shape == (2, 10 if context else 5)
    logits = head(maps, boxes)
    assert logits.shape == (2, 4)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in head.parameters())
    # The first clip has no boxes, so nothing of it is looked at.
    assert all(each.grad[0].abs().max() == 0 for each in maps)
    assert all(each.grad[1].abs().max() > 0 for each in maps)


def test_roi_features_of_constant_maps() -> None:
    frames = torch.tensor([1.0, 2.0, 6.0]).view(1, 1, 3, 1, 1).expand(1, 1, 3, 8, 8)
    box = [torch.tensor([[20.0, 20.0, 90.0, 90.0]])]
    for pool, value in (("avg", 3.0), ("max", 6.0)):
        head = RoIHead(1, 2, temporal_pool=pool, context=True)
        assert head.features((frames,), box).tolist() == [[pytest.approx(value)] * 2]


@pytest.mark.parametrize("name", ["slowfast_tiny", "ir_csn_tiny"])
def test_detector_without_any_box(name: str) -> None:
    backbone = BACKBONES.get(name)()
    model = ActionDetector(backbone, RoIHead(backbone.out_channels, 5, context=True))
    logits = model(torch.randn(2, 3, 16, 32, 32), [torch.zeros(0, 4)] * 2)
    assert logits.shape == (0, 5)
    logits.sum().backward()
    # With DDP, a parameter without gradient would hang the other processes.
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_roi_features_are_float32_under_autocast() -> None:
    backbone = BACKBONES.get("slow_tiny")().eval()
    model = ActionDetector(backbone, RoIHead(backbone.out_channels, 5)).eval()
    clip, boxes = torch.randn(1, 3, 8, 64, 64), [torch.tensor([[3.0, 5.0, 41.0, 61.0]])]
    exact = model(clip, boxes)
    with torch.autocast("cpu", torch.bfloat16):
        maps = backbone(clip)
        assert maps[0].dtype == torch.bfloat16
        assert model.head.features(maps, boxes).dtype == torch.float32
        logits = model(clip, boxes)
    torch.testing.assert_close(logits.float(), exact, rtol=0.1, atol=0.02)


def test_detector_rejects_a_head_of_another_stride_or_width() -> None:
    backbone = BACKBONES.get("slow_tiny")()
    with pytest.raises(ValueError, match="strides"):
        ActionDetector(backbone, RoIHead(backbone.out_channels, 5, stride=32))
    with pytest.raises(ValueError, match="channels"):
        ActionDetector(backbone, RoIHead(3, 5))
    with pytest.raises(UserError, match="temporal_pool"):
        RoIHead(3, 5, temporal_pool="mean")


def test_pool_head_is_linear_in_the_mean() -> None:
    head = PoolHead((2, 1), 4).eval()
    maps = (torch.randn(3, 2, 4, 5, 6), torch.randn(3, 1, 8, 5, 6))
    pooled = torch.cat([each.flatten(2).mean(2) for each in maps], 1)
    torch.testing.assert_close(head(maps), head.projection(pooled))


def test_fully_convolutional_averages_probabilities_of_windows() -> None:
    head = PoolHead((2, 1), 4, window=3, init_std=1.0).eval()
    maps = (torch.randn(2, 2, 4, 4, 5), torch.randn(2, 1, 8, 4, 5))
    windows = [
        head(tuple(each[..., y : y + 3, x : x + 3] for each in maps)).softmax(1)
        for y in range(2)
        for x in range(3)
    ]
    torch.testing.assert_close(head.fully_convolutional(maps), torch.stack(windows).mean(0))


def test_fully_convolutional_without_a_window_is_the_plain_answer() -> None:
    backbone = BACKBONES.get("slowfast_tiny")()
    model = ActionClassifier(backbone, PoolHead(backbone.out_channels, 4)).eval()
    clip = torch.randn(2, 3, 16, 32, 48)
    torch.testing.assert_close(model.probabilities(clip), model(clip).softmax(1))
    torch.testing.assert_close(model.probabilities(clip, "sigmoid"), model(clip).sigmoid())


def test_activate() -> None:
    logits = torch.tensor([[0.0, 0.0]])
    assert activate(logits, "sigmoid").tolist() == [[0.5, 0.5]]
    assert activate(logits.bfloat16(), "softmax").dtype == torch.float32
    with pytest.raises(UserError, match="softmax"):
        activate(logits, "none")
