"""The settings that make one of our networks in PySlowFast (MMAction2's: the file beside this).

They travel inside an exported checkpoint, so that whoever reads it builds the network it is of:
the other framework, and ``load_model``. Keys that are left out have the framework's defaults.
"""

from __future__ import annotations

from avadet.errors import UserError
from avadet.models.description import ModelDescription

STAGES = ("res2", "res3", "res4", "res5")
BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def depth_of(description: ModelDescription) -> int:
    """Layers of a ResNet-like backbone, by its name.

    Raises:
        UserError: its blocks are none of a published depth.
    """
    if "depths" in description.backbone_args or not description.backbone[-1].isdigit():
        raise UserError(
            f"{description.name}: only networks of published depths have settings elsewhere, not "
            f"{description.backbone} {description.backbone_args.get('depths', '')}".rstrip()
        )
    return int(description.backbone.replace("_r", "_").split("_")[-1])


def strides_of(description: ModelDescription) -> tuple[list[int], list[int]]:
    """Spatial strides and dilations of res2..res5."""
    if description.backbone_args.get("output_stride", 32) == 32:
        return [1, 2, 2, 2], [1, 1, 1, 1]
    dilated = description.backbone_args.get("dilate", True)
    return [1, 2, 2, 1], [1, 1, 1, 2 if dilated else 1]


# ------------------------------------------------------------------------------ PySlowFast

_PYSLOWFAST = {
    "slowfast": ("slowfast", "SlowFast"),
    "slow": ("slow", "ResNet"),
    "c2d": ("c2d", "ResNet"),
    "i3d": ("i3d", "ResNet"),
    "x3d": ("x3d", "X3D"),
    "mvit": ("mvit", "MViT"),
}


def pyslowfast_settings(description: ModelDescription) -> str:
    """A PySlowFast config (YAML text) with what makes this network.

    Raises:
        UserError: PySlowFast has no such backbone.
    """
    args, clip = description.backbone_args, description.preprocessing
    family = description.backbone.split("_")[0]
    if family not in _PYSLOWFAST:
        raise UserError(f"pyslowfast has no network like {description.backbone}")
    arch, name = _PYSLOWFAST[family]
    detection = description.task == "detection"
    stride = args.get("output_stride", 32)
    crop = (description.head_args.get("window") or 7) * stride
    if family == "mvit":
        crop = args.get("crop", 312 if description.backbone == "mvit_v2_l" else 224)
    if family in ("c2d", "i3d") and args.get("res2_pool_t", 2) == 1:
        arch = f"slow_{arch}"  # the family without the pool after res2
    lines = [
        f"AVA:\n  BGR: {_word(clip.channel_order == 'bgr')}",
        f"DATA:\n  MEAN: {list(clip.mean)}\n  NUM_FRAMES: {clip.num_frames}",
        f"  SAMPLING_RATE: {clip.frame_stride}\n  STD: {list(clip.std)}",
        f"  INPUT_CHANNEL_NUM: {[3] * _pathways(family)}",
        f"  TEST_CROP_SIZE: {clip.test_short_side}\n  TRAIN_CROP_SIZE: {crop}",
        f"  TRAIN_JITTER_SCALES: [{clip.test_scale(1)}, {round(1.25 * clip.test_scale(1))}]",
        f"DETECTION:\n  ALIGNED: {_word(description.head_args.get('aligned', True))}",
        f"  ENABLE: {_word(detection)}",
        f"  ROI_XFORM_RESOLUTION: {description.head_args.get('resolution', 7)}",
        f"  SPATIAL_SCALE_FACTOR: {stride}",
        f"MODEL:\n  ARCH: {arch}\n  HEAD_ACT: {description.activation}",
        f"  MODEL_NAME: {name}\n  NUM_CLASSES: {description.num_classes}",
    ]
    if family == "mvit":
        lines += _mvit_lines(description)
    elif family == "x3d":
        lines += _x3d_lines(description)
    else:
        lines += _resnet_lines(description, _pathways(family))
    return "\n".join(lines) + "\n"


def _word(value: object) -> str:
    return str(bool(value)).lower()


def _pathways(family: str) -> int:
    return 2 if family == "slowfast" else 1


