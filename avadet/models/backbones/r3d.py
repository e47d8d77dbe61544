"""Where is 3D convolution needed? R2D, f-R2D, R3D, MCx, rMCx, R(2+1)D, and P3D.

From Tran et al. (CVPR 2018) and Qiu et al. (ICCV 2017). One residual network (``ResNet3D``), whose
members differ by which stages convolve over time and by the maker of the 3x3x3 layers. Published
at 112 pixels: no pool after the stem, so that the last map has stride 16 as it stands. Time is
halved in conv3, conv4 and conv5 where these are 3D.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from avadet.errors import UserError
from avadet.models.backbones.factorised import factorised, fixed_middle, pseudo_units
from avadet.models.backbones.resnet3d import DEPTHS, ResNet3D, stage_depths
from avadet.models.layers import ConvMaker, plain_conv

BASIC_DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
_MIDDLE_OF_STEM = 45


def _blocks(depth: int, depths: Sequence[int] | None) -> tuple[str, tuple[int, ...]]:
    """Sort of block and blocks per stage: 18 and 34 layers have basic blocks."""
    if depth in BASIC_DEPTHS:
        return "basic", tuple(depths) if depths is not None else BASIC_DEPTHS[depth]
    if depth not in DEPTHS and depths is None:
        raise UserError(f"depth: {depth} is not one of {sorted(BASIC_DEPTHS | DEPTHS)}")
    return "bottleneck", stage_depths(depth, depths)


def _natural(output_stride: int | None, stem_stride: int) -> int:
    return stem_stride * 8 if output_stride is None else output_stride


def mixed(
    *,
    depth: int = 18,
    depths: Sequence[int] | None = None,
    width: int = 64,
    expansion: int | None = None,
    temporal: Sequence[bool] = (True, True, True, True, True),
    stem_stride: int = 2,
    stem_pool: bool = True,
    temporal_strides: Sequence[int] | None = None,
    output_stride: int | None = None,
    dilate: bool = True,
    norm_eps: float = 1e-3,
    norm_momentum: float = 0.1,
    zero_init: bool = True,
) -> ResNet3D:
    """R3D, MCx, rMCx and f-R2D: which of stem and res2..res5 are 3D.

    Args:
        depth: 18, 34 (basic blocks), 50, 101 or 152 (bottlenecks).
        temporal: for stem, res2, res3, res4, res5: 3 x 3 x 3, or 1 x 3 x 3 without it.
        temporal_strides: of res2..res5; None takes 1, then 2 wherever a stage is 3D.
        output_stride: None takes what the network has by itself: 8 times ``stem_stride``.
        norm_eps: 1e-3 in VMZ, 1e-5 in torchvision.
        others: as in ``ResNet3D``.
    """
    block, counts = _blocks(depth, depths)
    default = [2 if i > 0 and is_3d else 1 for i, is_3d in enumerate(temporal[1:])]
    return ResNet3D(
        depths=counts,
        width=width,
        expansion=expansion or (1 if block == "basic" else 4),
        stem_kernel=(3 if temporal[0] else 1, 7, 7),
        stem_stride=stem_stride,
        stem_pool=stem_pool,
        temporal_kernels=[(3 if is_3d else 1,) for is_3d in temporal[1:]],
        temporal_at="b",
        temporal_strides=default if temporal_strides is None else temporal_strides,
        output_stride=_natural(output_stride, stem_stride),
        dilate=dilate,
        block=block,
        norm_eps=norm_eps,
        norm_momentum=norm_momentum,
        zero_init=zero_init,
    )


def mixed_stages(name: str) -> tuple[bool, ...]:
    """Which of stem and res2..res5 are 3D in "r3d", "f_r2d", "mc2".."mc5", "rmc2".."rmc5".

    MCx is 3D in its first x-1 groups, rMCx in the others.
    """
    if name == "r3d":
        return (True,) * 5
    if name == "f_r2d":
        return (False,) * 5
    first = int(name[-1]) - 1
    early = name.startswith("mc")
    return tuple((group < first) == early for group in range(5))


class FramesAsChannels(ResNet3D):
    """R2D: a 2D network over a picture of 3T channels; its map has one frame.

    Shape: (B,3,T,H,W) -> ((B,C,1,H/stride,W/stride),).
    """

    num_frames: int

    def forward(self, video: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
        clip = video if isinstance(video, Tensor) else video[0]
        if clip.shape[2] != self.num_frames:
            raise UserError(
                f"R2D is made for clips of {self.num_frames} frames, this one has {clip.shape[2]}; "
                "set the backbone's num_frames"
            )
        return super().forward(clip.flatten(1, 2).unsqueeze(2))  # (B,3T,1,H,W)


def r2d(
    *,
    depth: int = 18,
    depths: Sequence[int] | None = None,
    num_frames: int = 16,
    width: int = 64,
    expansion: int | None = None,
    stem_stride: int = 2,
    stem_pool: bool = True,
    output_stride: int | None = None,
    dilate: bool = True,
    norm_eps: float = 1e-3,
    norm_momentum: float = 0.1,
    zero_init: bool = True,
) -> FramesAsChannels:
    """R2D: all ``num_frames`` frames enter as channels of a 2D network."""
    block, counts = _blocks(depth, depths)
    network = FramesAsChannels(
        depths=counts,
        width=width,
        expansion=expansion or (1 if block == "basic" else 4),
        in_channels=3 * num_frames,
        stem_kernel=(1, 7, 7),
        stem_stride=stem_stride,
        stem_pool=stem_pool,
        temporal_kernels=((1,), (1,), (1,), (1,)),
        output_stride=_natural(output_stride, stem_stride),
        dilate=dilate,
        block=block,
        norm_eps=norm_eps,
        norm_momentum=norm_momentum,
        zero_init=zero_init,
    )
    network.num_frames = num_frames
    return network


def r2plus1d(
    *,
    depth: int = 18,
    depths: Sequence[int] | None = None,
    width: int = 64,
    expansion: int | None = None,
    stem: str = "fixed",
    stem_stride: int | None = None,
    stem_pool: bool = True,
    res2_stride: int = 1,
    temporal_strides: Sequence[int] = (1, 2, 2, 2),
    middle: str = "matched",
    order: str = "spatial_first",
    factorised_shortcuts: bool = False,
    output_stride: int | None = None,
    dilate: bool = True,
    norm_eps: float = 1e-3,
    inner_norm_eps: float | None = None,
    norm_momentum: float = 0.1,
    zero_init: bool = True,
) -> ResNet3D:
    """R(2+1)D: every 3x3x3 layer is 1x3x3, norm, ReLU, 3x1x1.

    Args:
        depth: 18, 34 (basic blocks), 50, 101 or 152 (bottlenecks).
        stem: "fixed" (45 channels between its parts: VMZ), "matched" (83: MMAction2) or "plain"
            (1x7x7 alone: PyTorchVideo).
        stem_stride: 2 (no pool) or 4; None takes 2 for basic blocks and 4 for bottlenecks, as VMZ.
        middle, order: see ``factorised.factorised``.
        factorised_shortcuts: also the shortcuts' 1x1x1 convolutions (MMAction2).
        output_stride: None takes what the network has by itself.
        norm_eps, inner_norm_eps: of the norms after the layers and of those between the parts of a
            layer (None: the same). VMZ 1e-3, MMAction2 1e-3 and 1e-5, PyTorchVideo 1e-5.
        others: as in ``ResNet3D``.

    Raises:
        UserError: an unknown ``stem``, ``middle``, ``order`` or ``depth``.
    """
    block, counts = _blocks(depth, depths)
    maker = factorised(middle, order, inner_norm_eps)
    stems: dict[str, ConvMaker] = {
        "fixed": fixed_middle(_MIDDLE_OF_STEM, inner_norm_eps),
        "matched": factorised("matched", norm_eps=inner_norm_eps),
        "plain": plain_conv,
    }
    if stem not in stems:
        raise UserError(f"stem: '{stem}' is not one of {', '.join(stems)}")
    stem_stride = stem_stride or (2 if block == "basic" else 4)
    return ResNet3D(
        depths=counts,
        width=width,
        expansion=expansion or (1 if block == "basic" else 4),
        stem_kernel=(1 if stem == "plain" else 3, 7, 7),
        stem_stride=stem_stride,
        stem_maker=stems[stem],
        stem_pool=stem_pool,
        res2_stride=res2_stride,
        temporal_kernels=((3,), (3,), (3,), (3,)),
        temporal_at="b",
        temporal_strides=temporal_strides,
        output_stride=_natural(output_stride, stem_stride * res2_stride),
        dilate=dilate,
        block=block,
        conv_maker=maker,
        shortcut_maker=maker if factorised_shortcuts else plain_conv,
        norm_eps=norm_eps,
        norm_momentum=norm_momentum,
        zero_init=zero_init,
    )


def p3d(
    *,
    depth: int = 50,
    depths: Sequence[int] | None = None,
    width: int = 64,
    expansion: int = 4,
    stem_pool: bool = True,
    temporal_strides: Sequence[int] = (1, 2, 2, 2),
    output_stride: int = 32,
    dilate: bool = True,
    norm_eps: float = 1e-5,
    norm_momentum: float = 0.1,
    zero_init: bool = True,
) -> ResNet3D:
    """P3D ResNet: units A, B, C in turn through res2..res4, a 2D res5 (Qiu et al., ICCV 2017).

    P3D-63 is ResNet-50 with its 13 temporal layers, P3D-199 ResNet-152 with 47.
    """
    counts = stage_depths(depth, depths)
    return ResNet3D(
        depths=counts,
        width=width,
        expansion=expansion,
        stem_kernel=(1, 7, 7),
        stem_pool=stem_pool,
        stem_strides_t=(1, 2),
        temporal_kernels=((3,), (3,), (3,), (1,)),
        temporal_at="b",
        temporal_strides=temporal_strides,
        output_stride=output_stride,
        dilate=dilate,
        conv_maker=pseudo_units(counts),
        norm_eps=norm_eps,
        norm_momentum=norm_momentum,
        zero_init=zero_init,
    )
