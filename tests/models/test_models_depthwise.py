"""Depthwise convolutions against torch's own."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avadet.models.backbones import BACKBONES
from avadet.models.depthwise import DepthwiseConv3d
from avadet.models.layers import ConvSpec, plain_conv

# Kernel, stride, dilation, frames, side.
SHAPES = [
    ((3, 3, 3), (1, 1, 1), 1, 5, 7),
    ((3, 3, 3), (1, 1, 1), 2, 4, 9),
    ((3, 3, 3), (2, 2, 2), 1, 8, 8),
    ((3, 3, 3), (2, 2, 2), 1, 5, 7),
    ((3, 3, 3), (1, 2, 2), 2, 3, 8),
    ((3, 3, 3), (1, 1, 1), 1, 2, 5),
    ((3, 3, 3), (1, 1, 1), 1, 1, 5),
    ((5, 1, 1), (1, 1, 1), 1, 6, 4),
    ((5, 1, 1), (1, 1, 1), 1, 3, 4),
]


def both(
    conv: nn.Conv3d, video: Tensor, up: Tensor, dtype: torch.dtype
) -> tuple[list[Tensor], list[Tensor]]:
    """Result, input gradient and weight gradient: of ``conv``, and of torch in float32."""
    answers = []
    for ours in (True, False):
        x = video.clone().requires_grad_()
        conv.weight.grad = None
        with torch.autocast("cpu", dtype, enabled=ours and dtype != torch.float32):
            y = conv(x) if ours else nn.Conv3d.forward(conv, x)
        y.backward(up.to(y.dtype))
        assert x.grad is not None
        assert conv.weight.grad is not None
        answers.append([y.detach().float(), x.grad.float(), conv.weight.grad.clone()])
    return answers[0], answers[1]


@pytest.mark.parametrize(("kernel", "stride", "dilation", "frames", "side"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_results_and_gradients(
    kernel: tuple[int, int, int],
    stride: tuple[int, int, int],
    dilation: int,
    frames: int,
    side: int,
    dtype: torch.dtype,
) -> None:
    torch.manual_seed(0)
    conv = plain_conv(ConvSpec(6, 6, kernel, stride, dilation), groups=6)
    assert type(conv) is DepthwiseConv3d
    # Values that bfloat16 holds exactly, so that only sums are rounded.
    conv.weight.data = conv.weight.data.bfloat16().float()
    video = torch.randn(2, 6, frames, side, side).bfloat16().float()
    up = torch.randn_like(conv(video)).bfloat16().float()
    ours, theirs = both(conv, video, up, dtype)
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        error = (a - b).norm() / b.norm()
        assert error < (1e-6 if dtype == torch.float32 else 0.006)


def test_more_padding_than_the_kernel_reaches_over_is_torch_s() -> None:
    conv = DepthwiseConv3d(3, 3, (1, 3, 3), padding=(1, 3, 0), groups=3)
    video = torch.randn(2, 3, 2, 5, 5)
    ours, theirs = both(conv, video, torch.randn_like(conv(video)), torch.float32)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_the_gradient_itself() -> None:
    conv = plain_conv(ConvSpec(2, 2, (3, 3, 3), (2, 1, 1)), groups=2).double()
    video = torch.randn(1, 2, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(conv, (video,))


def test_what_it_leaves_to_torch() -> None:
    assert type(plain_conv(ConvSpec(4, 4, (3, 3, 3)))) is nn.Conv3d
    assert type(plain_conv(ConvSpec(4, 8, (3, 3, 3)), groups=4)) is nn.Conv3d
    conv = DepthwiseConv3d(4, 4, 3, padding=1, groups=4)
    video = torch.randn(1, 4, 3, 6, 6)
    expected = F.conv3d(video, conv.weight, conv.bias, padding=1, groups=4)
    torch.testing.assert_close(conv(video), expected)
    assert conv(video).is_contiguous(memory_format=torch.channels_last_3d)
    with torch.no_grad():
        torch.testing.assert_close(conv(video), expected)
    assert conv(torch.zeros(0, 4, 3, 6, 6)).shape == (0, 4, 3, 6, 6)
    # On a device without values only shapes are known.
    assert copy.deepcopy(conv).to("meta")(video.to("meta")).shape == expected.shape


@pytest.mark.parametrize("name", ["ir_csn_tiny", "ip_csn_tiny", "x3d_tiny"])
def test_networks_learn_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = BACKBONES.get(name)().train()
    assert any(isinstance(module, DepthwiseConv3d) for module in network.modules())
    twin = copy.deepcopy(network)
    video = torch.randn(2, 3, 8, 32, 32)
    network(video)[0].square().mean().backward()
    monkeypatch.setattr(DepthwiseConv3d, "forward", nn.Conv3d.forward)
    twin(video)[0].square().mean().backward()
    for (key, a), b in zip(network.named_parameters(), twin.parameters(), strict=True):
        assert a.grad is not None
        assert b.grad is not None
        # Convolutions in front of a norm have gradients that cancel: compare with the largest.
        torch.testing.assert_close(a.grad, b.grad, rtol=2e-3, atol=2e-5, msg=key)
