"""Pieces that every 3D network is made of: convolution with norm, norms, weight init, frame choice.

Shapes: B clips, C channels, T frames, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avadet.models.depthwise import DepthwiseConv3d

Triple = tuple[int, int, int]
NormMaker = Callable[[int], nn.Module]


def batch_norm(eps: float = 1e-5, momentum: float = 0.1) -> NormMaker:
    """A maker of 3D batch norms with these constants.

    ``eps`` is a fact of a family's weights: 1e-5 in SlowFast, 1e-3 in the CSN and R(2+1)D
    references, where 1e-5 shifts features by a per cent.
    """
    return partial(nn.BatchNorm3d, eps=eps, momentum=momentum)


@dataclass(frozen=True)
class ConvSpec:
    """A convolution that a block asks its conv maker for.

    Attributes:
        in_channels, out_channels: channels.
        kernel: (t, h, w).
        stride: (t, h, w).
        dilation: spatial; the temporal one is always 1.
        norm: for makers whose convolution has a norm inside.
        stage: 2..5, as in res2..res5; 1 for the stem.
        block: index in the stage, for makers that alternate.
    """

    in_channels: int
    out_channels: int
    kernel: Triple
    stride: Triple = (1, 1, 1)
    dilation: int = 1
    norm: NormMaker = nn.BatchNorm3d
    stage: int = 1
    block: int = 0

    @property
    def padding(self) -> Triple:
        """Keeps sizes at stride 1."""
        t, h, w = self.kernel
        return t // 2, self.dilation * (h // 2), self.dilation * (w // 2)


ConvMaker = Callable[[ConvSpec], nn.Module]


def plain_conv(spec: ConvSpec, groups: int = 1) -> nn.Conv3d:
    """One 3D convolution without bias."""
    depthwise = groups > 1 and groups == spec.in_channels == spec.out_channels
    kind = DepthwiseConv3d if depthwise else nn.Conv3d
    return kind(
        spec.in_channels,
        spec.out_channels,
        spec.kernel,
        stride=spec.stride,
        padding=spec.padding,
        dilation=(1, spec.dilation, spec.dilation),
        groups=groups,
        bias=False,
    )


class ConvNorm(nn.Module):
    """A convolution and its norm; the caller applies the activation.

    Parameter names: ``conv.*``, ``norm.*``. With ``norm`` None there is only the convolution.

    Shape: (B,C,T,H,W) -> (B,C',T',H',W').
    """

    def __init__(self, conv: nn.Module, norm: nn.Module | None) -> None:
        super().__init__()
        self.conv = conv
        self.norm = nn.Identity() if norm is None else norm

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))

    def rectified(self, x: Tensor) -> Tensor:
        """ReLU of the result; in one go where the convolution can (``folding.FusedConv3d``)."""
        if isinstance(self.norm, nn.Identity) and hasattr(self.conv, "rectified"):
            return self.conv.rectified(x)
        return F.relu(self.norm(self.conv(x)), inplace=True)


def pool_frames(x: Tensor, kind: str = "avg") -> Tensor:
    """Mean ("avg") or maximum ("max") over the frames, in float32.

    On a CPU torch reduces over frames forty times slower when the channels lie last in memory,
    unless the axes are told in the order of memory.

    Shape: (B,C,T,H,W) -> (B,C,H,W).
    """
    if not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last_3d):
        x = x.permute(0, 2, 3, 4, 1)  # (B,T,H,W,C)
        flat = x.mean(1, dtype=torch.float32) if kind == "avg" else x.amax(1).float()
        return flat.permute(0, 3, 1, 2)
    return x.mean(2, dtype=torch.float32) if kind == "avg" else x.amax(2).float()


class FrozenBatchNorm3d(nn.BatchNorm3d):
    """A batch norm that always uses its running statistics and is never trained.

    Keys are those of ``nn.BatchNorm3d``, so weights fit both ways.
    """

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(num_features, eps=eps, momentum=momentum)
        self.weight.requires_grad_(False)
        self.bias.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> FrozenBatchNorm3d:
        return super().train(False)


def _replace_norms(module: nn.Module, change: Callable[[nn.BatchNorm3d], nn.Module]) -> int:
    count = 0
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm3d) and not isinstance(child, FrozenBatchNorm3d):
            setattr(module, name, change(child))
            count += 1
        else:
            count += _replace_norms(child, change)
    return count


def freeze_norms(module: nn.Module) -> int:
    """Makes every batch norm under ``module`` a ``FrozenBatchNorm3d`` holding the same tensors.

    Returns:
        how many were changed.
    """

    def freeze(norm: nn.BatchNorm3d) -> nn.Module:
        frozen = FrozenBatchNorm3d(norm.num_features, norm.eps, norm.momentum or 0.1)
        frozen.to(norm.weight.device, norm.weight.dtype)
        frozen.load_state_dict(norm.state_dict(), assign=True)
        frozen.weight.requires_grad_(False)
        frozen.bias.requires_grad_(False)
        return frozen

    return _replace_norms(module, freeze)


def sync_norms(module: nn.Module) -> nn.Module:
    """``module`` with batch statistics taken over all processes; frozen norms stay frozen."""

    def sync(norm: nn.BatchNorm3d) -> nn.Module:
        return nn.SyncBatchNorm.convert_sync_batchnorm(norm)

    if isinstance(module, nn.BatchNorm3d) and not isinstance(module, FrozenBatchNorm3d):
        return sync(module)
    _replace_norms(module, sync)
    return module


def init_convolutions(module: nn.Module) -> None:
    """He's normal initialisation (fan-out, ReLU) for convolutions, 1 and 0 for norms."""
    for child in module.modules():
        if isinstance(child, nn.Conv3d):
            nn.init.kaiming_normal_(child.weight, mode="fan_out", nonlinearity="relu")
            if child.bias is not None:
                nn.init.zeros_(child.bias)
        elif isinstance(child, nn.BatchNorm3d):
            nn.init.ones_(child.weight)
            nn.init.zeros_(child.bias)


