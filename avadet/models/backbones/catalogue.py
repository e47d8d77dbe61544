"""Names of the 3D-convolution family beyond SlowFast and CSN, each with what it fixes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from avadet.models.backbones.c3d import C3D
from avadet.models.backbones.cnn_lstm import CNNLSTM
from avadet.models.backbones.inception3d import Inception3D
from avadet.models.backbones.r3d import mixed, mixed_stages, p3d, r2d, r2plus1d
from avadet.models.backbones.torchvision_video import NETWORKS, TorchvisionVideo
from avadet.models.backbones.x3d import X3D

CONVNETS: dict[str, Callable[..., Any]] = {
    "c3d": C3D,
    # XS, S and M are one network at 4x160, 13x160 and 16x224.
    "x3d_xs": partial(X3D, depth_factor=2.2),
    "x3d_s": partial(X3D, depth_factor=2.2),
    "x3d_m": partial(X3D, depth_factor=2.2),
    "x3d_l": partial(X3D, depth_factor=5.0),
    "i3d_inception": partial(Inception3D, kind="full"),
    "s3d": partial(Inception3D, kind="separable", padding="symmetric"),
    "s3d_g": partial(Inception3D, kind="separable", gated=True, padding="symmetric"),
    "r2d_18": partial(r2d, depth=18),
    "r2d_34": partial(r2d, depth=34),
    "cnn_lstm_r50": partial(CNNLSTM, depth=50),
    "cnn_lstm_r101": partial(CNNLSTM, depth=101),
    "p3d_63": partial(p3d, depth=50),
    "p3d_199": partial(p3d, depth=152),
}
_MIXED = ("f_r2d", "r3d", *(f"{kind}{x}" for kind in ("mc", "rmc") for x in (2, 3, 4, 5)))
for _name in _MIXED:
    for _depth in (18, 34):
        CONVNETS[f"{_name}_{_depth}"] = partial(mixed, depth=_depth, temporal=mixed_stages(_name))
for _depth in (18, 34, 50, 101, 152):
    CONVNETS[f"r2plus1d_{_depth}"] = partial(r2plus1d, depth=_depth)

for _name in NETWORKS:
    if _name != "swin3d_mini":
        CONVNETS[f"torchvision_{_name}"] = partial(TorchvisionVideo, network=_name)

# For tests and small drawn movies, as the other tiny networks.
_TINY: dict[str, Any] = {"depth": 18, "depths": (1, 1, 1, 1), "width": 16, "stem_stride": 4}
_TINY |= {"stem_pool": False}
CONVNETS |= {
    "c3d_tiny": partial(C3D, width=6, norm=True),
    "cnn_lstm_tiny": partial(
        CNNLSTM,
        depths=(1, 1, 1, 1),
        width=16,
        expansion=2,
        hidden=64,
        stem_pool=False,
        output_stride=16,
        alpha=4,
    ),
    "x3d_tiny": partial(X3D, depth_factor=0.5, width=16, stem_kernel_t=3),
    "i3d_inception_tiny": partial(Inception3D, kind="full", width=0.125),
    "s3d_tiny": partial(Inception3D, kind="separable", width=0.125, padding="symmetric"),
    "s3d_g_tiny": partial(
        Inception3D, kind="separable", gated=True, width=0.125, padding="symmetric"
    ),
    "r2d_tiny": partial(r2d, **_TINY, num_frames=32, output_stride=16),
    "f_r2d_tiny": partial(mixed, **_TINY, temporal=mixed_stages("f_r2d"), output_stride=16),
    "r3d_tiny": partial(mixed, **_TINY, temporal=mixed_stages("r3d"), output_stride=16),
    "mc3_tiny": partial(
        mixed, **(_TINY | {"width": 12}), temporal=mixed_stages("mc3"), output_stride=16
    ),
    "rmc3_tiny": partial(mixed, **_TINY, temporal=mixed_stages("rmc3"), output_stride=16),
    "r2plus1d_tiny": partial(r2plus1d, **_TINY, stem="matched", output_stride=16),
    "p3d_tiny": partial(
        p3d, depths=(1, 1, 1, 1), width=16, expansion=2, stem_pool=False, output_stride=16
    ),
    "torchvision_tiny": partial(TorchvisionVideo, network="swin3d_mini"),
}
