"""SlowFast (Feichtenhofer et al., ICCV 2019): two pathways and lateral connections.

Parameter names::

    slow.*, fast.*                            each a pathway, named as in resnet3d.py
    lateral.{stem,res2,res3,res4}.conv.weight and .norm.*   (Fast into Slow, after that stage)

The lateral convolutions exist for ``lateral="t_conv"`` only, their norms with ``lateral_norm``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from avadet.errors import UserError
from avadet.models.backbones.non_local import NonLocalSpec
from avadet.models.backbones.resnet3d import (
    EXPANSION,
    FULL_KERNELS,
    SLOW_KERNELS,
    ResNet3D,
    stage_depths,
)
from avadet.models.layers import (
    ConvNorm,
    ConvSpec,
    batch_norm,
    init_convolutions,
    plain_conv,
    take_frames,
)

LATERALS = ("t_conv", "t_sample", "none")
_PLACES = ("stem", "res2", "res3", "res4")


class TimeStridedConv(ConvNorm):
    """Lateral connection by a k x 1 x 1 convolution with temporal stride alpha.

    PySlowFast adds norm and ReLU; in MMAction2 the convolution stands alone.

    Shape: (B,C,T,H,W) -> (B,C*ratio,T/alpha,H,W).
    """

    def __init__(
        self, channels: int, ratio: int, kernel: int, alpha: int, norm: nn.Module | None
    ) -> None:
        spec = ConvSpec(channels, channels * ratio, (kernel, 1, 1), (alpha, 1, 1))
        super().__init__(plain_conv(spec), norm)
        self.rectify = norm is not None

    def forward(self, x: Tensor) -> Tensor:
        return self.rectified(x) if self.rectify else super().forward(x)


class TimeStridedSample(nn.Module):
    """Lateral connection by every alpha-th frame of the Fast map.

    Shape: (B,C,T,H,W) -> (B,C,T/alpha,H,W).
    """

    def __init__(self, alpha: int) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.alpha]


class SlowFast(nn.Module):
    """The two pathways.

    Args:
        depth, depths: ResNet depth, or blocks per stage of both pathways.
        fast_depth: ResNet depth of the Fast pathway alone, where it differs (MMAction2 has a Slow
            R101 beside a Fast R50).
        width: of the Slow pathway (64); Fast has ``width / beta_inv``, rounded up.
        alpha: frame-rate ratio.
        beta_inv: channel ratio.
        lateral: "t_conv", "t_sample" or "none".
        fusion_kernel: temporal kernel of the lateral convolutions; 5 or 7 in public weights.
        fusion_ratio: lateral convolutions multiply Fast's channels by it.
        lateral_norm: False for MMAction2's weights.
        slow_sampling: how Slow's frames are chosen, see ``slow_frames``.
        res4_temporal_blocks: only so many first blocks of res4 have temporal kernels (6 of 23 in
            the AVA R101 and the 16x8 R101 networks).
        fast_res4_temporal_blocks: the same of the Fast pathway, where it differs.
        output_stride, dilate: see ``resnet3d.spatial_layout``.
        non_local: on the Slow pathway, see ``NonLocalSpec``.
        slow_stem_kernel, fast_stem_kernel: (t,h,w).
        expansion, stem_pool: as in ``ResNet3D``.
        norm_eps, norm_momentum, zero_init: as in ``ResNet3D``.

    Attributes:
        out_channels, strides: of the Slow and the Fast map.

    Shape: (B,3,T,H,W), or a tuple of ready clips ((B,3,T/alpha,H,W), (B,3,T,H,W)), to the maps
    ((B,C,T/alpha,H',W'), (B,C/beta_inv,T,H',W')) with C = 8 * width * expansion.
    """

    block_types = ResNet3D.block_types

    def __init__(
        self,
        *,
        depth: int = 50,
        depths: Sequence[int] | None = None,
        fast_depth: int | None = None,
        width: int = 64,
        expansion: int = EXPANSION,
        alpha: int = 4,
        beta_inv: int = 8,
        lateral: str = "t_conv",
        fusion_kernel: int = 7,
        fusion_ratio: int = 2,
        lateral_norm: bool = True,
        slow_sampling: str = "linspace",
        res4_temporal_blocks: int | None = None,
        fast_res4_temporal_blocks: int | None = None,
        output_stride: int = 32,
        dilate: bool = True,
        non_local: NonLocalSpec | Mapping[str, Any] | None = None,
        slow_stem_kernel: Sequence[int] = (1, 7, 7),
        fast_stem_kernel: Sequence[int] = (5, 7, 7),
        stem_pool: bool = True,
        norm_eps: float = 1e-5,
        norm_momentum: float = 0.1,
        zero_init: bool = True,
    ) -> None:
        super().__init__()
        if lateral not in LATERALS:
            raise UserError(f"lateral: '{lateral}' is not one of {', '.join(LATERALS)}")
        if not 1 <= beta_inv <= width:
            raise UserError(f"beta_inv: {beta_inv} must be between 1 and the width {width}")
        blocks = stage_depths(depth, depths)
        fast_blocks = blocks if fast_depth is None else stage_depths(fast_depth, None)
        # Rounded up: so the published costs of beta 1/6 and 1/12 come out.
        thin = -(-width // beta_inv)
        # Channels of the Fast maps after the stem, res2, res3 and res4.
        fast_channels = (thin, *(thin * expansion * 2**s for s in range(3)))
        ratio = {"t_conv": fusion_ratio, "t_sample": 1, "none": 0}[lateral]

        def pathway(
            pathway_depths: Sequence[int],
            pathway_width: int,
            kernel: Sequence[int],
            temporal_kernels: Sequence[Sequence[int]],
            res4_limit: int | None,
            lateral_channels: Sequence[int],
            attention: NonLocalSpec | Mapping[str, Any] | None,
        ) -> ResNet3D:
            return ResNet3D(
                depths=pathway_depths,
                width=pathway_width,
                expansion=expansion,
                stem_kernel=kernel,
                stem_pool=stem_pool,
                temporal_kernels=temporal_kernels,
                temporal_blocks=(None, None, res4_limit, None),
                output_stride=output_stride,
                dilate=dilate,
                non_local=attention,
                lateral_channels=lateral_channels,
                norm_eps=norm_eps,
                norm_momentum=norm_momentum,
                zero_init=zero_init,
            )

        extra = tuple(channels * ratio for channels in fast_channels)
        limit, none = res4_temporal_blocks, (0, 0, 0, 0)
        self.slow = pathway(blocks, width, slow_stem_kernel, SLOW_KERNELS, limit, extra, non_local)
        limit = limit if fast_res4_temporal_blocks is None else fast_res4_temporal_blocks
        self.fast = pathway(fast_blocks, thin, fast_stem_kernel, FULL_KERNELS, limit, none, None)
        self.lateral = nn.ModuleDict()
        norm = batch_norm(norm_eps, norm_momentum)
        for place, channels in zip(_PLACES, fast_channels, strict=True):
            if lateral == "t_conv":
                self.lateral[place] = TimeStridedConv(
                    channels,
                    fusion_ratio,
                    fusion_kernel,
                    alpha,
                    norm(channels * fusion_ratio) if lateral_norm else None,
                )
            elif lateral == "t_sample":
                self.lateral[place] = TimeStridedSample(alpha)
        init_convolutions(self.lateral)
        self.alpha = alpha
        self.slow_sampling = slow_sampling
        self.out_channels = (*self.slow.out_channels, *self.fast.out_channels)
        self.strides = (output_stride, output_stride)

    def forward(self, video: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
        if isinstance(video, Tensor):
            slow, fast = take_frames(video, self.alpha, self.slow_sampling), video
        else:
            slow, fast = video
        for place, follower in zip(_PLACES, ("res2", "res3", "res4", "res5"), strict=True):
            if place == "stem":
                slow, fast = self.slow.stem(slow), self.fast.stem(fast)
            if place in self.lateral:
                slow = torch.cat([slow, self.lateral[place](fast)], 1)
            slow = getattr(self.slow, follower)(slow)
            fast = getattr(self.fast, follower)(fast)
        return slow, fast
