"""torchvision's video networks as backbones, through one adapter: nothing is written again.

The network keeps torchvision's parameter names under ``network.``; its classifier is left out, and
the heads of avadet take its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from avadet.errors import UserError

# Channels and stride of the last map.
NETWORKS = {
    # For small drawn movies: torchvision's Swin, thin and shallow; it has no name for one.
    "swin3d_mini": (64, 16),
    "r3d_18": (512, 16),
    "mc3_18": (512, 16),
    "r2plus1d_18": (512, 16),
    "s3d": (1024, 32),
    "swin3d_t": (768, 32),
    "swin3d_s": (768, 32),
    "swin3d_b": (1024, 32),
}
_CLASSIFIERS = ("fc", "head", "classifier", "avgpool")


class TorchvisionVideo(nn.Module):
    """A video network of torchvision without its classifier.

    Args:
        network: see ``NETWORKS``.
        output_stride: None takes the network's own; S3D also has 16, by a last pool over time
            alone. The others have one.

    Raises:
        UserError: an unknown network or stride.

    Attributes:
        out_channels, strides: of the one map.
        block_types: classes of the blocks.

    Shape: (B,3,T,H,W), or a tuple of one clip, to ((B,C,T',H/stride,W/stride),).
    """

    def __init__(self, *, network: str, output_stride: int | None = None) -> None:
        super().__init__()
        if network not in NETWORKS:
            raise UserError(f"network: '{network}' is not one of {', '.join(NETWORKS)}")
        channels, own = NETWORKS[network]
        stride = own if output_stride is None else output_stride
        if stride != own and (network, stride) != ("s3d", 16):
            raise UserError(f"output_stride: torchvision's {network} has {own}, not {stride}")
        self.network, self.block_types = _make(network)
        for name in _CLASSIFIERS:
            if hasattr(self.network, name):
                setattr(self.network, name, nn.Identity())
        if stride != own:
            self.network.features[13] = nn.MaxPool3d((2, 1, 1))
        self._maps = _MAPS[network.split("_")[0]]
        self.out_channels = (channels,)
        self.strides = (stride,)

    def forward(self, video: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
        return (self._maps(self.network, video if isinstance(video, Tensor) else video[0]),)


def _make(name: str) -> tuple[nn.Module, tuple[type[nn.Module], ...]]:
    """A network and the classes of its blocks; torchvision takes long to import."""
    from torchvision.models import video
    from torchvision.models.swin_transformer import SwinTransformerBlock
    from torchvision.models.video.resnet import BasicBlock, Bottleneck
    from torchvision.models.video.s3d import SepInceptionBlock3D

    blocks = (BasicBlock, Bottleneck, SepInceptionBlock3D, SwinTransformerBlock)
    if name != "swin3d_mini":
        return getattr(video, name)(), blocks
    network = video.swin_transformer.SwinTransformer3d(
        patch_size=[2, 4, 4],
        embed_dim=16,
        depths=[1, 1, 2],
        num_heads=[1, 2, 4],
        window_size=[4, 5, 5],
        stochastic_depth_prob=0.0,
    )
    return network, blocks


def _resnet(network: nn.Module, x: Tensor) -> Tensor:
    x = network.stem(x)
    for layer in (network.layer1, network.layer2, network.layer3, network.layer4):
        x = layer(x)
    return x


def _swin(network: nn.Module, x: Tensor) -> Tensor:
    x = network.norm(network.features(network.pos_drop(network.patch_embed(x))))
    return x.permute(0, 4, 1, 2, 3)  # (B,C,T,H,W)


def _s3d(network: nn.Module, x: Tensor) -> Tensor:
    return network.features(x)


_MAPS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "r3d": _resnet,
    "mc3": _resnet,
    "r2plus1d": _resnet,
    "s3d": _s3d,
    "swin3d": _swin,
}
