"""Inception-v1 over video: I3D (CVPR 2017), S3D and S3D-G (ECCV 2018).

I3D has 3x3x3 filters throughout, S3D splits each into 1x3x3 and 3x1x1, S3D-G weighs every channel
after the temporal part by what the whole clip says. As in the published networks the 5x5 branch of
the image network is 3x3x3.

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
from avadet.models.layers import ConvNorm, ConvSpec, NormMaker, batch_norm, init_convolutions
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


class Layer(ConvNorm):
    """Convolution, norm, ReLU."""

    def __init__(self, spec: ConvSpec) -> None:
        super().__init__(plain(spec), spec.norm(spec.out_channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(super().forward(x), inplace=True)


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
        ceil_pools: max pools round up, without padding, as the image network and the reference of
            I3D do; otherwise they pad on both sides (torchvision's S3D).
        output_stride, dilate: 32, 16 or 8: the last pools keep their temporal stride alone, and the
            3x3 layers after them dilate.
        norm_eps, norm_momentum: of every batch norm.
        zero_init: taken for configs' sake; there is no residual branch.

    Attributes:
        out_channels, strides: of the one map.

    Shape: (B,3,T,H,W), or a tuple of one clip, to ((B,C,T/8,H/stride,W/stride),).
    """

    def __init__(
        self,
        *,
        kind: str = "full",
        gated: bool = False,
        width: float = 1.0,
        ceil_pools: bool = True,
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
        if output_stride not in (8, 16, 32):
            raise UserError(f"output_stride: {output_stride} is not one of 8, 16, 32")
        norm = batch_norm(norm_eps, norm_momentum)

        def wide(channels: int) -> int:
            return max(4, round(channels * width))

        def layer(channels: int, out: int, kernel: int, stride: int) -> nn.Module:
            spec = ConvSpec(channels, out, (kernel,) * 3, (stride,) * 3, norm=norm)
            return SplitLayer(spec, gated) if kind == "separable" else Layer(spec)

        self.conv1 = layer(3, wide(64), 7, 2)
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
        self.ceil_pools = ceil_pools
        self.out_channels = (channels,)
        self.strides = (output_stride,)
        init_convolutions(self)

    def _pool(self, x: Tensor, kernel: tuple[int, int, int], stride: int) -> Tensor:
        steps = (1 if kernel[0] == 1 else 2, stride, stride)
        if self.ceil_pools or 2 in kernel:
            return F.max_pool3d(x, kernel, steps, ceil_mode=self.ceil_pools)
        return F.max_pool3d(x, kernel, steps, tuple(side // 2 for side in kernel))

    def forward(self, video: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
        x = video if isinstance(video, Tensor) else video[0]
        x = self._pool(self.conv1(x), (1, 3, 3), 2)
        x = self._pool(self.conv3(self.conv2(x)), (1, 3, 3), 2)
        for name, block in self.mixed.items():
            if name == "4b":
                x = (
                    F.max_pool3d(x, (3, 3, 3), (2, 1, 1), 1)
                    if self.strides[0] == 8
                    else (self._pool(x, (3, 3, 3), 2))
                )
            elif name == "5b":
                side = 2 if self.strides[0] == 32 else 1
                x = F.max_pool3d(x, (2, side, side), ceil_mode=self.ceil_pools)
            x = block(x)
        return (x,)


def inflate_inception(
    backbone: Inception3D, image_state: dict[str, Tensor], mode: str = "mean"
) -> None:
    """Fills an I3D from torchvision's GoogLeNet, in place (see ``inflate.inflate_filter``).

    Raises:
        UserError: not the full network of published width, or another image network.
    """
    from avadet.models.inflate import inflate_filter

    names = {f"conv{i}": f"conv{i}" for i in (1, 2, 3)}
    for theirs, ours in zip(
        ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"), MIXED, strict=True
    ):
        names[f"inception{theirs}.branch1"] = f"mixed.{ours}.branch1"
        names[f"inception{theirs}.branch4.1"] = f"mixed.{ours}.branch4"
        for branch in (2, 3):
            for i in (0, 1):
                names[f"inception{theirs}.branch{branch}.{i}"] = f"mixed.{ours}.branch{branch}.{i}"
    target = backbone.state_dict()
    filled = {}
    for theirs, ours in names.items():
        parts = {"conv.weight": "conv.weight"} | {
            f"bn.{end}": f"norm.{end}" for end in ("weight", "bias", "running_mean", "running_var")
        }
        for end, own in parts.items():
            key, slot = f"{theirs}.{end}", target.get(f"{ours}.{own}")
            if key not in image_state or slot is None:
                raise UserError(f"'{key}' is missing: I3D is inflated from torchvision's GoogLeNet")
            value = image_state[key]
            if value.ndim == 4:
                value = inflate_filter(value, slot.shape[2], mode)
            if value.shape != slot.shape:
                raise UserError(f"{key}: {tuple(value.shape)} does not fit {tuple(slot.shape)}")
            filled[f"{ours}.{own}"] = value
    with torch.no_grad():
        for name, value in filled.items():
            target[name].copy_(value)
