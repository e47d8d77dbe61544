"""C2D, I3D, Slow-only and Fast-only: what each fixes of ``ResNet3D``.

Every argument is plain data, so that a configuration can name it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from avadet.models.backbones.resnet3d import (
    C2D_KERNELS,
    EXPANSION,
    FULL_KERNELS,
    I3D_KERNELS,
    SLOW_KERNELS,
    ResNet3D,
    stage_depths,
)


def c2d(
    *,
    depth: int = 50,
    depths: Sequence[int] | None = None,
    width: int = 64,
    in_channels: int = 3,
    expansion: int = EXPANSION,
    stem_kernel: Sequence[int] = (1, 7, 7),
    stem_pool: bool = True,
    stem_pool_padding: int = 1,
    res2_pool_t: int = 2,
    output_stride: int = 32,
    dilate: bool = True,
    non_local: Mapping[str, Any] | None = None,
    alpha: int = 1,
    frame_sampling: str = "linspace",
    norm_eps: float = 1e-5,
    norm_momentum: float = 0.1,
    zero_init: bool = True,
) -> ResNet3D:
    """C2D: an image ResNet over the frames, with one temporal pool after res2."""
    return ResNet3D(
        depths=stage_depths(depth, depths),
        width=width,
        in_channels=in_channels,
        expansion=expansion,
        stem_kernel=stem_kernel,
        stem_pool=stem_pool,
        stem_pool_padding=stem_pool_padding,
        temporal_kernels=C2D_KERNELS,
        res2_pool_t=res2_pool_t,
        output_stride=output_stride,
        dilate=dilate,
        non_local=non_local,
        alpha=alpha,
        frame_sampling=frame_sampling,
        norm_eps=norm_eps,
        norm_momentum=norm_momentum,
        zero_init=zero_init,
    )


def i3d(
    *,
    depth: int = 50,
    depths: Sequence[int] | None = None,
    width: int = 64,
    in_channels: int = 3,
    expansion: int = EXPANSION,
    stem_kernel: Sequence[int] = (5, 7, 7),
    stem_strides_t: Sequence[int] = (1, 1),
    stem_pool: bool = True,
    res2_pool_t: int = 2,
    heavy: bool = False,
    output_stride: int = 32,
    dilate: bool = True,
    non_local: Mapping[str, Any] | None = None,
    alpha: int = 1,
    frame_sampling: str = "linspace",
    norm_eps: float = 1e-5,
    norm_momentum: float = 0.1,
    zero_init: bool = True,
) -> ResNet3D:
    """I3D-ResNet: temporal kernels 3 in every block of res2, in every other one after it.

    ``stem_strides_t`` is (1, 1) in PySlowFast and (2, 2) in MMAction2, whose ``heavy`` network
    has (1, 1) and temporal kernels in every block.
    """
    return ResNet3D(
        depths=stage_depths(depth, depths),
        width=width,
        in_channels=in_channels,
        expansion=expansion,
        stem_kernel=stem_kernel,
        stem_pool=stem_pool,
        stem_strides_t=stem_strides_t,
        temporal_kernels=FULL_KERNELS if heavy else I3D_KERNELS,
        res2_pool_t=res2_pool_t,
        output_stride=output_stride,
        dilate=dilate,
        non_local=non_local,
        alpha=alpha,
        frame_sampling=frame_sampling,
        norm_eps=norm_eps,
        norm_momentum=norm_momentum,
        zero_init=zero_init,
    )


def slow(
    *,
    depth: int = 50,
    depths: Sequence[int] | None = None,
    width: int = 64,
    in_channels: int = 3,
    expansion: int = EXPANSION,
    stem_kernel: Sequence[int] = (1, 7, 7),
    stem_pool: bool = True,
    res4_temporal_blocks: int | None = None,
    output_stride: int = 32,
    dilate: bool = True,
    non_local: Mapping[str, Any] | None = None,
    alpha: int = 1,
    frame_sampling: str = "linspace",
    norm_eps: float = 1e-5,
    norm_momentum: float = 0.1,
    zero_init: bool = True,
) -> ResNet3D:
    """Slow-only: temporal kernels in res4 and res5 alone, no temporal stride or pool.

    With ``alpha`` above 1 it takes a Fast pathway's clip and looks at every alpha-th frame.
    """
    return ResNet3D(
        depths=stage_depths(depth, depths),
        width=width,
        in_channels=in_channels,
        expansion=expansion,
        stem_kernel=stem_kernel,
        stem_pool=stem_pool,
        temporal_kernels=SLOW_KERNELS,
        temporal_blocks=(None, None, res4_temporal_blocks, None),
        output_stride=output_stride,
        dilate=dilate,
        non_local=non_local,
        alpha=alpha,
        frame_sampling=frame_sampling,
        norm_eps=norm_eps,
        norm_momentum=norm_momentum,
        zero_init=zero_init,
    )


def fast(
    *,
    depth: int = 50,
    depths: Sequence[int] | None = None,
    width: int = 8,
    expansion: int = EXPANSION,
    stem_kernel: Sequence[int] = (5, 7, 7),
    stem_pool: bool = True,
    early_temporal: bool = True,
    res4_temporal_blocks: int | None = None,
    output_stride: int = 32,
    dilate: bool = True,
    alpha: int = 1,
    frame_sampling: str = "linspace",
    norm_eps: float = 1e-5,
    norm_momentum: float = 0.1,
    zero_init: bool = True,
) -> ResNet3D:
    """Fast-only: thin, temporal kernels everywhere, full frame rate to the end.

    Without ``early_temporal`` res2 and res3 have none: so the 4.9 GFLOPs of the paper's Fast-only
    (table 5a) come out, while its Fast pathway inside SlowFast costs 5.3.
    """
    return ResNet3D(
        depths=stage_depths(depth, depths),
        width=width,
        expansion=expansion,
        stem_kernel=stem_kernel,
        stem_pool=stem_pool,
        temporal_kernels=FULL_KERNELS if early_temporal else SLOW_KERNELS,
        temporal_blocks=(None, None, res4_temporal_blocks, None),
        output_stride=output_stride,
        dilate=dilate,
        alpha=alpha,
        frame_sampling=frame_sampling,
        norm_eps=norm_eps,
        norm_momentum=norm_momentum,
        zero_init=zero_init,
    )
