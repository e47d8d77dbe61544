"""What every backbone keeps to, and what tells the members apart."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from avadet.errors import UserError
from avadet.models.backbones import BACKBONES
from avadet.models.backbones.resnet3d import Bottleneck, ResNet3D
from avadet.models.backbones.slowfast import SlowFast
from avadet.models.layers import slow_frames

# The ResNet-shaped ones; the other families have their own tests.
_RESNETS = ("c2d", "fast", "i3d", "ip_csn", "ir_csn", "slow", "slowfast")
TINY = [f"{name}_tiny" for name in _RESNETS]


def build(name: str, **args: Any) -> nn.Module:
    return BACKBONES.get(name)(**args)


@pytest.mark.parametrize("name", BACKBONES.names())
def test_protocol(name: str) -> None:
    with torch.device("meta"):
        backbone = build(name)
        frames = getattr(backbone, "num_frames", 32)  # R2D is made for so many
        maps = backbone(torch.empty(2, 3, frames, 96, 160))
    assert len(maps) == len(backbone.out_channels) == len(backbone.strides)
    for each, channels, stride in zip(maps, backbone.out_channels, backbone.strides, strict=True):
        assert each.shape[:2] == (2, channels)
        assert each.shape[3:] == (96 // stride, 160 // stride)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("dilate", [False, True])
@pytest.mark.parametrize("name", TINY)
def test_output_strides(name: str, output_stride: int, dilate: bool) -> None:
    with torch.device("meta"):
        backbone = build(name, output_stride=output_stride, dilate=dilate)
        maps = backbone(torch.empty(1, 3, 16, 64, 96))
    assert set(backbone.strides) == {output_stride}
    assert {each.shape[3:] for each in maps} == {(64 // output_stride, 96 // output_stride)}
    dilations = {
        module.dilation[1] for module in backbone.modules() if isinstance(module, nn.Conv3d)
    }
    expected = {8: {1, 2, 4}, 16: {1, 2}, 32: {1}}[output_stride]
    assert dilations == (expected if dilate else {1})


@pytest.mark.parametrize("name", TINY)
def test_forward_and_backward_reach_every_parameter(name: str) -> None:
    backbone = build(name, zero_init=False)
    maps = backbone(torch.randn(2, 3, 16, 40, 56))  # not multiples of the stride
    sum(each.square().mean() for each in maps).backward()
    for key, parameter in backbone.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        # A parameter whose gradient is exactly 0 everywhere is not connected.
        assert parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize("name", TINY)
def test_blocks_start_as_the_identity(name: str) -> None:
    backbone = build(name)
    last = [m.c.norm.weight for m in backbone.modules() if isinstance(m, Bottleneck)]
    assert last
    assert all(weight.abs().max() == 0 for weight in last)


@pytest.mark.parametrize("name", TINY)
def test_memory_format_changes_nothing(name: str) -> None:
    backbone = build(name, zero_init=False).eval()
    clip = torch.randn(1, 3, 16, 32, 48)
    expected = backbone(clip)
    fast = backbone.to(memory_format=torch.channels_last_3d)
    for a, b in zip(expected, fast(clip.to(memory_format=torch.channels_last_3d)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_slowfast_takes_ready_pathways() -> None:
    backbone = build("slowfast_tiny").eval()
    clip = torch.randn(1, 3, 16, 32, 32)
    slow = clip[:, :, slow_frames(16, 8)]
    for a, b in zip(backbone(clip), backbone((slow, clip)), strict=True):
        assert torch.equal(a, b)


def test_single_pathway_takes_a_tuple_of_one_whose_frames_are_chosen() -> None:
    backbone = build("slow_tiny").eval()
    clip = torch.randn(1, 3, 16, 32, 32)
    chosen = clip[:, :, slow_frames(16, 8)]
    assert torch.equal(backbone(clip)[0], backbone((chosen,))[0])


def test_slow_sampling_by_stride_looks_at_other_frames() -> None:
    clip = torch.zeros(1, 3, 32, 32, 32)
    clip[:, :, 31] = 1.0  # seen by linspace only
    empty = torch.zeros_like(clip)
    for sampling, seen in (("linspace", True), ("stride", False)):
        backbone = build("slowfast_tiny", slow_sampling=sampling, lateral="none").eval()
        assert torch.equal(backbone(clip)[0], backbone(empty)[0]) is not seen


@pytest.mark.parametrize("lateral", ["t_conv", "t_sample", "none"])
def test_laterals_carry_fast_into_slow(lateral: str) -> None:
    backbone = build("slowfast_tiny", lateral=lateral, zero_init=False).eval()
    slow, fast = torch.randn(1, 3, 2, 32, 32), torch.randn(1, 3, 16, 32, 32)
    moved = not torch.equal(backbone((slow, fast))[0], backbone((slow, fast + 1))[0])
    assert moved is (lateral != "none")
    # Nothing flows the other way.
    assert torch.equal(backbone((slow, fast))[1], backbone((slow + 1, fast))[1])


def test_bare_lateral_convolution_has_no_norm() -> None:
    with torch.device("meta"):
        keys = build("slowfast_r50", lateral_norm=False).state_dict()
    assert [key for key in keys if key.startswith("lateral")] == [
        f"lateral.{place}.conv.weight" for place in ("stem", "res2", "res3", "res4")
    ]


def test_published_temporal_kernels_of_r101() -> None:
    with torch.device("meta"):
        backbone = SlowFast(depth=101, res4_temporal_blocks=6)
    for pathway in (backbone.slow, backbone.fast):
        kernels = [block.a.conv.kernel_size[0] for block in pathway.res4.blocks]
        assert kernels == [3] * 6 + [1] * 17
    assert {b.a.conv.kernel_size[0] for b in backbone.slow.res3.blocks} == {1}
    assert {b.a.conv.kernel_size[0] for b in backbone.fast.res3.blocks} == {3}


def test_i3d_alternates_temporal_kernels() -> None:
    with torch.device("meta"):
        backbone = build("i3d_r50")
    kernels = [
        [block.a.conv.kernel_size[0] for block in getattr(backbone, stage).blocks]
        for stage in ("res2", "res3", "res4", "res5")
    ]
    assert kernels == [[3, 3, 3], [3, 1, 3, 1], [3, 1, 3, 1, 3, 1], [1, 3, 1]]


def test_csn_strides_in_time_and_space_at_the_depthwise_layer() -> None:
    with torch.device("meta"):
        backbone = build("ip_csn_50", output_stride=16)
        (last,) = backbone(torch.empty(1, 3, 32, 64, 64))
    assert last.shape == (1, 2048, 4, 4, 4)
    first = backbone.res5.blocks[0]
    assert first.b.conv.depthwise.stride == (2, 1, 1)
    assert first.b.conv.depthwise.dilation == (1, 2, 2)
    assert first.b.conv.depthwise.groups == 512
    assert first.shortcut.conv.stride == (2, 1, 1)
    eps = {m.eps for m in backbone.modules() if isinstance(m, nn.BatchNorm3d)}
    assert eps == {1e-3}


def test_csn_with_frozen_norms() -> None:
    model = build("ir_csn_tiny", frozen_norms=True).train()
    before = model.stem.norm.running_mean.clone()
    model(torch.randn(1, 3, 8, 32, 32))
    assert torch.equal(model.stem.norm.running_mean, before)


def test_non_local_blocks_sit_where_asked() -> None:
    with torch.device("meta"):
        backbone = build("slowfast_r101", non_local={"places": {"res4": [6, 13, 20]}})
    assert list(backbone.slow.res4.non_local) == ["6", "13", "20"]
    assert not len(backbone.slow.res3.non_local)
    assert not len(backbone.fast.res4.non_local)


@pytest.mark.parametrize(
    ("name", "args", "word"),
    [
        ("slow_r50", {"depth": 34}, "depth"),
        ("slow_r50", {"depths": [1, 2]}, "depths"),
        ("slow_r50", {"output_stride": 4}, "output_stride"),
        ("slowfast_r50", {"lateral": "both"}, "lateral"),
        ("slowfast_r50", {"beta_inv": 0}, "beta_inv"),
        ("ir_csn_50", {"interaction": "full"}, "interaction"),
        ("slow_r50", {"non_local": {"places": {"res4": [6]}}}, "res4"),
        ("slow_r50", {"non_local": {"place": {}}}, "places"),
        ("slow_r50", {"non_local": {"kind": "concatenation"}}, "dot_product"),
    ],
)
def test_bad_arguments_are_named(name: str, args: dict[str, Any], word: str) -> None:
    with torch.device("meta"), pytest.raises(UserError, match=word):
        build(name, **args)


def test_stem_stays_in_float32_under_cpu_autocast() -> None:
    backbone = ResNet3D(depths=(1, 1, 1, 1), width=8)
    seen: list[torch.dtype] = []
    backbone.stem.register_forward_hook(lambda _m, _i, output: seen.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        (last,) = backbone(torch.randn(1, 3, 4, 32, 32))
    assert seen == [torch.float32]
    assert last.dtype == torch.bfloat16
