"""What the tensors of MViT and of plain ViT tell about the network."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from avadet.convert.rules import Shape
from avadet.convert.structure import Structure
from avadet.errors import UserError
from avadet.models.backbones.vit import PATCH, TUBELET

# (version, blocks, stages, channels of the first tokens) -> registered name, frames and crop by
# default.
_MVIT: dict[tuple[int, int, tuple[int, ...], int], tuple[str, int, int]] = {
    (1, 16, (1, 3, 14), 96): ("mvit_v1_b", 16, 224),
    (1, 24, (2, 5, 21), 96): ("mvit_v1_b24", 32, 224),
    (2, 16, (1, 3, 14), 96): ("mvit_v2_s", 16, 224),
    (2, 24, (2, 5, 21), 96): ("mvit_v2_b", 32, 224),
    (2, 48, (2, 8, 44), 144): ("mvit_v2_l", 40, 312),
}
# (blocks, channels) -> registered name.
_VIT = {(12, 384): "vit_s", (12, 768): "vit_b", (24, 1024): "vit_l", (32, 1280): "vit_h"}
_VIT[40, 1408] = "vit_g"
_G_PATCH = 14


def _depth(shapes: Mapping[str, Shape]) -> int:
    pattern = re.compile(r"backbone\.blocks\.(\d+)\..*")
    return 1 + max((int(m[1]) for m in map(pattern.fullmatch, shapes) if m), default=-1)


def _classes(shapes: Mapping[str, Shape]) -> int:
    if "head.projection.weight" not in shapes:
        raise UserError("the classifier is missing: these are the weights of a backbone alone")
    return shapes["head.projection.weight"][0]


def read_mvit(shapes: Mapping[str, Shape]) -> Structure:
    """The structure of an MViT from its shapes under avadet's names.

    Raises:
        UserError: blocks, stages or channels are those of no MViT that avadet has.
    """
    classes, depth = _classes(shapes), _depth(shapes)
    version = 2 if "backbone.blocks.0.attn.rel_pos_t" in shapes else 1
    first = shapes.get("backbone.patch.weight", (0,))[0]
    # A stage begins at the block after v1's wider MLP, or at the block with v2's wider attention.
    wider = [b for b in range(depth) if f"backbone.blocks.{b}.shortcut.weight" in shapes]
    stages = tuple(b + 1 if version == 1 else b for b in wider)
    known = _MVIT.get((version, depth, stages, first))
    if known is None:
        raise UserError(
            f"an MViT v{version} of {depth} blocks with stages at {list(stages)} and {first} "
            "channels is none that avadet has"
        )
    name, usual, usual_crop = known
    if version == 1:
        cells = shapes.get("backbone.position_space", (1, 0, 0))[1]
        frames = 2 * shapes.get("backbone.position_time", (1, 0, 0))[1]
    else:
        height = shapes.get("backbone.blocks.0.attn.rel_pos_h")
        if height is None:
            raise UserError("the relative positions of its first block are incomplete")
        cells = ((height[0] + 1) // 2) ** 2
        frames = shapes["backbone.blocks.0.attn.rel_pos_t"][0] + 1
    args: dict[str, Any] = {}
    kernel = shapes.get("backbone.blocks.0.attn.pool_k.weight", (0, 0, 3))[2]
    if (kernel == 1) != (name == "mvit_v1_b24"):
        args["pool_kernel"] = None if kernel == 1 else 3
    if frames != usual:
        args["frames"] = frames
    if (crop := 4 * math.isqrt(cells)) != usual_crop:
        args["crop"] = crop
    return Structure(backbone=name, num_classes=classes, args=args)


def is_vit_patch(shape: Shape) -> bool:
    """Whether a patch embedding (width, 3, frames, side, side) is of a size that avadet has."""
    widths = {width for _, width in _VIT}
    return len(shape) == 5 and shape[0] in widths and shape[-1] in (PATCH, _G_PATCH)


def read_vit(shapes: Mapping[str, Shape]) -> Structure:
    """The structure of a plain ViT from its shapes under avadet's names.

    Raises:
        UserError: blocks or channels are those of no ViT that avadet has.
    """
    classes, depth = _classes(shapes), _depth(shapes)
    if "backbone.positions" not in shapes:
        embedding = list(shapes.get("backbone.patch.weight", ()))
        raise UserError(f"its patch embedding {embedding} is that of no ViT that avadet has")
    positions = shapes["backbone.positions"]
    tokens, width = positions[1], positions[2]
    name = _VIT.get((depth, width))
    if name is None:
        raise UserError(f"a ViT of {depth} blocks and {width} channels is none that avadet has")
    patch = shapes.get("backbone.patch.weight", (0,) * 5)[-1]
    if patch != (_G_PATCH if name == "vit_g" else PATCH):
        raise UserError(f"its tokens have {patch} pixels, which no {name} of avadet has")
    frames, rest = divmod(tokens, (224 // patch) ** 2)
    if rest:
        raise UserError(f"its {tokens} positions are not those of clips of 224 pixels")
    args = {} if frames * TUBELET == 16 else {"frames": frames * TUBELET}
    return Structure(backbone=name, num_classes=classes, args=args)
