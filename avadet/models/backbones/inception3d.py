"""Inception-v1 over video: I3D (CVPR 2017), S3D and S3D-G (ECCV 2018).

I3D has 3x3x3 filters throughout, S3D splits each into 1x3x3 and 3x1x1, S3D-G weighs every channel
after the temporal part by what the whole clip says. As in the published networks the 5x5 branch of
the image network is 3x3x3. For AVA the pool in front of 5b keeps the frame's grid (and the 3x3
filters after it dilate), so that the last map has stride 16.

Parameter names::

    conv1.* conv2.* conv3.*                      mixed.{3b,3c,4b..4f,5b,5c}.branch{1,2,3,4}.*
    .conv.weight .norm.*                         of a layer; branches 2 and 3 have layers 0 and 1
    .spatial.{conv,norm}.* .temporal.{conv,norm}.* .gate.{weight,bias}    of a split layer
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avadet.errors import UserError
from avadet.models.layers import (
    ConvMaker,
    ConvNorm,
    ConvSpec,
    NormMaker,
    Triple,
    batch_norm,
    init_convolutions,
)
from avadet.models.layers import plain_conv as plain

# 1x1; 1x1 and 3x3; 1x1 and 3x3; 1x1 after the pool.
MIXED = {
    "3b": (64, 96, 128, 16, 32, 32),
    "3c": (128, 128, 192, 32, 96, 64),
    "4b": (192, 96, 208, 16, 48, 64),
    "4c": (160, 112, 224, 24, 64, 64),
    "4d": (128, 128, 256, 24, 64, 64),
    "4e": (112, 144, 288, 32, 64, 64),
    "4f": (256, 160, 320, 32, 128, 128),
    "5b": (256, 160, 320, 32, 128, 128),
    "5c": (384, 192, 384, 48, 128, 128),
}
KINDS = ("full", "separable")
PADDINGS = ("ceil", "symmetric", "tensorflow")


def pad_as_tensorflow(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Zeros around frames, rows and columns so that ceil(size / stride) windows fit ("SAME").

    The odd one goes behind: 7 over 224 with stride 2 has 2 zeros in front and 3 behind.

    Shape: (B,C,T,H,W) -> the padded clip.
    """
    sides: list[int] = []
    for size, k, step in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride)):
        total = max((-(-size // step) - 1) * step + k - size, 0)
        sides += [total // 2, total - total // 2]
    return F.pad(x, sides)


class TensorFlowConv3d(nn.Conv3d):
    """A convolution that pads by ``pad_as_tensorflow``."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(pad_as_tensorflow(x, self.kernel_size, self.stride))


def tensorflow_conv(spec: ConvSpec) -> nn.Conv3d:
    """A conv maker: one convolution without bias, padded as TensorFlow does."""
    channels = (spec.in_channels, spec.out_channels)
    return TensorFlowConv3d(*channels, spec.kernel, stride=spec.stride, bias=False)


class Layer(ConvNorm):
    """Convolution, norm, ReLU."""

    def __init__(self, spec: ConvSpec, maker: ConvMaker = plain) -> None:
        super().__init__(maker(spec), spec.norm(spec.out_channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.rectified(x)


class SplitLayer(nn.Module):
    """A spatial layer, a temporal layer, and the gate of S3D-G.

    Shape: (B,C,T,H,W) -> (B,C',T',H',W').
    """

    def __init__(self, spec: ConvSpec, gated: bool) -> None:
        super().__init__()
        (t, h, w), (step_t, step_h, step_w) = spec.kernel, spec.stride
        out = spec.out_channels
        self.spatial = Layer(
            ConvSpec(
                spec.in_channels, out, (1, h, w), (1, step_h, step_w), spec.dilation, spec.norm
            )
        )
        self.temporal = Layer(ConvSpec(out, out, (t, 1, 1), (step_t, 1, 1), norm=spec.norm))
        self.gate = nn.Linear(out, out) if gated else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.temporal(self.spatial(x))
        if self.gate is None:
            return x
        weight = self.gate(x.mean((2, 3, 4))).sigmoid()  # (B,C)
        return x * weight[:, :, None, None, None]


class Mixed(nn.Module):
    """Four branches side by side.

    Shape: (B,C,T,H,W) -> (B,C',T,H,W).
    """

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int],
        kind: str,
        gated: bool,
        dilation: int,
        norm: NormMaker,
    ) -> None:
        super().__init__()
        first, reduce2, out2, reduce3, out3, last = widths

        def one(channels: int, out: int) -> nn.Module:
            return Layer(ConvSpec(channels, out, (1, 1, 1), norm=norm))

        def three(channels: int, out: int) -> nn.Module:
            spec = ConvSpec(channels, out, (3, 3, 3), dilation=dilation, norm=norm)
            return SplitLayer(spec, gated) if kind == "separable" else Layer(spec)

        self.branch1 = one(in_channels, first)
        self.branch2 = nn.Sequential(one(in_channels, reduce2), three(reduce2, out2))
        self.branch3 = nn.Sequential(one(in_channels, reduce3), three(reduce3, out3))
        self.branch4 = one(in_channels, last)

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.max_pool3d(x, 3, stride=1, padding=1)
        return torch.cat(
            [self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(pooled)], 1
        )


class Inception3D(nn.Module):
    """The network.

    Args:
        kind: "full" (I3D) or "separable" (S3D).
        gated: S3D-G; needs "separable".
        width: share of the published channels.
        in_channels: 3, or 2 for optical flow.
        padding: "ceil": max pools round up, without padding, as the image network does;
            "symmetric": they pad on both sides (torchvision's S3D); "tensorflow": they and the
            first convolution pad as TensorFlow does (the published I3D weights).
        output_stride, dilate: 32, 16 or 8: the last pools keep their temporal stride alone, and the
            3x3 layers after them dilate.
        norm_eps, norm_momentum: of every batch norm.
        zero_init: taken for configs' sake; there is no residual branch.

    Attributes:
        out_channels, strides: of the one map.

    Shape: (B,3,T,H,W), or a tuple of one clip, to ((B,C,T/8,H/stride,W/stride),).
    """

    block_types = (Mixed,)

    def __init__(
        self,
        *,
        kind: str = "full",
        gated: bool = False,
        width: float = 1.0,
        in_channels: int = 3,
        padding: str = "ceil",
        output_stride: int = 32,
        dilate: bool = True,
        norm_eps: float = 1e-3,
        norm_momentum: float = 0.1,
        zero_init: bool = False,
    ) -> None:
        super().__init__()
        del zero_init
        if kind not in KINDS:
            raise UserError(f"kind: '{kind}' is not one of {', '.join(KINDS)}")
        if gated and kind != "separable":
            raise UserError("gated: only the separable network has gates")
        if padding not in PADDINGS:
            raise UserError(f"padding: '{padding}' is not one of {', '.join(PADDINGS)}")
        if output_stride not in (8, 16, 32):
            raise UserError(f"output_stride: {output_stride} is not one of 8, 16, 32")
        norm = batch_norm(norm_eps, norm_momentum)

        def wide(channels: int) -> int:
            return max(4, round(channels * width))

        def layer(channels: int, out: int, kernel: int, stride: int) -> nn.Module:
            spec = ConvSpec(channels, out, (kernel,) * 3, (stride,) * 3, norm=norm)
            if kind == "separable":
                return SplitLayer(spec, gated)
            # At stride 1 all paddings are one.
            shifted = padding == "tensorflow" and stride > 1
            return Layer(spec, tensorflow_conv if shifted else plain)

        self.conv1 = layer(in_channels, wide(64), 7, 2)
        self.conv2 = Layer(ConvSpec(wide(64), wide(64), (1, 1, 1), norm=norm))
        self.conv3 = layer(wide(64), wide(192), 3, 1)
        channels = wide(192)
        self.mixed = nn.ModuleDict()
        for name, published in MIXED.items():
            rate = 1
            if dilate and name[0] == "4":
                rate = 2 if output_stride == 8 else 1
            elif dilate and name[0] == "5":
                rate = 32 // output_stride
            widths = [wide(each) for each in published]
            self.mixed[name] = Mixed(channels, widths, kind, gated, rate, norm)
            channels = widths[0] + widths[2] + widths[4] + widths[5]
        self.padding = padding
        self.out_channels = (channels,)
        self.strides = (output_stride,)
        init_convolutions(self)

    def _pool(self, x: Tensor, kernel: Triple, steps: Triple) -> Tensor:
        if self.padding == "tensorflow":
            # After a ReLU zeros are as good as nothing.
            return F.max_pool3d(pad_as_tensorflow(x, kernel, steps), kernel, steps)
        ceil = self.padding == "ceil"
        sides = zip(kernel, steps)
        pads = [0 if k < 3 or (ceil and step > 1) else k // 2 for k, step in sides]
        return F.max_pool3d(x, kernel, steps, pads, ceil_mode=ceil)

    def forward(self, video: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
        x = video if isinstance(video, Tensor) else video[0]
        x = self._pool(self.conv1(x), (1, 3, 3), (1, 2, 2))
        x = self._pool(self.conv3(self.conv2(x)), (1, 3, 3), (1, 2, 2))
        for name, block in self.mixed.items():
            if name == "4b":
                step = 1 if self.strides[0] == 8 else 2
                x = self._pool(x, (3, 3, 3), (2, step, step))
            elif name == "5b":
                step = 2 if self.strides[0] == 32 else 1
                x = self._pool(x, (2, step, step), (2, step, step))
            x = block(x)
        return (x,)
