"""What shapes do not show of a transformer, read from the settings inside a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from avadet.convert.config_text import lookup
from avadet.convert.structure import Structure
from avadet.errors import UserError

Settings = Mapping[str, Any]


def mvit_args(structure: Structure, cfg: Settings, detection: bool) -> dict[str, Any]:
    """Arguments of the backbone by PySlowFast's ``MVIT`` settings.

    Raises:
        UserError: the config asks for an MViT that avadet does not have.
    """
    second = not structure.backbone.startswith("mvit_v1")
    # What each version must have; absent settings have PySlowFast's defaults.
    wanted = {
        "MODE": ("conv", "conv"),
        "POOL_FIRST": (False, False),
        "CLS_EMBED_ON": (True, True),
        "PATCH_2D": (False, False),
        "NORM_STEM": (False, False),
        "RESIDUAL_POOLING": (second, False),
        "DIM_MUL_IN_ATT": (second, False),
        "USE_FIXED_SINCOS_POS": (False, False),
        "POOL_KV_STRIDE_ADAPTIVE": ([1, 8, 8], [1, 8, 8]),
        "PATCH_STRIDE": ([2, 4, 4], [2, 4, 4]),
    }
    for key, (value, default) in wanted.items():
        got = lookup(cfg, f"MVIT.{key}")
        got = default if got is None else got
        if got != value:
            raise UserError(
                f"its MVIT.{key} is {got}; avadet has {structure.backbone} with {value}"
            )
    args = dict(structure.args)
    side = 4
    for each in lookup(cfg, "MVIT.POOL_Q_STRIDE") or []:
        side *= int(each[-1])
    if side == 16:
        args["output_stride"] = 16
    mean = bool(lookup(cfg, "MVIT.USE_MEAN_POOLING"))
    args["output"] = "map" if detection else "mean" if mean else "token"
    return args


def vit_args(structure: Structure, backbone: Settings, detection: bool) -> dict[str, Any]:
    """Arguments of the backbone by MMAction2's ``VisionTransformer`` settings.

    Raises:
        UserError: the config asks for a ViT that avadet does not have.
    """
    if int(backbone.get("patch_size", 16)) != 16 or int(backbone.get("tubelet_size", 2)) != 2:
        raise UserError("its tokens are not of 2 frames of 16 x 16 pixels")
    args = dict(structure.args)
    if detection:
        args["output_stride"] = 16
    args["output"] = "map" if detection else "mean"
    return args
