"""What the tensors of a ResNet-shaped network tell about it, whoever made them.

Reads shapes under avadet's names: depth, temporal kernels, lateral kernel, non-local blocks, sort
of CSN, head. What leaves no trace in a shape (strides, dilation, alpha, RoIAlign's ``aligned``,
pools) must come from somewhere else: see ``facts``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from avadet.convert.rules import Shape
from avadet.errors import UserError

_DEPTHS: dict[tuple[int, ...], int] = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}
_STAGES = ("res2", "res3", "res4", "res5")
# Temporal kernel of the stem, then of each stage's blocks, repeated over them.
_SINGLE = {
    "c2d": (1, ((1,), (1,), (1,), (1,))),
    "slow": (1, ((1,), (1,), (3,), (3,))),
    "i3d": (5, ((3,), (3, 1), (3, 1), (1, 3))),
    "fast": (5, ((3,), (3,), (3,), (3,))),
}


@dataclass(frozen=True)
class Structure:
    """What the shapes say.

    Attributes:
        backbone: registered name.
        args: arguments of the backbone that show in shapes.
        head_args: arguments of the head that show in shapes.
        num_classes: K.
        whole: the family's names and shapes tell all of ``args`` but the output stride, so that an
            architecture must have just these.
        head: registered name, where it is neither "pool" nor "roi".
    """

    backbone: str
    num_classes: int
    args: dict[str, Any] = field(default_factory=dict)
    head_args: dict[str, Any] = field(default_factory=dict)
    whole: bool = False
    head: str | None = None

    def agrees(
        self,
        backbone: str,
        args: Mapping[str, Any],
        head_args: Mapping[str, Any],
        head: str | None = None,
    ) -> bool:
        """Whether a network that is described so has the same shapes, but for its classes."""
        if self.whole:
            shown = {key: args[key] for key in args if key not in ("output_stride", "dilate")}
        else:
            shown = visible(args)
        return (
            self.backbone == backbone
            and (head is None or self.head == _visible_name(head, head_args))
            and self.args == shown
            and self.head_args == visible_head(head_args)
        )


def visible(args: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a backbone's arguments that shapes show."""
    shown = {
        key: args[key]
        for key in (
            "depths",
            "fast_depth",
            "heavy",
            "width",
            "stem_kernel",
            "fusion_kernel",
            "lateral_norm",
            "res4_temporal_blocks",
            "fast_res4_temporal_blocks",
            "beta_inv",
            "frames",
            "crop",
            "pool_kernel",
        )
        if key in args
    }
    if args.get("non_local"):
        places = {stage: list(blocks) for stage, blocks in args["non_local"]["places"].items()}
        shown["non_local"] = {"places": places, "out_bias": args["non_local"].get("out_bias", True)}
        if args["non_local"].get("kind") == "gaussian":
            shown["non_local"]["kind"] = "gaussian"
    return shown


def _pools_bank(args: Mapping[str, Any]) -> bool:
    """Whether a head has a bank operator without tensors: its classifier is as with context."""
    return args.get("operator") in ("max", "avg")


def _visible_name(head: str, args: Mapping[str, Any]) -> str | None:
    return None if head in ("pool", "roi") or _pools_bank(args) else head


