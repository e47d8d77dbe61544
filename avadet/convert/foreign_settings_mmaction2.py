"""The settings that make one of our networks in MMAction2; see ``foreign_settings``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from avadet.convert.feature_bank import bank_settings
from avadet.convert.foreign_settings import BLOCKS, STAGES, depth_of, strides_of
from avadet.errors import UserError
from avadet.models.description import ModelDescription

_MMACTION2 = {
    "slowfast": "ResNet3dSlowFast",
    "slow": "ResNet3dSlowOnly",
    "i3d": "ResNet3d",
    "c2d": "C2D",
    "ir": "ResNet3dCSN",
    "ip": "ResNet3dCSN",
    "r2plus1d": "ResNet2Plus1d",
    "x3d": "X3D",
    "c3d": "C3D",
    "vit": "VisionTransformer",
}
# Channels, blocks and heads of VideoMAE's networks.
_VIT = {"vit_s": (384, 12, 6), "vit_b": (768, 12, 12), "vit_l": (1024, 24, 16)}
_VIT["vit_h"] = (1280, 32, 16)


def mmaction2_settings(description: ModelDescription) -> str:
    """An MMAction2 config (Python text) with what makes this network.

    Raises:
        UserError: MMAction2 has no such backbone.
    """
    clip = description.preprocessing
    family = description.backbone.split("_")[0]
    if family not in _MMACTION2:
        raise UserError(f"mmaction2 has no network like {description.backbone}")
    detection = description.task == "detection"
    backbone = _mm_backbone(description, family)
    if detection:
        backbone["type"] = f"mmaction.{backbone['type']}"
    model: dict[str, Any] = {
        "type": "FastRCNN" if detection else "Recognizer3D",
        "backbone": backbone,
        "data_preprocessor": {
            "type": "ActionDataPreprocessor",
            "mean": [round(value * 255, 5) for value in clip.mean],
            "std": [round(value * 255, 5) for value in clip.std],
            "format_shape": "NCTHW",
        },
    }
    if backbone["type"] == "ResNet":  # pictures one by one
        model["type"] = "Recognizer2D"
        model["data_preprocessor"]["format_shape"] = "NCHW"
    if detection:
        model["roi_head"] = _mm_roi_head(description)
    else:
        model["cls_head"] = _mm_head(description, family)
    sampler = {"clip_len": clip.num_frames, "frame_interval": clip.frame_stride}
    pipeline = [
        {"type": "SampleAVAFrames" if detection else "SampleFrames", **sampler},
        {"type": "Resize", "scale": (-1, clip.test_short_side)},
    ]
    return f"model = {model!r}\nval_pipeline = {pipeline!r}\n"


def _mm_backbone(description: ModelDescription, family: str) -> dict[str, Any]:
    args = description.backbone_args
    backbone: dict[str, Any] = {"type": _MMACTION2[family]}
    if family in ("c3d", "x3d", "vit"):
        return backbone | _mm_other(description, family)
    depth, width = depth_of(description), args.get("width", 64)
    strides, dilations = strides_of(description)
    spatial: dict[str, Any] = {"spatial_strides": strides, "dilations": dilations}
    stem = {"conv1_stride_t": 1, "pool1_stride_t": 1}
    if family == "slowfast":
        alpha, ratio = args.get("alpha", 4), args.get("beta_inv", 8)
        slow = {
            "type": "resnet3d", "depth": depth, "base_channels": width, "lateral": True,
            "lateral_norm": args.get("lateral_norm", True),
            "fusion_kernel": args.get("fusion_kernel", 7), "conv1_kernel": (1, 7, 7),
            "inflate": (0, 0, 1, 1), **stem, **spatial, **_mm_attention(args, depth),
        }  # fmt: skip
        fast = {
            "type": "resnet3d", "depth": args.get("fast_depth", depth), "lateral": False,
            "base_channels": width // ratio, "conv1_kernel": (5, 7, 7), **stem, **spatial,
        }  # fmt: skip
        rates = {"resample_rate": alpha, "speed_ratio": alpha, "channel_ratio": ratio}
        return backbone | rates | {"slow_pathway": slow, "fast_pathway": fast}
    if family == "c2d":
        if args.get("res2_pool_t", 2) == 1:
            return {"type": "ResNet", "depth": depth}
        return backbone | {"depth": depth}
    backbone |= {"depth": depth, "base_channels": width, "pretrained2d": False, **spatial}
    backbone |= _mm_attention(args, depth)
    if family == "slow":
        backbone |= {"conv1_kernel": (1, 7, 7), "inflate": (0, 0, 1, 1), "lateral": False, **stem}
    elif family == "i3d":
        conv, pool = args.get("stem_strides_t", (1, 1))
        backbone |= {"conv1_kernel": (5, 7, 7), "conv1_stride_t": conv, "pool1_stride_t": pool}
        backbone |= {"with_pool2": args.get("res2_pool_t", 2) == 2}
        heavy = args.get("heavy", False)
        backbone["inflate"] = (1, 1, 1, 1) if heavy else _i3d_inflation(BLOCKS[depth])
    elif family == "r2plus1d":
        backbone |= {"conv_cfg": {"type": "Conv2plus1d"}, "norm_cfg": {"type": "BN3d", "eps": 1e-3}}
        backbone |= {"conv1_kernel": (3, 7, 7), "inflate": (1, 1, 1, 1), **stem}
        backbone["temporal_strides"] = (1, 2, 2, 2)
    else:
        backbone |= {"bottleneck_mode": family, "with_pool2": False, "pretrained": None}
        backbone["bn_frozen"] = bool(args.get("frozen_norms", False))
    return backbone


def _i3d_inflation(blocks: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Which blocks have temporal kernels: all, then every other one, the last stage from its
    second on."""
    starts = (1, 1, 1, 0)
    return tuple(
        tuple(1 if stage == 0 else (b + first) % 2 for b in range(count))
        for stage, (count, first) in enumerate(zip(blocks, starts, strict=True))
    )


