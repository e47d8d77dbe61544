"""Channel-separated networks (Tran et al., ICCV 2019): a ResNet whose 3x3x3 layer is depthwise.

"ir" (interaction reduced) has the depthwise layer alone, "ip" (interaction preserved) puts a
1x1x1 convolution with norm and no ReLU in front of it.

Parameter names are those of resnet3d.py; in ip networks the middle layer is
``b.conv.pointwise.weight``, ``b.conv.norm.*``, ``b.conv.depthwise.weight``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from avadet.errors import UserError
from avadet.models.backbones.resnet3d import EXPANSION, FULL_KERNELS, ResNet3D, stage_depths
from avadet.models.layers import ConvSpec, freeze_norms, plain_conv


def depthwise_conv(spec: ConvSpec) -> nn.Module:
    """ir-CSN: each channel by itself."""
    return plain_conv(spec, groups=spec.in_channels)


class PreservedInteraction(nn.Module):
    """ip-CSN: 1x1x1 convolution, norm, then the depthwise convolution with the strides.

    Shape: (B,C,T,H,W) -> (B,C,T',H',W').
    """

    # Whose output this is, for ``folding.fold_norms``.
    last_conv = "depthwise"

    def __init__(self, spec: ConvSpec) -> None:
        super().__init__()
        self.pointwise = plain_conv(ConvSpec(spec.in_channels, spec.out_channels, (1, 1, 1)))
        self.norm = spec.norm(spec.out_channels)
        self.depthwise = depthwise_conv(replace(spec, in_channels=spec.out_channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.depthwise(self.norm(self.pointwise(x)))


_MAKERS = {"ir": depthwise_conv, "ip": PreservedInteraction}


def csn(
    *,
    interaction: str = "ir",
    depth: int = 152,
    depths: Sequence[int] | None = None,
    width: int = 64,
    expansion: int = EXPANSION,
    stem_kernel: Sequence[int] = (3, 7, 7),
    stem_pool: bool = True,
    temporal_strides: Sequence[int] = (1, 2, 2, 2),
    output_stride: int = 32,
    dilate: bool = True,
    alpha: int = 1,
    frame_sampling: str = "linspace",
    norm_eps: float = 1e-3,
    norm_momentum: float = 0.1,
    frozen_norms: bool = False,
    zero_init: bool = True,
) -> ResNet3D:
    """A channel-separated network.

    Args:
        interaction: "ir" or "ip".
        temporal_strides: of res2..res5; the reference ends with T/8.
        norm_eps: 1e-3 in VMZ's and MMAction2's networks, 1e-5 in PyTorchVideo's.
        frozen_norms: batch norms always use their running statistics (the IG65M weights of
            MMAction2 are fine-tuned so).
        others: as in ``ResNet3D``. For AVA, ``output_stride=16`` with ``dilate`` keeps the
            receptive field of res5.

    Raises:
        UserError: an unknown ``interaction``.
    """
    if interaction not in _MAKERS:
        raise UserError(f"interaction: '{interaction}' is not one of {', '.join(_MAKERS)}")
    network = ResNet3D(
        depths=stage_depths(depth, depths),
        width=width,
        expansion=expansion,
        stem_kernel=stem_kernel,
        stem_pool=stem_pool,
        temporal_kernels=FULL_KERNELS,
        temporal_at="b",
        temporal_strides=temporal_strides,
        output_stride=output_stride,
        dilate=dilate,
        conv_maker=_MAKERS[interaction],
        alpha=alpha,
        frame_sampling=frame_sampling,
        norm_eps=norm_eps,
        norm_momentum=norm_momentum,
        zero_init=zero_init,
    )
    if frozen_norms:
        freeze_norms(network)
    return network
