"""An image network on every frame and an LSTM over what it sees: the oldest of the baselines.

Source: Donahue et al. (CVPR 2015); as "ConvNet+LSTM" in table 2 of I3D (CVPR 2017), with 512 units
on an Inception-v1; here the image network is a ResNet.

Parameter names: ``frames.*`` as in ``resnet3d.py``, ``lstm.{weight,bias}_{ih,hh}_l0``.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from avadet.errors import UserError
from avadet.models.backbones.resnet3d import C2D_KERNELS, EXPANSION, ResNet3D, stage_depths

OUTPUTS = ("map", "clip")


class CNNLSTM(nn.Module):
    """The network.

    Args:
        depth, depths: ResNet depth, or blocks per stage.
        hidden: units of the LSTM, which are the channels of the result.
        output: "map": the LSTM runs over the frames of each cell, with the same weights, so that
            RoI heads have a map; "clip": over the frames' means, as published for clips.
        others: as in ``ResNet3D``.

    Attributes:
        out_channels, strides: of the one map.

    Shape: (B,3,T,H,W), or a tuple of one clip, to ((B,hidden,T,H/stride,W/stride),), or
    ((B,hidden,T,1,1),).
    """

    block_types = ResNet3D.block_types

    def __init__(
        self,
        *,
        depth: int = 50,
        depths: Sequence[int] | None = None,
        width: int = 64,
        expansion: int = EXPANSION,
        hidden: int = 512,
        output: str = "map",
        in_channels: int = 3,
        stem_pool: bool = True,
        output_stride: int = 32,
        dilate: bool = True,
        alpha: int = 1,
        frame_sampling: str = "linspace",
        norm_eps: float = 1e-5,
        norm_momentum: float = 0.1,
        zero_init: bool = True,
    ) -> None:
        super().__init__()
        if output not in OUTPUTS:
            raise UserError(f"output: '{output}' is not one of {', '.join(OUTPUTS)}")
        self.output = output
        self.frames = ResNet3D(
            depths=stage_depths(depth, depths),
            width=width,
            expansion=expansion,
            in_channels=in_channels,
            stem_pool=stem_pool,
            temporal_kernels=C2D_KERNELS,
            output_stride=output_stride,
            dilate=dilate,
            alpha=alpha,
            frame_sampling=frame_sampling,
            norm_eps=norm_eps,
            norm_momentum=norm_momentum,
            zero_init=zero_init,
        )
        self.lstm = nn.LSTM(self.frames.out_channels[0], hidden, batch_first=True)
        self.out_channels = (hidden,)
        self.strides = self.frames.strides

    def forward(self, video: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
        (x,) = self.frames(video)
        if self.output == "clip":
            x = x.mean((3, 4), keepdim=True)
        b, _, _, h, w = x.shape
        cells = x.permute(0, 3, 4, 2, 1).flatten(0, 2)  # (BHW,T,C)
        states, _ = self.lstm(cells)
        return (states.unflatten(0, (b, h, w)).permute(0, 4, 3, 1, 2),)  # (B,hidden,T,H,W)
