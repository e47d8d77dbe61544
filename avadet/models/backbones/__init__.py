"""All backbones by name.

A backbone is a module with ``forward(video (B,3,T,H,W) or a tuple of ready pathway clips) ->
tuple of maps (B,C_p,T_p,H_p,W_p)``, ``out_channels`` (one per map) and ``strides`` (pixels per cell
of each map). Every constructor takes plain keyword arguments.
"""

from __future__ import annotations

from functools import partial

from avadet.models.backbones.catalogue import CONVNETS
from avadet.models.backbones.csn import csn
from avadet.models.backbones.mvit import MViT
from avadet.models.backbones.resnet3d_members import c2d, fast, i3d, slow
from avadet.models.backbones.slowfast import SlowFast
from avadet.models.backbones.vit import ViT
from avadet.registry import Registry

BACKBONES = Registry("backbone")

for _depth in (50, 101, 152):
    BACKBONES.add(f"c2d_r{_depth}", partial(c2d, depth=_depth))
    BACKBONES.add(f"i3d_r{_depth}", partial(i3d, depth=_depth))
    BACKBONES.add(f"slow_r{_depth}", partial(slow, depth=_depth))
    BACKBONES.add(f"fast_r{_depth}", partial(fast, depth=_depth))
for _depth in (50, 101, 152):
    BACKBONES.add(f"ir_csn_{_depth}", partial(csn, interaction="ir", depth=_depth))
    BACKBONES.add(f"ip_csn_{_depth}", partial(csn, interaction="ip", depth=_depth))

# T x tau of the Slow pathway: alpha is 8 for 4x16 and 4 for 8x8 and 16x8; the public R50 weights
# fuse with kernel 7 (4x16: 5), the R101 weights with kernel 5.
BACKBONES.add("slowfast_r50", partial(SlowFast, depth=50))
BACKBONES.add("slowfast_r101", partial(SlowFast, depth=101, fusion_kernel=5))
BACKBONES.add("slowfast_r152", partial(SlowFast, depth=152, fusion_kernel=5))
BACKBONES.add("slowfast_r50_4x16", partial(SlowFast, depth=50, alpha=8, fusion_kernel=5))
BACKBONES.add("slowfast_r50_8x8", partial(SlowFast, depth=50, alpha=4, fusion_kernel=7))
BACKBONES.add("slowfast_r50_16x8", partial(SlowFast, depth=50, alpha=4, fusion_kernel=7))
BACKBONES.add("slowfast_r101_8x8", partial(SlowFast, depth=101, alpha=4, fusion_kernel=5))
BACKBONES.add(
    "slowfast_r101_16x8",
    partial(SlowFast, depth=101, alpha=4, fusion_kernel=5, res4_temporal_blocks=6),
)

# For tests and for training on small drawn movies with two CPU cores: one block per stage, thin
# outputs, no pool in the stem. Measured on one AVX-512 machine, forward and backward of batches of
# 8 clips 32 x 144 x 112 in float32: slowfast_tiny takes 74 ms of one core per clip in
# channels_last_3d and a tenth more in the default layout (CSN: 1.7 times as much there). Pathways
# keep at least 8 channels: with 4 the default layout is ten times slower.
_TINY = {"depths": (1, 1, 1, 1), "expansion": 2, "stem_pool": False, "output_stride": 16}
BACKBONES.add(
    "slowfast_tiny",
    partial(
        SlowFast,
        **_TINY,
        width=24,
        beta_inv=3,
        alpha=8,
        fusion_kernel=5,
        fast_stem_kernel=(3, 5, 5),
    ),
)
BACKBONES.add("slow_tiny", partial(slow, **_TINY, width=24, alpha=8))
BACKBONES.add("fast_tiny", partial(fast, **_TINY, width=8, stem_kernel=(3, 5, 5)))
BACKBONES.add("c2d_tiny", partial(c2d, **_TINY, width=24, alpha=4))
BACKBONES.add("i3d_tiny", partial(i3d, **_TINY, width=24, stem_kernel=(3, 5, 5), alpha=2))
BACKBONES.add(
    "ir_csn_tiny", partial(csn, **_TINY, interaction="ir", width=32, stem_kernel=(3, 5, 5))
)
BACKBONES.add(
    "ip_csn_tiny", partial(csn, **_TINY, interaction="ip", width=32, stem_kernel=(3, 5, 5))
)

for _name, _make in CONVNETS.items():
    BACKBONES.add(_name, _make)

# Transformers. MViTv2's stages start at other blocks in the deeper network; drop path as published.
_V2B = {"version": 2, "depth": 24, "stages": (2, 5, 21), "frames": 32, "drop_path": 0.3}
_V1B24 = {"version": 1, "depth": 24, "stages": (2, 5, 21), "frames": 32, "drop_path": 0.3}
_V1B24["pool_kernel"] = None
_V2L = {"version": 2, "depth": 48, "width": 144, "heads": 2, "stages": (2, 8, 44)}
_V2L |= {"frames": 40, "crop": 312, "drop_path": 0.75}
BACKBONES.add("mvit_v1_b", partial(MViT, version=1))
BACKBONES.add("mvit_v1_b24", partial(MViT, **_V1B24))
BACKBONES.add("mvit_v2_l", partial(MViT, **_V2L))
BACKBONES.add("mvit_v1_b_32x3", partial(MViT, version=1, frames=32, drop_path=0.3))
BACKBONES.add("mvit_v2_s", partial(MViT, version=2))
BACKBONES.add("mvit_v2_b", partial(MViT, **_V2B))
BACKBONES.add("vit_s", partial(ViT, width=384, heads=6))
BACKBONES.add("vit_b", ViT)
BACKBONES.add("vit_l", partial(ViT, depth=24, width=1024, heads=16, drop_path=0.2))
BACKBONES.add("vit_h", partial(ViT, depth=32, width=1280, heads=16, drop_path=0.2))
# VideoMAE V2's giant; its MLPs have 6144 channels.
_GIANT = {"depth": 40, "width": 1408, "heads": 16, "mlp_ratio": 48 / 11, "patch": 14}
BACKBONES.add("vit_g", partial(ViT, **_GIANT, drop_path=0.3))
_SMALL = {"depth": 4, "crop": 112, "drop_path": 0.0}
BACKBONES.add("mvit_v1_tiny", partial(MViT, version=1, **_SMALL, width=16, stages=(1, 2, 3)))
BACKBONES.add("mvit_v2_tiny", partial(MViT, version=2, **_SMALL, width=16, stages=(1, 2, 3)))
BACKBONES.add("vit_tiny", partial(ViT, **_SMALL, width=64, heads=4))