def _mm_attention(args: dict[str, Any], depth: int) -> dict[str, Any]:
    attention = args.get("non_local")
    if not attention:
        return {}
    kind = attention.get("kind", "dot_product")
    places = attention["places"]
    return {
        "non_local": tuple(
            tuple(int(b in places.get(stage, ())) for b in range(count))
            for stage, count in zip(STAGES, BLOCKS[depth], strict=True)
        ),
        "non_local_cfg": {
            "mode": "embedded_gaussian" if kind == "softmax" else kind,
            "use_scale": kind == "softmax",
            "sub_sample": list(attention.get("pool", [])) == [1, 2, 2],
            "norm_cfg": {"type": "BN3d", "requires_grad": True},
        },
    }


def _mm_other(description: ModelDescription, family: str) -> dict[str, Any]:
    """C3D, X3D and VideoMAE's transformers."""
    if family == "c3d":
        return {"style": "pytorch", "conv_cfg": {"type": "Conv3d"}, "norm_cfg": None}
    if family == "x3d":
        return {
            "gamma_w": 1,
            "gamma_b": 2.25,
            "gamma_d": 5.0 if description.backbone == "x3d_l" else 2.2,
        }
    if description.backbone not in _VIT:
        raise UserError(f"mmaction2 has no settings for {description.backbone}")
    width, depth, heads = _VIT[description.backbone]
    return {
        "img_size": 224, "patch_size": 16, "embed_dims": width, "depth": depth,
        "num_heads": heads, "mlp_ratio": 4, "qkv_bias": True,
        "num_frames": description.backbone_args.get("frames", 16),
        "norm_cfg": {"type": "LN", "eps": 1e-6},
        **(
            {"use_mean_pooling": False, "return_feat_map": True}
            if description.task == "detection"
            else {}
        ),
    }  # fmt: skip


def _channels(description: ModelDescription, family: str) -> int:
    if family == "vit":
        return _VIT[description.backbone][0]
    if family in ("x3d", "c3d"):
        return {"x3d": 432, "c3d": 4096}[family]
    width = description.backbone_args.get("width", 64)
    if family == "r2plus1d" and depth_of(description) < 50:
        return 8 * width
    thin = width // description.backbone_args.get("beta_inv", 8)
    return 32 * (width + (thin if family == "slowfast" else 0))


def _mm_head(description: ModelDescription, family: str) -> dict[str, Any]:
    kinds = {"slowfast": "SlowFastHead", "x3d": "X3DHead", "vit": "TimeSformerHead"}
    head: dict[str, Any] = {
        "type": kinds.get(family, "I3DHead"),
        "num_classes": description.num_classes,
        "in_channels": _channels(description, family),
        "average_clips": "prob",
    }
    if family == "c2d" and description.backbone_args.get("res2_pool_t", 2) == 1:
        head |= {"type": "TSNHead", "consensus": {"type": "AvgConsensus", "dim": 1}}
    if family != "vit":
        head["spatial_type"] = None if family == "c3d" else "avg"
    if family == "x3d":
        head["fc1_bias"] = False
    return head


def _mm_roi_head(description: ModelDescription) -> dict[str, Any]:
    args = description.head_args
    features = _channels(description, description.backbone.split("_")[0])
    pooled = args.get("temporal_pool", "avg")
    context = bool(args.get("context", False))
    head: dict[str, Any] = {
        "type": "BBoxHeadAVA",
        "background_class": True,
        "in_channels": features * (2 if context else 1),
        "num_classes": description.num_classes + 1,
        "multilabel": True,
    }
    if "mlp_hidden" in args:
        head["mlp_head"] = True
    roi_head: dict[str, Any] = {
        "type": "AVARoIHead",
        "bbox_roi_extractor": {
            "type": "SingleRoIExtractor3D",
            "roi_layer_type": "RoIAlign",
            "output_size": args.get("resolution", 7),
            "with_temporal_pool": True,
            "temporal_pool_mode": pooled,
            "with_global": context,
        },
        "bbox_head": head,
    }
    if description.head == "acrn":
        shared = {"type": "ACRNHead", "in_channels": 2 * features, "out_channels": features}
        roi_head["shared_head"] = shared
    elif description.head == "feature_bank":
        roi_head["shared_head"] = bank_settings(args)
    return roi_head