def visible_head(args: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a head's arguments that shapes show."""
    if _pools_bank(args):
        return {"context": True}
    keys = ("context", "mlp_hidden", "layers", "latent", "bank_channels")
    return {key: args[key] for key in keys if args.get(key)}


def read_structure(shapes: Mapping[str, Shape]) -> Structure:
    """The structure of a network from its shapes under avadet's names.

    Raises:
        UserError: the temporal kernels are of no known family, or the classifier is missing.
    """
    if "head.projection.weight" not in shapes:
        raise UserError("the classifier is missing: these are the weights of a backbone alone")
    double = any(name.startswith("backbone.fast.") for name in shapes)
    trunk = "backbone.slow" if double else "backbone"
    if f"{trunk}.stem.conv.weight" not in shapes:
        raise UserError("the first convolution is missing")
    args: dict[str, Any] = {}
    depths = _depths(shapes, trunk)
    if double:
        family = "slowfast"
        args |= _lateral(shapes)
        width, thin = (shapes[f"backbone.{p}.stem.conv.weight"][0] for p in ("slow", "fast"))
        if thin * 8 != width:
            args["beta_inv"] = width // max(thin, 1)
        fast_depths = _depths(shapes, "backbone.fast")
        if fast_depths != depths:
            if fast_depths not in _DEPTHS:
                raise UserError(f"its Fast pathway has {fast_depths} blocks, of no ResNet depth")
            args["fast_depth"] = _DEPTHS[fast_depths]
    else:
        family = _family(shapes, trunk, depths)
        width = shapes[f"{trunk}.stem.conv.weight"][0]
    if family == "fast" and width == 64:
        # As wide as this, kernels of three everywhere are those of MMAction2's heavy I3D.
        family, args["heavy"] = "i3d", True
    if width != (8 if family == "fast" else 64):
        args["width"] = width
    if family in ("slow", "slowfast", "fast"):
        limit = _temporal_limit(shapes, trunk, depths)
        if limit is not None:
            args["res4_temporal_blocks"] = limit
        if double and "fast_depth" not in args:
            fast_limit = _temporal_limit(shapes, "backbone.fast", depths)
            if fast_limit != limit:
                args["fast_res4_temporal_blocks"] = fast_limit or depths[2]
    depth = _DEPTHS.get(depths)
    if depth is None:
        args["depths"] = list(depths)
        depth = 50
    attention = _attention(shapes, trunk)
    if attention:
        args["non_local"] = attention
    separator = "_" if family.endswith("csn") else "_r"
    return Structure(
        backbone=f"{family}{separator}{depth}",
        num_classes=shapes["head.projection.weight"][0],
        args=args,
        head_args=_head(shapes, 32 * width + (32 * thin if double else 0)),
        head=_head_name(shapes),
    )


def _depths(shapes: Mapping[str, Shape], trunk: str) -> tuple[int, ...]:
    found: dict[str, set[int]] = {stage: set() for stage in _STAGES}
    pattern = re.compile(re.escape(trunk) + r"\.(res[2-5])\.blocks\.(\d+)\.a\.conv\.weight")
    for name in shapes:
        if match := pattern.fullmatch(name):
            found[match[1]].add(int(match[2]))
    for stage, blocks in found.items():
        if not blocks:
            raise UserError(f"{stage} is missing")
        if max(blocks) >= len(blocks):
            missing = min(set(range(len(blocks))) - blocks)
            raise UserError(f"block {missing} of {stage} is missing, and later ones are there")
    return tuple(map(len, found.values()))


def _kernels(shapes: Mapping[str, Shape], trunk: str, stage: str, layer: str) -> list[int]:
    kernels: list[int] = []
    while (name := f"{trunk}.{stage}.blocks.{len(kernels)}.{layer}.conv.weight") in shapes:
        shape = shapes[name]
        kernels.append(shape[2] if len(shape) > 2 else 1)
    return kernels


def _family(shapes: Mapping[str, Shape], trunk: str, depths: tuple[int, ...]) -> str:
    first = f"{trunk}.res2.blocks.0.b.conv"
    if f"{first}.depthwise.weight" in shapes:
        return "ip_csn"
    middle = shapes.get(f"{first}.weight", ())
    if len(middle) == 5 and middle[1] == 1 and middle[0] > 1:
        return "ir_csn"
    stem = shapes[f"{trunk}.stem.conv.weight"][2]
    seen = tuple(tuple(_kernels(shapes, trunk, stage, "a")) for stage in _STAGES)
    for family, (kernel, stages) in _SINGLE.items():
        whole = tuple(
            tuple(pattern[i % len(pattern)] for i in range(depth))
            for pattern, depth in zip(stages, depths, strict=True)
        )
        same = all(
            own == theirs or (stage == "res4" and _begins_so(own, theirs))
            for stage, own, theirs in zip(_STAGES, seen, whole, strict=True)
        )
        if kernel == stem and same:
            return family
    described = ", ".join(f"{stage} {list(own)}" for stage, own in zip(_STAGES, seen, strict=True))
    raise UserError(
        f"its temporal kernels (stem {stem}, {described}) are those of no family that avadet has"
    )


def _begins_so(own: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    """Whether ``own`` is ``whole`` with the kernels of some last blocks made 1."""
    if len(own) != len(whole) or len(set(whole)) != 1 or whole[0] == 1:
        return False
    count = sum(kernel == whole[0] for kernel in own)
    return count > 0 and own == (whole[0],) * count + (1,) * (len(own) - count)


def _temporal_limit(shapes: Mapping[str, Shape], trunk: str, depths: tuple[int, ...]) -> int | None:
    count = sum(kernel > 1 for kernel in _kernels(shapes, trunk, "res4", "a"))
    return count if count < depths[2] else None


def _lateral(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    weight = shapes.get("backbone.lateral.stem.conv.weight")
    if weight is None:
        raise UserError("the lateral connections are missing")
    found: dict[str, Any] = {"fusion_kernel": weight[2]}
    if "backbone.lateral.stem.norm.weight" not in shapes:
        found["lateral_norm"] = False
    return found


def _attention(shapes: Mapping[str, Shape], trunk: str) -> dict[str, Any]:
    places: dict[str, list[int]] = {}
    pattern = re.compile(re.escape(trunk) + r"\.(res[2-5])\.non_local\.(\d+)\.out\.weight")
    for name in shapes:
        if match := pattern.fullmatch(name):
            places.setdefault(match[1], []).append(int(match[2]))
    if not places:
        return {}
    ordered = {stage: sorted(places[stage]) for stage in _STAGES if stage in places}
    bias = any(name.endswith(".out.bias") for name in shapes)
    found = {"places": ordered, "out_bias": bias}
    if not any(name.endswith(".theta.weight") for name in shapes):
        found["kind"] = "gaussian"  # the only kind without queries of its own
    return found


def _head_name(shapes: Mapping[str, Shape]) -> str | None:
    if "head.operator.person.weight" in shapes:
        return "feature_bank"
    return "acrn" if "head.relation.0.conv.weight" in shapes else None


def _head(shapes: Mapping[str, Shape], channels: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    features = shapes["head.projection.weight"][1]
    if "head.operator.person.weight" in shapes:
        latent, bank = shapes.get("head.operator.entry.weight", (0, 0))
        layers = sum(
            name.startswith("head.operator.layers.") and name.endswith(".query.weight")
            for name in shapes
        )
        found = {"layers": layers, "latent": latent, "bank_channels": bank}
        features -= latent
    hidden = shapes.get("head.hidden.weight")
    if hidden is not None:
        found["mlp_hidden"], features = hidden[0], hidden[1]
    if features == 2 * channels:
        found["context"] = True
    elif features != channels:
        raise UserError(f"the classifier takes {features} features; the backbone gives {channels}")
    return found
