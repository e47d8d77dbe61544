"""Writing a network for people who must stay with PySlowFast or MMAction2.

The file is read back before it is kept: what the other framework cannot express is an error, not
a network that answers differently.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from avadet.convert.config_text import read_python_settings, read_yaml_settings
from avadet.convert.facts import from_mmaction2, from_pyslowfast
from avadet.convert.feature_bank import bank_settings
from avadet.convert.layout import Layout
from avadet.convert.recognise import LAYOUTS, differences
from avadet.convert.structure_families import read_family
from avadet.errors import UserError
from avadet.files import atomic_path
from avadet.models.description import ModelDescription, save_weights

TARGETS = ("avadet", "pyslowfast", "mmaction2")


def export(model: nn.Module, path: str | os.PathLike[str], to: str = "avadet") -> None:
    """Writes a network's weights.

    Args:
        model: with its description.
        path: the new file.
        to: "avadet" (safetensors), "pyslowfast" (``.pyth``) or "mmaction2" (``.pth``).

    Raises:
        UserError: an unknown target, or one that cannot express this network: names what differs.
    """
    if to == "avadet":
        save_weights(path, model)
        return
    if to not in TARGETS:
        raise UserError(f"--to: '{to}' is not one of {', '.join(TARGETS)}")
    description: ModelDescription = model.description
    own = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    layout, state = _write(own, to, description)
    text = (
        pyslowfast_settings(description) if to == "pyslowfast" else mmaction2_settings(description)
    )
    _check(state, layout, text, description)
    content: dict[str, Any] = (
        {"epoch": 0, "model_state": state, "cfg": text}
        if to == "pyslowfast"
        else {"meta": {"cfg": text}, "state_dict": state}
    )
    with atomic_path(Path(path)) as temporary:
        torch.save(content, temporary)


def _write(
    own: dict[str, Tensor], to: str, description: ModelDescription
) -> tuple[Layout, dict[str, Tensor]]:
    reasons = []
    for layout in LAYOUTS:
        if layout.source != to or layout.task not in (None, description.task):
            continue
        try:
            state = layout.table.write(own)
        except UserError as error:
            reasons.append(str(error))
            continue
        read_back = layout.table.read(state)
        if layout.recognises(state) and set(read_back.tensors) == set(own):
            return layout, state
    shortest = min(reasons, key=len, default="")
    raise UserError(f"{to} has no network like {description.name}: {shortest}".rstrip(": "))


def _check(
    state: dict[str, Tensor], layout: Layout, text: str, description: ModelDescription
) -> None:
    """Reads the file's content as a stranger would and compares.

    Raises:
        UserError: the other framework would build another network.
    """
    structure = read_family(layout.family, layout.table.read(state).shapes)
    if layout.source == "pyslowfast":
        seen = from_pyslowfast(structure, read_yaml_settings(text), description.name)
    else:
        seen = from_mmaction2(structure, read_python_settings(text), description.name)
    assert seen is not None, "the settings that are written are complete"
    changed = differences(_comparable(description), _comparable(seen))
    if changed:
        raise UserError(
            f"{layout.source} cannot express {description.name}; it would differ in: {changed}"
        )


def _comparable(description: ModelDescription) -> ModelDescription:
    """Without what no file of these frameworks says: names of classes, the window of a test."""
    head = {key: value for key, value in description.head_args.items() if key != "window"}
    return replace(description, class_names=None, class_ids=None, head_args=head)


def _strides(description: ModelDescription) -> tuple[list[int], list[int]]:
    """Spatial strides and dilations of res2..res5."""
    if description.backbone_args.get("output_stride", 32) == 32:
        return [1, 2, 2, 2], [1, 1, 1, 1]
    dilated = description.backbone_args.get("dilate", True)
    return [1, 2, 2, 1], [1, 1, 1, 2 if dilated else 1]


def pyslowfast_settings(description: ModelDescription) -> str:
    """The keys of a PySlowFast config that make this network; the rest are its defaults."""
    args, clip = description.backbone_args, description.preprocessing
    family = description.backbone.split("_")[0]
    paths = 2 if family == "slowfast" else 1
    strides, dilations = _strides(description)
    detection = description.task == "detection"
    stride = args.get("output_stride", 32)
    crop = (description.head_args.get("window") or 7) * stride
    pooled = args.get("res2_pool_t", 2) == 1 and family in ("c2d", "i3d")
    lines = [
        f"AVA:\n  BGR: {str(clip.channel_order == 'bgr').lower()}",
        f"DATA:\n  MEAN: {list(clip.mean)}\n  NUM_FRAMES: {clip.num_frames}",
        f"  SAMPLING_RATE: {clip.frame_stride}\n  STD: {list(clip.std)}",
        f"  INPUT_CHANNEL_NUM: {[3] * paths}",
        f"  TEST_CROP_SIZE: {clip.test_short_side}\n  TRAIN_CROP_SIZE: {crop}",
        f"DETECTION:\n  ALIGNED: {str(bool(description.head_args.get('aligned', True))).lower()}",
        f"  ENABLE: {str(detection).lower()}",
        f"  ROI_XFORM_RESOLUTION: {description.head_args.get('resolution', 7)}",
        f"  SPATIAL_SCALE_FACTOR: {stride}",
        f"MODEL:\n  ARCH: {'slow_' * pooled}{family}\n  HEAD_ACT: {description.activation}",
        f"  MODEL_NAME: {'SlowFast' if paths == 2 else 'ResNet'}",
        f"  NUM_CLASSES: {description.num_classes}",
        f"RESNET:\n  DEPTH: {description.backbone.rsplit('_r', 1)[-1]}",
        f"  SPATIAL_DILATIONS: {[[each] * paths for each in dilations]}",
        f"  SPATIAL_STRIDES: {[[each] * paths for each in strides]}",
    ]
    limit = args.get("res4_temporal_blocks")
    if limit is not None:
        kernels = [[3] * paths, [4] * paths, [limit] * paths, [3] * paths]
        lines.append(f"  NUM_BLOCK_TEMP_KERNEL: {kernels}")
    if attention := args.get("non_local"):
        places = [
            [list(attention["places"].get(stage, []))] + [[]] * (paths - 1)
            for stage in ("res2", "res3", "res4", "res5")
        ]
        pool = [[list(attention.get("pool", [1, 2, 2]))] * paths] * 4
        lines += [
            f"NONLOCAL:\n  INSTANTIATION: {attention.get('kind', 'dot_product')}",
            f"  LOCATION: {places}\n  POOL: {pool}",
        ]
    if paths == 2:
        lines += [
            f"SLOWFAST:\n  ALPHA: {args.get('alpha', 4)}\n  BETA_INV: {args.get('beta_inv', 8)}",
            f"  FUSION_KERNEL_SZ: {args.get('fusion_kernel', 7)}",
        ]
    return "\n".join(lines) + "\n"


_MM_TYPES = {
    "slowfast": "ResNet3dSlowFast",
    "slow": "ResNet3dSlowOnly",
    "i3d": "ResNet3d",
    "ir": "ResNet3dCSN",
    "ip": "ResNet3dCSN",
}


def mmaction2_settings(description: ModelDescription) -> str:
    """An MMAction2 config (Python text) with what makes this network.

    Raises:
        UserError: MMAction2 has no such backbone.
    """
    args, clip = description.backbone_args, description.preprocessing
    family = description.backbone.split("_")[0]
    if family not in _MM_TYPES:
        raise UserError(f"mmaction2 has no 3D network like {description.backbone}")
    strides, dilations = _strides(description)
    detection = description.task == "detection"
    kind = f"mmaction.{_MM_TYPES[family]}" if detection else _MM_TYPES[family]
    backbone: dict[str, Any] = {"type": kind}
    spatial = {"spatial_strides": strides, "dilations": dilations}
    if family == "slowfast":
        alpha = args.get("alpha", 4)
        slow = {"type": "resnet3d", "lateral": True, **spatial}
        slow["fusion_kernel"] = args.get("fusion_kernel", 7)
        fast = {"type": "resnet3d", "lateral": False, "base_channels": 8, **spatial}
        backbone |= {"resample_rate": alpha, "speed_ratio": alpha, "channel_ratio": 8}
        backbone |= {"slow_pathway": slow, "fast_pathway": fast}
    else:
        backbone |= {
            "depth": int(description.backbone.replace("_r", "_").split("_")[-1]),
            **spatial,
        }
    if family == "i3d":
        conv, pool = args.get("stem_strides_t", (1, 1))
        backbone |= {"conv1_kernel": [5, 7, 7], "conv1_stride_t": conv, "pool1_stride_t": pool}
        backbone["with_pool2"] = args.get("res2_pool_t", 2) == 2
    if family in ("ir", "ip"):
        backbone |= {"bottleneck_mode": family, "with_pool2": False}
        backbone["bn_frozen"] = bool(args.get("frozen_norms", False))
    if attention := args.get("non_local"):
        dotted = attention.get("kind") == "dot_product"
        backbone["non_local_cfg"] = {
            "mode": "dot_product" if dotted else "embedded_gaussian",
            "use_scale": not dotted,
            "sub_sample": list(attention.get("pool", [])) == [1, 2, 2],
        }
    model: dict[str, Any] = {
        "backbone": backbone,
        "data_preprocessor": {
            "mean": [round(value * 255, 5) for value in clip.mean],
            "std": [round(value * 255, 5) for value in clip.std],
        },
    }
    if detection:
        extractor = {
            "output_size": description.head_args.get("resolution", 7),
            "temporal_pool_mode": description.head_args.get("temporal_pool", "avg"),
            "with_global": bool(description.head_args.get("context", False)),
        }
        head = {"num_classes": description.num_classes + 1, "background_class": True}
        head["mlp_head"] = "mlp_hidden" in description.head_args
        model["roi_head"] = {"bbox_roi_extractor": extractor, "bbox_head": head}
        if description.head == "feature_bank":
            model["roi_head"]["shared_head"] = bank_settings(description.head_args)
    else:
        model["cls_head"] = {"num_classes": description.num_classes}
    sampler = {"clip_len": clip.num_frames, "frame_interval": clip.frame_stride}
    pipeline = [
        {"type": "SampleAVAFrames" if detection else "SampleFrames", **sampler},
        {"type": "Resize", "scale": [-1, clip.test_short_side]},
    ]
    return f"model = {model!r}\nval_pipeline = {pipeline!r}\n"
