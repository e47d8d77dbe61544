"""The 2D ResNets and the feature pyramid under the person detector.

Names of stages follow the literature: ``res2`` to ``res5`` at strides 4, 8, 16, 32 (Deep Residual
Learning, table 1; Feature Pyramid Networks, section 3). Shapes: B images, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation with fixed statistics and a fixed affine map: all four are buffers.

    Weights that come from Caffe2 have their statistics already in the affine map and mean 0,
    variance 1; later ones keep all four. Both read alike here.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def affine(self) -> tuple[Tensor, Tensor]:
        """(scale, shift), both (C,): the layer is ``x * scale + shift``."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale

    def forward(self, x: Tensor) -> Tensor:
        scale, shift = (v.to(x.dtype).view(1, -1, 1, 1) for v in self.affine())
        return x * scale + shift


def _norm(name: str, channels: int) -> nn.Module:
    if name == "frozen":
        return FrozenBatchNorm2d(channels)
    if name == "batch":
        return nn.BatchNorm2d(channels)
    raise ValueError(f"norm must be 'frozen' or 'batch', not '{name}'")


class ConvNorm(nn.Module):
    """A convolution without bias and its normalisation.

    ``fold`` merges a normalisation with fixed statistics into the convolution, which spares one
    pass over the map at inference.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        dilation: int = 1,
        norm: str = "frozen",
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel,
            stride=stride,
            padding=dilation * (kernel // 2),
            dilation=dilation,
            groups=groups,
            bias=False,
        )
        self.norm = _norm(norm, out_channels)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))

    def fold(self) -> None:
        """Merges the normalisation into the convolution, in place. Only for inference."""
        if isinstance(self.norm, nn.Identity):
            return
        if isinstance(self.norm, nn.BatchNorm2d):
            scale = self.norm.weight * (self.norm.running_var + self.norm.eps).rsqrt()
            shift = self.norm.bias - self.norm.running_mean * scale
        else:
            scale, shift = self.norm.affine()
        with torch.no_grad():
            self.conv.weight.mul_(scale.view(-1, 1, 1, 1))
            self.conv.bias = nn.Parameter(shift.detach().clone(), requires_grad=False)
        self.norm = nn.Identity()


class BasicBlock(nn.Module):
    """Two 3x3 convolutions (ResNet-18 and -34)."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, norm: str) -> None:
        super().__init__()
        self.conv1 = ConvNorm(in_channels, out_channels, 3, stride=stride, norm=norm)
        self.conv2 = ConvNorm(out_channels, out_channels, 3, norm=norm)
        self.shortcut: ConvNorm | None = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = ConvNorm(in_channels, out_channels, 1, stride=stride, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.conv1(x), inplace=True))
        # In place: at 800 pixels a sum of its own costs as much as a convolution.
        y += x if self.shortcut is None else self.shortcut(x)
        return F.relu(y, inplace=True)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions (ResNet-50 and deeper, ResNeXt with ``groups``).

    ``stride_in_1x1`` puts the stride of a stage's first block into the first 1x1 convolution, as
    the original weights have it, instead of the 3x3 one, as ResNeXt and torchvision have it.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        inner_channels: int,
        stride: int,
        groups: int,
        stride_in_1x1: bool,
        dilation: int,
        norm: str,
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = ConvNorm(in_channels, inner_channels, 1, stride=first, norm=norm)
        self.conv2 = ConvNorm(
            inner_channels,
            inner_channels,
            3,
            stride=second,
            groups=groups,
            dilation=dilation,
            norm=norm,
        )
        self.conv3 = ConvNorm(inner_channels, out_channels, 1, norm=norm)
        self.shortcut: ConvNorm | None = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = ConvNorm(in_channels, out_channels, 1, stride=stride, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.conv1(x), inplace=True)
        y = F.relu(self.conv2(y), inplace=True)
        y = self.conv3(y)
        # In place: at 800 pixels a sum of its own costs as much as a convolution.
        y += x if self.shortcut is None else self.shortcut(x)
        return F.relu(y, inplace=True)


def bottleneck_stage(
    stage: int,
    depth: int,
    *,
    groups: int = 1,
    width_per_group: int = 64,
    stride_in_1x1: bool = True,
    dilation: int = 1,
    norm: str = "frozen",
) -> nn.Sequential:
    """Stage ``res<stage>`` (2 to 5) of a ResNet-50, -101 or ResNeXt; 256 channels after res2."""
    index = stage - 2
    out_channels = 256 * 2**index
    in_channels = 64 if index == 0 else out_channels // 2
    inner_channels = groups * width_per_group * 2**index
    blocks = []
    for number in range(BLOCKS[depth][index]):
        strided = number == 0 and index > 0 and dilation == 1
        blocks.append(
            Bottleneck(
                in_channels if number == 0 else out_channels,
                out_channels,
                inner_channels=inner_channels,
                stride=2 if strided else 1,
                groups=groups,
                stride_in_1x1=stride_in_1x1,
                dilation=dilation,
                norm=norm,
            )
        )
    return nn.Sequential(*blocks)