def _resnet_lines(description: ModelDescription, paths: int) -> list[str]:
    args, depth = description.backbone_args, depth_of(description)
    if depth not in (50, 101):
        raise UserError(f"pyslowfast has ResNets of 50 and 101 layers, not of {depth}")
    strides, dilations = strides_of(description)
    lines = [
        f"RESNET:\n  DEPTH: {depth}",
        f"  WIDTH_PER_GROUP: {args.get('width', 64)}",
        f"  SPATIAL_DILATIONS: {[[each] * paths for each in dilations]}",
        f"  SPATIAL_STRIDES: {[[each] * paths for each in strides]}",
    ]
    blocks = BLOCKS[depth]
    limit = args.get("res4_temporal_blocks") or blocks[2]
    fast = args.get("fast_res4_temporal_blocks") or limit
    kernels = [[count] * paths for count in blocks]
    kernels[2] = [limit, fast][:paths]
    lines.append(f"  NUM_BLOCK_TEMP_KERNEL: {kernels}")
    attention = args.get("non_local") or {"places": {}}
    places = [[list(attention["places"].get(stage, []))] + [[]] * (paths - 1) for stage in STAGES]
    pool = [[list(attention.get("pool", [1, 2, 2]))] * paths] * 4
    lines += [
        f"NONLOCAL:\n  INSTANTIATION: {attention.get('kind', 'dot_product')}",
        f"  LOCATION: {places}\n  POOL: {pool}\n  GROUP: {[[1] * paths] * 4}",
    ]
    if paths == 2:
        lines += [
            f"SLOWFAST:\n  ALPHA: {args.get('alpha', 4)}\n  BETA_INV: {args.get('beta_inv', 8)}",
            f"  FUSION_KERNEL_SZ: {args.get('fusion_kernel', 7)}",
        ]
    return lines


def _x3d_lines(description: ModelDescription) -> list[str]:
    deep = 5.0 if description.backbone == "x3d_l" else 2.2
    return [
        f"X3D:\n  WIDTH_FACTOR: 2.0\n  DEPTH_FACTOR: {deep}\n  BOTTLENECK_FACTOR: 2.25",
        f"  DIM_C5: {description.head_args.get('mlp_hidden', 2048)}\n  DIM_C1: 12",
        "RESNET:\n  DEPTH: 50\n  NUM_GROUPS: 1\n  TRANS_FUNC: x3d_transform\n  STRIDE_1X1: false",
    ]


# Blocks, channels, heads and stages of the MViTs that PySlowFast has settings of.
_MVIT: dict[str, tuple[int, int, int, tuple[int, ...]]] = {
    "mvit_v1_b": (16, 96, 1, (1, 3, 14)),
    "mvit_v1_b24": (24, 96, 1, (2, 5, 21)),
    "mvit_v2_s": (16, 96, 1, (1, 3, 14)),
    "mvit_v2_b": (24, 96, 1, (2, 5, 21)),
    "mvit_v2_l": (48, 144, 2, (2, 8, 44)),
}


def _mvit_lines(description: ModelDescription) -> list[str]:
    args = description.backbone_args
    if description.backbone not in _MVIT:
        raise UserError(f"pyslowfast has no settings for {description.backbone}")
    depth, width, heads, stages = _MVIT[description.backbone]
    second = description.backbone.startswith("mvit_v2")
    doubled = [[stage, 2.0] for stage in stages]
    last = 1 if args.get("output_stride", 32) == 16 else 2
    steps = dict.fromkeys(stages[:-1], 2) | {stages[-1]: last}
    # v2 pools queries in every block.
    queries = [
        [b, 1, steps.get(b, 1), steps.get(b, 1)] for b in range(depth) if second or b in steps
    ]
    kernel = args.get("pool_kernel", None if description.backbone == "mvit_v1_b24" else 3)
    lines = [
        f"MVIT:\n  DEPTH: {depth}\n  EMBED_DIM: {width}\n  NUM_HEADS: {heads}",
        "  PATCH_KERNEL: [3, 7, 7]\n  PATCH_STRIDE: [2, 4, 4]\n  PATCH_PADDING: [1, 3, 3]",
        "  MLP_RATIO: 4.0\n  QKV_BIAS: true\n  NORM: layernorm\n  MODE: conv",
        f"  CLS_EMBED_ON: true\n  DIM_MUL: {doubled}\n  HEAD_MUL: {doubled}",
        f"  POOL_KV_STRIDE_ADAPTIVE: [1, 8, 8]\n  POOL_Q_STRIDE: {queries}",
        f"  USE_MEAN_POOLING: {_word(args.get('output') == 'mean')}",
        f"  USE_ABS_POS: {_word(not second)}\n  SEP_POS_EMBED: {_word(not second)}",
        f"  REL_POS_SPATIAL: {_word(second)}\n  REL_POS_TEMPORAL: {_word(second)}",
        f"  DIM_MUL_IN_ATT: {_word(second)}\n  RESIDUAL_POOLING: {_word(second)}",
    ]
    if kernel is not None:
        lines.append(f"  POOL_KVQ_KERNEL: {[kernel] * 3}")
    return lines
