"""What shapes do not show, read from the settings inside a checkpoint.

PySlowFast's config and MMAction2's give alpha, strides, dilation, pools, RoIAlign, frames, means:
every switch of the architecture. A setting that is absent has its framework's default.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from avadet.convert.architectures import GREY
from avadet.convert.config_text import find_all, lookup
from avadet.convert.datasets import DATASETS, class_ids, class_names
from avadet.convert.facts_transformers import mvit_args, vit_args
from avadet.convert.feature_bank import with_bank
from avadet.convert.structure import Structure
from avadet.errors import UserError
from avadet.models.description import ModelDescription
from avadet.models.preprocess import Preprocessing

Settings = Mapping[str, Any]


def from_pyslowfast(
    structure: Structure, cfg: Settings, name: str, layout: str = "pyslowfast"
) -> ModelDescription | None:
    """The description that a PySlowFast config gives; None when the text is no such config.

    Args:
        layout: whose names the tensors have; PySlowFast also runs PyTorchVideo's networks.

    Raises:
        UserError: the config asks for what avadet does not have.
    """
    if lookup(cfg, "DATA.NUM_FRAMES") is None or lookup(cfg, "MODEL.ARCH") is None:
        return None
    get = partial(lookup, cfg)
    detection = bool(get("DETECTION.ENABLE", False))
    args = dict(structure.args)
    strides = [_first(each) for each in get("RESNET.SPATIAL_STRIDES", [[1], [2], [2], [2]])]
    dilations = [_first(each) for each in get("RESNET.SPATIAL_DILATIONS", [[1], [1], [1], [1]])]
    total = 4 * math.prod(strides)
    if total != 32:
        args["output_stride"] = total
        if dilations[-1] == 1:
            args["dilate"] = False
    if structure.backbone.startswith("slowfast"):
        args["alpha"] = int(get("SLOWFAST.ALPHA", 8))
    nopool = "nopool" in str(get("MODEL.MODEL_NAME", "")).lower()
    if structure.backbone[:3] in ("c2d", "i3d") and (
        nopool or str(get("MODEL.ARCH", "")).startswith("slow_")
    ):
        args["res2_pool_t"] = 1
    if "non_local" in args:
        args["non_local"] = {
            **args["non_local"],
            "kind": str(get("NONLOCAL.INSTANTIATION", "dot_product")),
            "pool": _pool(cfg, args["non_local"]["places"]),
            "pool_first": True,
        }
    if structure.backbone.startswith("mvit"):
        args = mvit_args(structure, cfg, detection)
    if layout == "pytorchvideo" and structure.backbone.startswith("ir_csn"):
        args["norm_eps"] = 1e-5
    bgr = bool(get("AVA.BGR", False))
    side = int(get("DATA.TEST_CROP_SIZE", 256))
    # PySlowFast scales to the smallest side of training where a test cuts one crop only.
    smallest = int(min(get("DATA.TRAIN_JITTER_SCALES", (256, 320))))
    preprocessing = Preprocessing(
        num_frames=int(get("DATA.NUM_FRAMES", 8)),
        frame_stride=int(get("DATA.SAMPLING_RATE", 8)),
        test_short_side=side,
        one_crop_side=smallest if smallest > side and not detection else None,
        mean=tuple(get("DATA.MEAN", GREY[0])),
        std=tuple(get("DATA.STD", GREY[1])),
        channel_order="bgr" if bgr else "rgb",
    )
    head: dict[str, Any] = {}
    if detection:
        head = {"aligned": bool(get("DETECTION.ALIGNED", True))}
        resolution = int(get("DETECTION.ROI_XFORM_RESOLUTION", 7))
        if resolution != 7:
            head["resolution"] = resolution
    elif not structure.backbone.startswith("mvit"):
        crop = int(get("DATA.TRAIN_CROP_SIZE", 224))
        # X3D's layers round up.
        cells = -(-crop // total) if structure.backbone.startswith("x3d") else crop // total
        head = {"window": cells}
    # PyTorchVideo's reader of Charades is called ptvcharades there.
    data = str(get("TEST.DATASET", get("TRAIN.DATASET", ""))).lower().removeprefix("ptv")
    activation = str(get("MODEL.HEAD_ACT", "softmax"))
    return _finish(
        structure, name, detection, args, head, preprocessing, activation, data, "pyslowfast"
    )


def from_mmaction2(structure: Structure, cfg: Settings, name: str) -> ModelDescription | None:
    """The description that an MMAction2 config gives; None when the text is no such config.

    Raises:
        UserError: the config asks for what avadet does not have.
    """
    backbone = lookup(cfg, "model.backbone")
    if not isinstance(backbone, Mapping) or "type" not in backbone:
        return None
    kind = str(backbone["type"]).split(".")[-1]
    roi_head = lookup(cfg, "model.roi_head")
    args = dict(structure.args)
    slow = backbone.get("slow_pathway") or {} if kind == "ResNet3dSlowFast" else backbone
    strides = [int(each) for each in slow.get("spatial_strides", (1, 2, 2, 2))]
    total = 4 * math.prod(strides)
    if total != 32:
        args["output_stride"] = total
        if max(slow.get("dilations", (1,))) == 1:
            args["dilate"] = False
    if structure.backbone.startswith("vit"):
        args = vit_args(structure, backbone, bool(roi_head))
    elif kind == "ResNet3dSlowFast":
        args["alpha"] = int(backbone.get("speed_ratio", 8))
        if "beta_inv" in args and not roi_head:
            raise UserError("its classifier mixes pathways in an order that is known for 1/8 only")
        if int(backbone.get("resample_rate", 8)) != args["alpha"]:
            raise UserError(
                f"its resample_rate {backbone.get('resample_rate')} is not its speed_ratio "
                f"{args['alpha']}: the Fast pathway leaves out frames, which avadet's does not"
            )
        args["slow_sampling"] = "stride"
    elif kind == "ResNet3d":
        stem = [int(backbone.get(f"{layer}_stride_t", 1)) for layer in ("conv1", "pool1")]
        if stem != [1, 1]:
            args["stem_strides_t"] = stem
        if not backbone.get("with_pool2", True):
            args["res2_pool_t"] = 1
    elif kind in ("C2D", "ResNet"):
        # Pictures of a clip, one by one; TSN's classifier averages over them as C2D's pool does.
        args |= {"stem_pool_padding": 0} if kind == "C2D" else {"res2_pool_t": 1}
    elif kind == "ResNet3dCSN" and backbone.get("bn_frozen"):
        args["frozen_norms"] = True
    if "non_local" in args:
        args["non_local"] = {**args["non_local"], **_mm_attention(backbone)}
    mean = lookup(cfg, "model.data_preprocessor.mean")
    std = lookup(cfg, "model.data_preprocessor.std")
    frames, stride, side = _mm_clip(cfg)
    if mean is None or std is None or frames is None:
        return None
    preprocessing = Preprocessing(
        num_frames=frames,
        frame_stride=stride,
        test_short_side=side,
        mean=tuple(round(value / 255, 6) for value in mean),
        std=tuple(round(value / 255, 6) for value in std),
    )
    head: dict[str, Any] = {}
    if roi_head:
        extractor = roi_head.get("bbox_roi_extractor") or {}
        structure = with_bank(structure, roi_head)
        head = {"resolution": int(extractor.get("output_size", 8)), "aligned": True}
        if extractor.get("temporal_pool_mode", "avg") == "max":
            head["temporal_pool"] = "max"
    activation = "sigmoid" if roi_head else "softmax"
    # Kinetics is read by classes of general names.
    data = str(cfg.get("dataset_type", "")).lower()
    data = "" if data in ("videodataset", "rawframedataset") else data
    return _finish(
        structure, name, bool(roi_head), args, head, preprocessing, activation, data, "mmaction2"
    )


def _finish(
    structure: Structure,
    name: str,
    detection: bool,
    args: dict[str, Any],
    head: dict[str, Any],
    preprocessing: Preprocessing,
    activation: str,
    data: str,
    source: str,
) -> ModelDescription:
    key = _dataset(structure.num_classes, detection, activation, data)
    if key is not None:
        preprocessing = replace(preprocessing, fps=DATASETS[key].fps)
    return ModelDescription(
        name=name,
        task="detection" if detection else "classification",
        backbone=structure.backbone,
        num_classes=structure.num_classes,
        preprocessing=preprocessing,
        activation=activation,
        backbone_args=args,
        head=structure.head or ("roi" if detection else "pool"),
        head_args={**head, **structure.head_args},
        class_names=class_names(key) if key else None,
        class_ids=class_ids(key) if key else None,
        source=source,
    )


def _dataset(num_classes: int, detection: bool, activation: str, data: str) -> str | None:
    """The data set whose classes these are: by their number, unless the settings name another."""
    keys = {80: "ava22"} if detection else {400: "k400", 600: "k600", 700: "k700", 157: "charades"}
    key = keys.get(num_classes)
    if key is None or (key == "charades" and activation != "sigmoid"):
        return None
    named = {"ava22": "ava", "charades": "charades"}.get(key, "kinetics")
    return key if not data or data.startswith(named) else None


def _first(value: Any) -> int:
    return int(value[0]) if isinstance(value, list | tuple) else int(value)


def _pool(cfg: Settings, places: Mapping[str, Any]) -> list[int]:
    """The pool of the non-local blocks on the slow pathway; all used stages must agree."""
    table = lookup(cfg, "NONLOCAL.POOL")
    if table is None:
        return [1, 2, 2]
    sizes = {tuple(table[int(stage[3]) - 2][0]) for stage in places}
    if len(sizes) != 1:
        raise UserError(f"its non-local blocks pool differently by stage ({sorted(sizes)})")
    return [int(side) for side in sizes.pop()]


def _mm_attention(backbone: Settings) -> dict[str, Any]:
    cfg = backbone.get("non_local_cfg") or {}
    mode, scale = cfg.get("mode", "embedded_gaussian"), cfg.get("use_scale", True)
    if mode in ("dot_product", "gaussian"):
        kind = mode
    elif mode == "embedded_gaussian":
        kind = "softmax" if scale else mode
    else:
        raise UserError(f"its non-local blocks are of mode '{mode}', which avadet does not have")
    pool = [1, 2, 2] if cfg.get("sub_sample", True) else [1, 1, 1]
    return {"kind": kind, "pool": pool, "pool_first": False}


def _mm_clip(cfg: Settings) -> tuple[int | None, int, int]:
    """Frames, stride and short side of the test pipeline; None when it is not there."""
    for key in ("test_pipeline", "val_pipeline", "test_dataloader", "val_dataloader", "data"):
        part = cfg.get(key)
        lengths = [value for value in find_all(part, "clip_len") if isinstance(value, int)]
        if not lengths:
            continue
        strides = [value for value in find_all(part, "frame_interval") if isinstance(value, int)]
        scales = [v for v in find_all(part, "scale") if isinstance(v, list) and len(v) == 2]
        side = (
            int(max(1, scales[0][1] if scales[0][0] == -1 else min(scales[0]))) if scales else 256
        )
        return lengths[-1], strides[-1] if strides else 1, side
    return None, 1, 256