class ResNet2d(nn.Module):
    """A ResNet that returns the maps of the stages asked for.

    Args:
        depth: 18, 34 (basic blocks), 50 or 101 (bottlenecks).
        out_stages: which of 2..5 to return; later stages than the last are not built.
        groups, width_per_group: 32 and 8 make a ResNeXt 32x8d.
        stride_in_1x1: see :class:`Bottleneck`.
        res5_dilation: 2 keeps res5 at stride 16 (the DC5 variant).
        width: channels of res2 in the basic variants; 64 in the published ones.
        norm: "frozen" statistics or "batch" ones.
        blocks: blocks per stage, where other than the depth's.
        freeze_at: how many of stem, res2, res3, ... are not trained.
    """

    def __init__(
        self,
        *,
        depth: int = 50,
        out_stages: Sequence[int] = (2, 3, 4, 5),
        groups: int = 1,
        width_per_group: int = 64,
        stride_in_1x1: bool = True,
        res5_dilation: int = 1,
        width: int = 64,
        norm: str = "frozen",
        blocks: Sequence[int] | None = None,
        freeze_at: int = 0,
    ) -> None:
        super().__init__()
        if depth not in BLOCKS:
            raise ValueError(f"depth must be one of {sorted(BLOCKS)}, not {depth}")
        self.out_stages = tuple(out_stages)
        self.res5_dilation = res5_dilation
        basic = depth < 50
        self.stem = ConvNorm(3, width if basic else 64, 7, stride=2, norm=norm)
        self.stage_names = [f"res{stage}" for stage in range(2, max(out_stages) + 1)]
        self.out_channels: dict[int, int] = {}
        channels = width
        for stage in range(2, max(out_stages) + 1):
            dilation = res5_dilation if stage == 5 else 1
            if basic:
                count = (blocks or BLOCKS[depth])[stage - 2]
                out = width * 2 ** (stage - 2)
                layer = nn.Sequential(
                    *(
                        BasicBlock(
                            channels if number == 0 else out,
                            out,
                            stride=2 if number == 0 and stage > 2 else 1,
                            norm=norm,
                        )
                        for number in range(count)
                    )
                )
                channels = out
            else:
                layer = bottleneck_stage(
                    stage,
                    depth,
                    groups=groups,
                    width_per_group=width_per_group,
                    stride_in_1x1=stride_in_1x1,
                    dilation=dilation,
                    norm=norm,
                )
                channels = 256 * 2 ** (stage - 2)
            self.add_module(f"res{stage}", layer)
            if stage in self.out_stages:
                self.out_channels[stage] = channels
        for name in ["stem", *self.stage_names][:freeze_at]:
            getattr(self, name).requires_grad_(False)

    def stride(self, stage: int) -> int:
        """Pixels per cell of a stage's map."""
        return 2 ** (stage - 1 if stage == 5 and self.res5_dilation > 1 else stage)

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """Maps by stage.

        Shape: (B,3,H,W) -> {stage: (B,C_stage,H/2^stage,W/2^stage)}
        """
        x = F.relu(self.stem(images), inplace=True)
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        maps = {}
        for stage, name in enumerate(self.stage_names, start=2):
            x = getattr(self, name)(x)
            if stage in self.out_stages:
                maps[stage] = x
        return maps


class FeaturePyramid(nn.Module):
    """Top-down pathway with lateral connections (Feature Pyramid Networks, figure 3).

    Args:
        in_channels: {stage: channels} of the ResNet's maps.
        channels: of every level.
        extra_level: whether to add one level by subsampling the last one (p6 after p5).
    """

    def __init__(
        self, in_channels: dict[int, int], channels: int = 256, extra_level: bool = True
    ) -> None:
        super().__init__()
        self.stages = sorted(in_channels)
        self.extra_level = extra_level
        self.lateral = nn.ModuleDict(
            {str(stage): nn.Conv2d(in_channels[stage], channels, 1) for stage in self.stages}
        )
        self.output = nn.ModuleDict(
            {str(stage): nn.Conv2d(channels, channels, 3, padding=1) for stage in self.stages}
        )
        for conv in [*self.lateral.values(), *self.output.values()]:
            nn.init.kaiming_uniform_(conv.weight, a=1)
            nn.init.zeros_(conv.bias)

    def forward(self, maps: dict[int, Tensor]) -> dict[int, Tensor]:
        """Levels p2.. by stage number, and the extra one."""
        levels: dict[int, Tensor] = {}
        above: Tensor | None = None
        for stage in reversed(self.stages):
            x = self.lateral[str(stage)](maps[stage])
            if above is not None:
                # The input is padded to the last stride, so every level is twice the next one.
                x += F.interpolate(above, scale_factor=2.0, mode="nearest")
            above = x
            levels[stage] = self.output[str(stage)](x)
        if self.extra_level:
            last = self.stages[-1]
            levels[last + 1] = F.max_pool2d(levels[last], kernel_size=1, stride=2)
        return dict(sorted(levels.items()))
