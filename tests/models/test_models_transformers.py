"""MViT and ViT: published cost, hand-made numbers, second implementations, torchvision beside."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from avadet.convert.mvit import TORCHVISION
from avadet.errors import UserError
from avadet.models.action import ActionClassifier, ActionDetector
from avadet.models.backbones import BACKBONES
from avadet.models.backbones.mvit import MViT
from avadet.models.backbones.pooling_attention import PooledAttention, relative_table
from avadet.models.backbones.transformer import DropPath, drop_path_rates
from avadet.models.backbones.vit import ViT, sine_positions
from avadet.models.cost import count_flops, count_parameters
from avadet.models.heads import PoolHead, RoIHead

TINY = ("mvit_v1_tiny", "mvit_v2_tiny", "vit_tiny")
# Name, what the classifier reads, frames, GFLOPs at 224 and millions of parameters as published:
# the model table of the common implementation and torchvision (MViT), projects/mvitv2/README.md of
# PySlowFast (MViTv2), configs/recognition/{videomae,videomaev2}/README.md of MMAction2 4d6c934
# (ViT-S, B, L), the paper of VideoMAE (ViT-H).
COSTS = [
    ("mvit_v1_b", "token", 16, 70.80, 36.61),
    ("mvit_v1_b_32x3", "token", 32, 170.37, 36.61),
    ("mvit_v2_s", "token", 16, 64.22, 34.54),
    pytest.param("mvit_v2_b", "token", 32, 225.0, 51.2, marks=pytest.mark.slow),
    ("vit_s", "mean", 16, 57.0, 22.0),
    ("vit_b", "mean", 16, 180.0, 87.0),
    pytest.param("vit_l", "mean", 16, 597.0, 305.0, marks=pytest.mark.slow),
    pytest.param("vit_h", "mean", 16, 1192.0, 633.0, marks=pytest.mark.slow),
]


def build(name: str, **args: Any) -> nn.Module:
    return BACKBONES.get(name)(**args)


@pytest.mark.parametrize(("name", "output", "frames", "gflops", "millions"), COSTS)
def test_published_costs(
    name: str, output: str, frames: int, gflops: float, millions: float
) -> None:
    with torch.device("meta"):
        backbone = build(name, output=output)
        model = ActionClassifier(backbone, PoolHead(backbone.out_channels, 400))
    counted = count_flops(model, (1, 3, frames, 224, 224)) / 1e9
    assert counted == pytest.approx(gflops, rel=0.01)
    assert count_parameters(model) / 1e6 == pytest.approx(millions, rel=0.01)


@pytest.mark.parametrize("name", TINY)
def test_forward_and_backward_reach_every_parameter(name: str) -> None:
    backbone = build(name)
    (x,) = backbone(torch.randn(2, 3, 8, 48, 64))
    x.square().mean().backward()
    for key, parameter in backbone.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        if not key.endswith("norm_k.bias"):  # it adds the same to all logits of a query
            assert parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize("name", TINY)
def test_outputs(name: str) -> None:
    clip = torch.randn(2, 3, 8, 64, 96)
    state = build(name).state_dict()
    maps = {}
    for output in ("map", "mean", "token"):
        if output == "token" and name.startswith("vit"):
            with pytest.raises(UserError, match="not one of map, mean"):
                build(name, output=output)
            continue
        backbone = build(name, output=output).eval()
        backbone.load_state_dict(state)
        (maps[output],) = backbone(clip)
    width, stride = backbone.out_channels[0], backbone.strides[0]
    assert maps["map"].shape == (2, width, 4, 64 // stride, 96 // stride)
    for output in maps.keys() - {"map"}:
        assert maps[output].shape == (2, width, 1, 1, 1)
        assert not torch.allclose(maps[output][..., 0, 0, 0], maps["map"].mean((2, 3, 4)))


@pytest.mark.parametrize("name", TINY)
def test_as_a_detector(name: str) -> None:
    backbone = build(name, output_stride=16).eval()
    model = ActionDetector(backbone, RoIHead(backbone.out_channels, 5, stride=backbone.strides))
    boxes = [torch.tensor([[4.0, 4.0, 40.0, 60.0], [0.0, 0.0, 64.0, 64.0]]), torch.empty(0, 4)]
    assert model(torch.randn(2, 3, 4, 64, 64), boxes).shape == (2, 5)


@pytest.mark.parametrize("output_stride", [16, 32])
def test_output_strides_of_mvit(output_stride: int) -> None:
    for version in (1, 2):
        with torch.device("meta"):
            backbone = MViT(version=version, output_stride=output_stride)
            (x,) = backbone(torch.empty(1, 3, 16, 224, 320))
        assert backbone.strides == (output_stride,)
        assert x.shape == (1, 768, 8, 224 // output_stride, 320 // output_stride)
        # Keys keep their 14 x 14 grid all the way but for the last block at stride 32.
        strides = [block.attn.pool_k.stride[1] for block in backbone.blocks]
        last = [1, 1] if output_stride == 32 else [2, 2]
        assert strides == [8, 4, 4] + [2] * 11 + last
        # Weights fit at either stride.
        with torch.device("meta"):
            usual = MViT(version=version).state_dict()
        shapes = {key: value.shape for key, value in backbone.state_dict().items()}
        assert shapes == {key: value.shape for key, value in usual.items()}
    with pytest.raises(ValueError, match="16 or 32"):
        MViT(output_stride=8)


def test_relative_positions_by_a_second_implementation() -> None:
    """Bias of query i and key j: the query times the sum of three embeddings of distances."""
    attention = PooledAttention(8, 8, 2, stride_q=2, stride_kv=3, relative=(2, 3, 3))
    grid_q, grid_k = (2, 3, 3), (2, 2, 2)
    q = torch.randn(1, 2, 1 + 18, 4)
    bias = attention._positions(q, grid_q, grid_k)
    assert bias[:, :, 0].abs().max() == 0
    assert bias[:, :, :, 0].abs().max() == 0
    tables = [attention.rel_pos_t, attention.rel_pos_h, attention.rel_pos_w]
    assert [len(table) for table in tables] == [3, 5, 5]
    for i, (qt, qh, qw) in enumerate(torch.cartesian_prod(*map(torch.arange, grid_q)).tolist()):
        for j, (kt, kh, kw) in enumerate(torch.cartesian_prod(*map(torch.arange, grid_k)).tolist()):
            # Three queries beside two keys: a step of a key is 1.5 steps of a query.
            rows = [qt - kt + 1, int(qh - 1.5 * kh + 1.5), int(qw - 1.5 * kw + 1.5)]
            embedding = sum(table[row] for table, row in zip(tables, rows, strict=True))
            torch.testing.assert_close(bias[0, :, 1 + i, 1 + j], q[0, :, 1 + i] @ embedding)


def test_tables_of_other_sizes_are_interpolated() -> None:
    table = torch.arange(7.0)[:, None]  # distances -3..3
    assert relative_table(table, 4, 4)[:, 0, 0].tolist() == [3, 4, 5, 6]
    assert relative_table(table, 4, 2)[3, :, 0].tolist() == [5, 3]
    stretched = relative_table(table, 2, 2)[..., 0]  # three entries out of seven
    torch.testing.assert_close(stretched, torch.tensor([[3.0, 1 - 1 / 3], [6 - 2 / 3, 3.0]]))


def test_absolute_positions_are_interpolated_trilinearly() -> None:
    backbone = MViT(depth=1, stages=(), width=8, frames=4, crop=16)
    grid = (3, 5, 2)
    cells = backbone.position_time[:, :, None] + backbone.position_space[:, None]  # (1,2,16,8)
    cube = cells.transpose(1, 3).transpose(2, 3).unflatten(3, (4, 4))
    expected = F.interpolate(cube, size=grid, mode="trilinear").flatten(2).transpose(1, 2)
    torch.testing.assert_close(backbone.positions(grid)[:, 1:], expected)


def test_sines() -> None:
    table = sine_positions(3, 4)[0]
    assert table[0].tolist() == [0, 1, 0, 1]
    angles = torch.tensor([2.0, 2.0, 0.02, 0.02])
    expected = torch.stack([angles.sin(), angles.cos()])[[0, 1, 0, 1], range(4)]
    torch.testing.assert_close(table[2], expected)
    backbone = ViT(depth=1, width=8, heads=2, frames=4, crop=32)
    assert torch.equal(backbone.positions_at((2, 2, 2)), backbone.positions)
    longer = backbone.positions_at((4, 2, 2))
    torch.testing.assert_close(longer[:, :4], backbone.positions[:, :4])
    assert backbone.positions_at((3, 4, 3)).shape == (1, 36, 8)


def test_drop_path() -> None:
    assert drop_path_rates(0.3, 4) == pytest.approx([0, 0.1, 0.2, 0.3])
    drop = DropPath(0.25)
    torch.manual_seed(0)
    dropped = drop(torch.ones(4000, 2))
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert torch.equal(dropped[:, 0], dropped[:, 1])
    assert float(dropped.mean()) == pytest.approx(1, abs=0.05)
    assert torch.equal(drop.eval()(dropped), dropped)
    with pytest.raises(UserError, match="drop_path"):
        DropPath(1.0)


def _theirs(version: int) -> nn.Module:
    """torchvision's MViT of four blocks, v1 or v2, for 8 frames of 64 pixels."""
    from torchvision.models.video.mvit import MSBlockConfig
    from torchvision.models.video.mvit import MViT as Theirs

    blocks, stride_kv, width = [], 8, 16
    for block in range(4):
        step = 2 if block else 1
        stride_kv //= step
        entry, leave = width * 2 ** max(block - 1, 0), width * 2**block
        if version == 1:
            entry, leave = width * 2**block, width * 2 ** min(block + 1, 3)
        pooled = version == 2 or block > 0
        blocks.append(
            MSBlockConfig(
                num_heads=2**block,
                input_channels=entry,
                output_channels=leave,
                kernel_q=[3, 3, 3] if pooled else [],
                kernel_kv=[3, 3, 3],
                stride_q=[1, step, step] if pooled else [],
                stride_kv=[1, stride_kv, stride_kv],
            )
        )
    second = version == 2
    return Theirs(
        (64, 64), 8, blocks, second, False, second, second, num_classes=7, stochastic_depth_prob=0
    ).eval()


@torch.inference_mode()
@pytest.mark.parametrize("version", [1, 2])
def test_torchvision_beside(version: int) -> None:
    theirs = _theirs(version)
    for parameter in theirs.parameters():
        if parameter.ndim < 2 or parameter.abs().max() == 0:
            nn.init.normal_(parameter, std=0.5)
    backbone = MViT(
        version=version, depth=4, width=16, stages=(1, 2, 3), frames=8, crop=64, output="token"
    )
    ours = ActionClassifier(backbone, PoolHead(backbone.out_channels, 7)).eval()
    renamed = TORCHVISION.read(theirs.state_dict())
    assert not renamed.unclaimed
    ours.load_state_dict(renamed.tensors, strict=True)
    clip = torch.randn(2, 3, 8, 64, 64)
    torch.testing.assert_close(ours(clip), theirs(clip), rtol=1e-4, atol=1e-4)
    back = TORCHVISION.write(ours.state_dict())
    assert all(torch.equal(back[key], value) for key, value in theirs.state_dict().items())
