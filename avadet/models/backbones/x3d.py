"""X3D (Feichtenhofer, CVPR 2020): a tiny 2D network expanded along six axes.

A ResNet of inverted bottlenecks: 1x1x1, depthwise 3x3x3 with squeeze-excitation (every other
block) and swish, 1x1x1. Its last convolution (``conv5``) belongs to the backbone; the classifier is
``PoolHead`` with a hidden layer of 2048. XS, S and M are one network at three clip sizes (4x160,
13x160, 16x224), L is deeper (16x312).

Parameter names::

    stem.spatial.weight  stem.temporal.weight  stem.norm.*
    res{2..5}.blocks.{i}.{a,b,c}.{conv.weight,norm.*}   .shortcut.{conv.weight,norm.*}
    res{2..5}.blocks.{i}.se.{reduce,expand}.{weight,bias}                (blocks 0, 2, 4, ...)
    conv5.{conv.weight,norm.*}
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from avadet.models.backbones.resnet3d import ResStage, spatial_layout
from avadet.models.layers import (
    ConvNorm,
    ConvSpec,
    NormMaker,
    batch_norm,
    init_convolutions,
    plain_conv,
)

# Blocks of res2..res5 before the expansion of depth.
_BASE_DEPTHS = (1, 2, 5, 3)


def round_width(width: float, divisor: int = 8) -> int:
    """``width`` to a multiple of ``divisor``, never more than a tenth below it, at least one."""
    rounded = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * width else rounded


class SqueezeExcitation(nn.Module):
    """Each channel weighed by what the whole clip's mean says.

    Shape: (B,C,T,H,W) -> the same.
    """

    def __init__(self, channels: int, ratio: float = 0.0625) -> None:
        super().__init__()
        inner = round_width(channels * ratio)
        self.reduce = nn.Conv3d(channels, inner, 1)
        self.expand = nn.Conv3d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean((2, 3, 4), keepdim=True)  # (B,C,1,1,1)
        return x * self.expand(F.relu(self.reduce(pooled))).sigmoid()


class X3DStem(nn.Module):
    """1x3x3 with spatial stride 2, then a depthwise temporal convolution, norm, ReLU."""

    def __init__(self, width: int, kernel_t: int, norm: NormMaker) -> None:
        super().__init__()
        self.spatial = plain_conv(ConvSpec(3, width, (1, 3, 3), (1, 2, 2)))
        self.temporal = plain_conv(ConvSpec(width, width, (kernel_t, 1, 1)), groups=width)
        self.norm = norm(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.temporal(self.spatial(x))), inplace=True)


class X3DBlock(nn.Module):
    """1x1x1, depthwise 3x3x3 with the stride, perhaps squeeze-excitation, swish, 1x1x1."""

    def __init__(
        self,
        in_channels: int,
        inner: int,
        out_channels: int,
        stride: int,
        dilation: int,
        excite: bool,
        first: bool,
        shortcut_norm: bool,
        norm: NormMaker,
    ) -> None:
        super().__init__()
        steps = (1, stride, stride)
        depthwise = plain_conv(ConvSpec(inner, inner, (3, 3, 3), steps, dilation), groups=inner)
        self.a = ConvNorm(plain_conv(ConvSpec(in_channels, inner, (1, 1, 1))), norm(inner))
        self.b = ConvNorm(depthwise, norm(inner))
        self.se = SqueezeExcitation(inner) if excite else nn.Identity()
        self.c = ConvNorm(plain_conv(ConvSpec(inner, out_channels, (1, 1, 1))), norm(out_channels))
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or in_channels != out_channels or first:
            spec = ConvSpec(in_channels, out_channels, (1, 1, 1), steps)
            bare = in_channels == out_channels and not shortcut_norm
            self.shortcut = ConvNorm(plain_conv(spec), None if bare else norm(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        y = self.a.rectified(x)
        y = F.silu(self.se(self.b(y)))
        return F.relu(self.c(y) + self.shortcut(x), inplace=True)


class X3D(nn.Module):
    """The network.

    Args:
        depth_factor: 2.2 in XS, S and M, 5 in L: multiplies 1, 2, 5, 3 blocks.
        width: channels of stem and res2; each stage doubles them.
        bottleneck: inner channels of a block per outer one.
        conv5: False ends with res5.
        shortcut_norm: False leaves the norm out of shortcuts that keep the number of channels
            (PyTorchVideo's res2).
        output_stride, dilate: see ``resnet3d.spatial_layout``; stem and res2 have 2 each.
        norm_eps, norm_momentum, zero_init: as in ``ResNet3D``.

    Attributes:
        out_channels, strides: of the one map.

    Shape: (B,3,T,H,W), or a tuple of one clip, to ((B,C,T,H/stride,W/stride),).
    """

    block_types = (X3DBlock,)

    def __init__(
        self,
        *,
        depth_factor: float = 2.2,
        width: int = 24,
        bottleneck: float = 2.25,
        stem_kernel_t: int = 5,
        conv5: bool = True,
        shortcut_norm: bool = True,
        output_stride: int = 32,
        dilate: bool = True,
        norm_eps: float = 1e-5,
        norm_momentum: float = 0.1,
        zero_init: bool = True,
    ) -> None:
        super().__init__()
        norm = batch_norm(norm_eps, norm_momentum)
        strides, dilations = spatial_layout(output_stride, dilate, 2, 2)
        self.stem = X3DStem(width, stem_kernel_t, norm)
        channels = width
        for s, base in enumerate(_BASE_DEPTHS):
            out = width * 2**s
            inner = int(bottleneck * out)
            blocks = [
                X3DBlock(
                    channels if i == 0 else out,
                    inner,
                    out,
                    strides[s] if i == 0 else 1,
                    dilations[s],
                    excite=i % 2 == 0,
                    first=i == 0,
                    shortcut_norm=shortcut_norm,
                    norm=norm,
                )
                for i in range(math.ceil(base * depth_factor))
            ]
            setattr(self, f"res{s + 2}", ResStage(blocks, {}))
            channels = out
        self.conv5: ConvNorm | None = None
        if conv5:
            last = int(bottleneck * channels)
            self.conv5 = ConvNorm(plain_conv(ConvSpec(channels, last, (1, 1, 1))), norm(last))
            channels = last
        self.out_channels = (channels,)
        self.strides = (output_stride,)
        init_convolutions(self)
        if zero_init:
            for module in self.modules():
                if isinstance(module, X3DBlock):
                    nn.init.zeros_(module.c.norm.weight)

    def forward(self, video: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
        x = video if isinstance(video, Tensor) else video[0]
        x = self.res5(self.res4(self.res3(self.res2(self.stem(x)))))
        if self.conv5 is not None:
            x = self.conv5.rectified(x)
        return (x,)
