"""Residual networks over video: C2D, I3D, Slow-only and Fast-only in one class.

The members differ by temporal kernels, by strides and by the conv maker of their 3x3 layer
(depthwise for CSN in ``csn.py``; factorised ones can follow). Sources: Non-local Networks (CVPR
2018) table 1 for C2D and I3D, SlowFast (ICCV 2019) table 1 for Slow and Fast.

Parameter names, regular over all members::

    stem.conv.weight                    stem.norm.*
    res{2..5}.blocks.{i}.a.conv.weight  res{2..5}.blocks.{i}.a.norm.*       (a: kt x 1 x 1)
    res{2..5}.blocks.{i}.b.conv.*       res{2..5}.blocks.{i}.b.norm.*       (b: 1 x 3 x 3)
    res{2..5}.blocks.{i}.c.conv.weight  res{2..5}.blocks.{i}.c.norm.*       (c: 1 x 1 x 1)
    res{2..5}.blocks.{i}.shortcut.{conv.weight,norm.*}                      (first blocks only)
    res{2..5}.non_local.{i}.{theta,phi,g,out}.{weight,bias}, .norm.*        (after block i)

In networks of basic blocks (18 and 34 layers) ``a`` and ``b`` are both kt x 3 x 3 and there is no
``c``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avadet.errors import UserError
from avadet.models.backbones.non_local import NonLocal, NonLocalSpec
from avadet.models.layers import (
    ConvMaker,
    ConvNorm,
    ConvSpec,
    NormMaker,
    Triple,
    batch_norm,
    init_convolutions,
    plain_conv,
    take_frames,
)

DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
STAGES = ("res2", "res3", "res4", "res5")
EXPANSION = 4
_MOST_BLOCKS = 200

# Temporal kernels of a stage's blocks, repeated over the blocks.
C2D_KERNELS = ((1,), (1,), (1,), (1,))
I3D_KERNELS = ((3,), (3, 1), (3, 1), (1, 3))
SLOW_KERNELS = ((1,), (1,), (3,), (3,))
FULL_KERNELS = ((3,), (3,), (3,), (3,))


def stage_depths(depth: int, depths: Sequence[int] | None) -> tuple[int, ...]:
    """Blocks per stage: ``depths`` where given, else those of a ResNet of ``depth`` layers.

    Raises:
        UserError: ``depth`` is not 50, 101 or 152, or ``depths`` are not four.
    """
    if depths is not None:
        if len(depths) != 4 or not all(1 <= count <= _MOST_BLOCKS for count in depths):
            raise UserError(f"depths: {list(depths)} must be four counts from 1 to {_MOST_BLOCKS}")
        return tuple(depths)
    if depth not in DEPTHS:
        raise UserError(f"depth: {depth} is not one of {sorted(DEPTHS)}; or give depths")
    return DEPTHS[depth]


def spatial_layout(
    output_stride: int, dilate: bool, stem_stride: int = 4, res2_stride: int = 1
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Strides and dilations of res2..res5.

    Args:
        output_stride: pixels per cell of the last map: 32 (classification), 16 (AVA) or 8, and
            not above what stem and stages give in all.
        dilate: whether the stages that lose their stride dilate instead (PySlowFast and
            PyTorchVideo do, MMAction2 does not).
        stem_stride, res2_stride: of the stem and of res2; the other stages have 2.

    Raises:
        UserError: any other ``output_stride``.
    """
    total = stem_stride * res2_stride * 8
    allowed = [stride for stride in (8, 16, 32) if stride <= total]
    if output_stride not in allowed:
        names = ", ".join(map(str, allowed))
        raise UserError(f"output_stride: {output_stride} is not one of {names}")
    strides, dilations, rate = [res2_stride, 2, 2, 2], [1, 1, 1, 1], 1
    lost = (total // output_stride).bit_length() - 1
    for stage in range(4 - lost, 4):
        strides[stage] = 1
        rate *= 2
        dilations[stage] = rate
    return tuple(strides), tuple(dilations) if dilate else (1, 1, 1, 1)


def projection(
    in_channels: int, out_channels: int, stride: Triple, norm: NormMaker, maker: ConvMaker
) -> nn.Module:
    """The shortcut of a block: identity, or 1x1x1 with norm where size or channels change."""
    if in_channels == out_channels and stride == (1, 1, 1):
        return nn.Identity()
    spec = ConvSpec(in_channels, out_channels, (1, 1, 1), stride, norm=norm)
    return ConvNorm(maker(spec), norm(out_channels))


class Bottleneck(nn.Module):
    """kt x 1 x 1, then 3 x 3 with the strides, then 1 x 1 x 1, around a shortcut.

    ``temporal_at`` says which layer has the temporal kernel: "a" (SlowFast family) or "b" (CSN,
    R3D family).
    """

    def __init__(
        self,
        in_channels: int,
        inner: int,
        out_channels: int,
        temporal_kernel: int,
        stride: Triple,
        dilation: int,
        temporal_at: str,
        conv_maker: ConvMaker,
        norm: NormMaker,
        stage: int,
        block: int,
        shortcut_maker: ConvMaker = plain_conv,
    ) -> None:
        super().__init__()
        at_a, at_b = (temporal_kernel, 1) if temporal_at == "a" else (1, temporal_kernel)
        middle = ConvSpec(inner, inner, (at_b, 3, 3), stride, dilation, norm, stage, block)
        self.a = ConvNorm(plain_conv(ConvSpec(in_channels, inner, (at_a, 1, 1))), norm(inner))
        self.b = ConvNorm(conv_maker(middle), norm(inner))
        self.c = ConvNorm(plain_conv(ConvSpec(inner, out_channels, (1, 1, 1))), norm(out_channels))
        self.shortcut = projection(in_channels, out_channels, stride, norm, shortcut_maker)

    def forward(self, x: Tensor) -> Tensor:
        y = self.c(self.b.rectified(self.a.rectified(x)))
        return F.relu(y + self.shortcut(x), inplace=True)


class BasicBlock(nn.Module):
    """Two kt x 3 x 3 layers, the first with the strides, around a shortcut (18 and 34 layers).

    Arguments as of ``Bottleneck``; both layers have the temporal kernel.
    """

    def __init__(
        self,
        in_channels: int,
        inner: int,
        out_channels: int,
        temporal_kernel: int,
        stride: Triple,
        dilation: int,
        temporal_at: str,
        conv_maker: ConvMaker,
        norm: NormMaker,
        stage: int,
        block: int,
        shortcut_maker: ConvMaker = plain_conv,
    ) -> None:
        super().__init__()
        kernel = (temporal_kernel, 3, 3)
        first = ConvSpec(in_channels, inner, kernel, stride, dilation, norm, stage, block)
        second = ConvSpec(inner, out_channels, kernel, (1, 1, 1), dilation, norm, stage, block)
        self.a = ConvNorm(conv_maker(first), norm(inner))
        self.b = ConvNorm(conv_maker(second), norm(out_channels))
        self.shortcut = projection(in_channels, out_channels, stride, norm, shortcut_maker)

    def forward(self, x: Tensor) -> Tensor:
        y = self.b(self.a.rectified(x))
        return F.relu(y + self.shortcut(x), inplace=True)


BLOCKS = {"bottleneck": Bottleneck, "basic": BasicBlock}


class ResStage(nn.Module):
    """Blocks in a row, some of them followed by a non-local block."""

    def __init__(self, blocks: Sequence[nn.Module], non_local: Mapping[int, nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.non_local = nn.ModuleDict({str(i): non_local[i] for i in sorted(non_local)})

    def forward(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self.blocks):
            x = block(x)
            if str(i) in self.non_local:
                x = self.non_local[str(i)](x)
        return x


class Stem(ConvNorm):
    """Convolution, norm, ReLU, max pool 1x3x3: spatial stride 4 in all, half of it in the pool.

    Without ``pool`` the convolution strides by 4; with a ``stride`` of 2 there is no pool.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        kernel: Triple,
        norm: NormMaker,
        strides_t: Sequence[int],
        pool: bool,
        stride: int = 4,
        maker: ConvMaker = plain_conv,
        pool_padding: int = 1,
    ) -> None:
        conv_t, pool_t = strides_t
        pool = pool and stride == 4
        steps = (conv_t, 2, 2) if pool else (conv_t * pool_t, stride, stride)
        conv = maker(ConvSpec(in_channels, width, kernel, steps, norm=norm))
        super().__init__(conv, norm(width))
        self.pool: nn.Module = nn.Identity()
        if pool:
            border = (0, pool_padding, pool_padding)
            self.pool = nn.MaxPool3d((1, 3, 3), stride=(pool_t, 2, 2), padding=border)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            # bfloat16 weight gradients of convolutions over 3 channels come out wrong, or NaN,
            # on some CPUs; the stem is cheap there.
            with torch.autocast("cpu", enabled=False):
                x = self.rectified(x.float())
        else:
            x = self.rectified(x)
        return self.pool(x)


class ResNet3D(nn.Module):
    """One pathway: a stem and four residual stages.

    Args:
        depths: blocks of res2..res5.
        width: channels of the stem and inner channels of res2; each stage doubles them.
        expansion: a block puts out so many times its inner channels.
        stem_kernel: (t,h,w) of the first convolution.
        stem_strides_t: temporal strides of the stem's convolution and pool.
        in_channels: of the clip.
        stem_stride: 4, or 2 for a stem without pool (networks for small pictures).
        stem_maker: makes the stem's convolution.
        stem_pool: False strides by 4 in the convolution and does without the pool. On a CPU a
            third of a tiny network's time goes into the maps before the pool.
        stem_pool_padding: spatial, of that pool; MMAction2's C2D has none.
        temporal_kernels: per stage, the kernels of its blocks, repeated over them.
        temporal_blocks: per stage, how many first blocks may have temporal kernels; the rest get 1.
        temporal_at: the layer that has it, "a" or "b".
        temporal_strides: of res2..res5.
        res2_stride: spatial; 2 where the stem has only half of the usual 4.
        res2_pool_t: temporal max pool after res2, 2 in C2D and I3D.
        output_stride, dilate: see ``spatial_layout``.
        block: "bottleneck" or "basic" (with ``expansion`` 1).
        conv_maker: makes the 3x3 layers of each block.
        shortcut_maker: makes the convolutions of the shortcuts.
        non_local: see ``NonLocalSpec``.
        lateral_channels: what another pathway adds to the input of res2..res5.
        alpha, frame_sampling: frames of the clip that are looked at, see ``slow_frames``.
        norm_eps, norm_momentum: of every batch norm.
        zero_init: each block starts as the identity (last norm's weight 0).

    Attributes:
        out_channels, strides: of the maps, one each; the protocol of all backbones.

    Shape: (B,3,T,H,W), or a tuple holding one clip whose frames are already chosen, to
    ((B,C,T',H/stride,W/stride),).
    """

    block_types = (Bottleneck, BasicBlock, NonLocal)

    def __init__(
        self,
        *,
        depths: Sequence[int] = DEPTHS[50],
        width: int = 64,
        expansion: int = EXPANSION,
        stem_kernel: Sequence[int] = (1, 7, 7),
        stem_strides_t: Sequence[int] = (1, 1),
        in_channels: int = 3,
        stem_stride: int = 4,
        stem_maker: ConvMaker = plain_conv,
        stem_pool: bool = True,
        stem_pool_padding: int = 1,
        temporal_kernels: Sequence[Sequence[int]] = SLOW_KERNELS,
        temporal_blocks: Sequence[int | None] = (None, None, None, None),
        temporal_at: str = "a",
        temporal_strides: Sequence[int] = (1, 1, 1, 1),
        res2_stride: int = 1,
        res2_pool_t: int = 1,
        output_stride: int = 32,
        dilate: bool = True,
        block: str = "bottleneck",
        conv_maker: ConvMaker = plain_conv,
        shortcut_maker: ConvMaker = plain_conv,
        non_local: NonLocalSpec | Mapping[str, Any] | None = None,
        lateral_channels: Sequence[int] = (0, 0, 0, 0),
        alpha: int = 1,
        frame_sampling: str = "linspace",
        norm_eps: float = 1e-5,
        norm_momentum: float = 0.1,
        zero_init: bool = True,
    ) -> None:
        super().__init__()
        norm = batch_norm(norm_eps, norm_momentum)
        spec = NonLocalSpec.of(non_local)
        for name, places in spec.places.items():
            if name not in STAGES or not all(0 <= i < depths[STAGES.index(name)] for i in places):
                raise UserError(f"non_local.places: there is no {name} with blocks {list(places)}")
        strides, dilations = spatial_layout(output_stride, dilate, stem_stride, res2_stride)
        t, h, w = stem_kernel
        self.stem = Stem(
            in_channels,
            width,
            (t, h, w),
            norm,
            stem_strides_t,
            stem_pool,
            stem_stride,
            stem_maker,
            stem_pool_padding,
        )
        channels = width
        for s, name in enumerate(STAGES):
            inner = width * 2**s
            out = inner * expansion
            limit = depths[s] if temporal_blocks[s] is None else temporal_blocks[s]
            blocks = [
                BLOCKS[block](
                    channels + lateral_channels[s] if i == 0 else out,
                    inner,
                    out,
                    temporal_kernels[s][i % len(temporal_kernels[s])] if i < limit else 1,
                    (temporal_strides[s], strides[s], strides[s]) if i == 0 else (1, 1, 1),
                    dilations[s],
                    temporal_at,
                    conv_maker,
                    norm,
                    s + 2,
                    i,
                    shortcut_maker,
                )
                for i in range(depths[s])
            ]
            attention = {i: NonLocal(out, out // 2, spec, norm) for i in spec.places.get(name, ())}
            setattr(self, name, ResStage(blocks, attention))
            channels = out
        pool = (res2_pool_t, 1, 1)
        self.res2_pool = nn.MaxPool3d(pool, stride=pool) if res2_pool_t > 1 else nn.Identity()
        self.alpha = alpha
        self.frame_sampling = frame_sampling
        self.out_channels = (channels,)
        self.strides = (output_stride,)
        init_convolutions(self)
        if zero_init:
            zero_last_norms(self)

    def forward(self, video: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
        if isinstance(video, Tensor):
            x = take_frames(video, self.alpha, self.frame_sampling)
        else:
            (x,) = video
        x = self.res2_pool(self.res2(self.stem(x)))
        return (self.res5(self.res4(self.res3(x))),)


def zero_last_norms(network: nn.Module) -> None:
    """Sets the weight of each residual branch's last norm to 0 (Goyal et al., 2017, 5.1)."""
    for module in network.modules():
        if isinstance(module, Bottleneck):
            nn.init.zeros_(module.c.norm.weight)
        elif isinstance(module, BasicBlock):
            nn.init.zeros_(module.b.norm.weight)
        elif isinstance(module, NonLocal):
            nn.init.zeros_(module.norm.weight)