def init_linear(layer: nn.Linear, std: float = 0.01) -> nn.Linear:
    """Normal weights of ``std`` and zero bias, as the published recipes start their last layer."""
    nn.init.normal_(layer.weight, std=std)
    nn.init.zeros_(layer.bias)
    return layer


def slow_frames(num_frames: int, alpha: int, sampling: str = "linspace") -> list[int]:
    """Which of ``num_frames`` frames a pathway that is ``alpha`` times slower looks at.

    Args:
        num_frames: T of the clip.
        alpha: frame-rate ratio; T // alpha frames are chosen.
        sampling: "linspace", evenly from the first to the last frame, truncated (PySlowFast:
            32 frames, alpha 4 -> 0,4,8,13,17,22,26,31), or "stride", every alpha-th frame
            (MMAction2's nearest interpolation: 0,4,8,12,...).

    Raises:
        ValueError: fewer frames than ``alpha``, or an unknown ``sampling``.
    """
    count = num_frames // alpha
    if count < 1:
        raise ValueError(f"{num_frames} frames are too few for alpha {alpha}")
    if sampling == "linspace":
        return [int(i) for i in np.linspace(0, num_frames - 1, count)]
    if sampling == "stride":
        return [i * alpha for i in range(count)]
    raise ValueError(f"frame sampling is 'linspace' or 'stride', not '{sampling}'")


def take_frames(video: Tensor, alpha: int, sampling: str = "linspace") -> Tensor:
    """(B,C,T,H,W) -> (B,C,T//alpha,H,W) by ``slow_frames``; ``video`` itself when alpha is 1."""
    if alpha == 1:
        return video
    # Slices rather than an index, which would travel to the GPU and be waited for.
    index = slow_frames(video.shape[2], alpha, sampling)
    return torch.stack([video[:, :, i] for i in index], 2)
