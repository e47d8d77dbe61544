"""R(2+1)D's names at VMZ, MMAction2 and PyTorchVideo, and what its shapes tell.

The three differ in more than names: VMZ's stem has 45 channels between its parts and no pool in 18
and 34 layers; MMAction2 pools, splits the shortcuts too and has two epsilons; PyTorchVideo's R50
convolves over time first, without widening.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from avadet.convert.architectures import GREY, IMAGENET, KINETICS, Architecture, row
from avadet.convert.layout import Layout
from avadet.convert.rules import AFFINE, NORM, Rule, Shape, Table
from avadet.convert.structure import Structure
from avadet.errors import UserError

_NORM = {"n": NORM}
_OURS, _STEM = "backbone.res{s+1}.blocks.{b}", "backbone.stem"
_PARTS = {"spatial.weight": "0.weight", "temporal.weight": "3.weight"}
_BOTH = {"l": {"1": "a", "2": "b"}}
_SOLE = {"l": {"2": "b"}}
_OUTER = {"l": {"1": "a", "3": "c"}}
_VMZ_BLOCK = "layer{s}.{b}"
_VMZ_COMMON = (
    Rule("stem.0.weight", f"{_STEM}.conv.spatial.weight"),
    Rule("stem.1.{n}", f"{_STEM}.conv.norm.{{n}}", _NORM),
    Rule("stem.3.weight", f"{_STEM}.conv.temporal.weight"),
    Rule("stem.4.{n}", f"{_STEM}.norm.{{n}}", _NORM),
    Rule(f"{_VMZ_BLOCK}.downsample.0.weight", f"{_OURS}.shortcut.conv.weight"),
    Rule(f"{_VMZ_BLOCK}.downsample.1.{{n}}", f"{_OURS}.shortcut.norm.{{n}}", _NORM),
    Rule("fc.{n}", "head.projection.{n}", {"n": AFFINE}),
)


def _vmz_layers(which: dict[str, dict[str, str]]) -> tuple[Rule, ...]:
    layer, ours = f"{_VMZ_BLOCK}.conv{{l}}", f"{_OURS}.{{l}}"
    return (
        *(
            Rule(f"{layer}.0.{theirs}", f"{ours}.conv.{part}", which)
            for part, theirs in _PARTS.items()
        ),
        Rule(f"{layer}.0.1.{{n}}", f"{ours}.conv.norm.{{n}}", which | _NORM),
        Rule(f"{layer}.1.{{n}}", f"{ours}.norm.{{n}}", which | _NORM),
    )


_VMZ_BASIC = Table(_VMZ_COMMON + _vmz_layers(_BOTH))
_VMZ_DEEP = Table(
    _VMZ_COMMON
    + _vmz_layers(_SOLE)
    + (
        Rule(f"{_VMZ_BLOCK}.conv{{l}}.0.weight", f"{_OURS}.{{l}}.conv.weight", _OUTER),
        Rule(f"{_VMZ_BLOCK}.conv{{l}}.1.{{n}}", f"{_OURS}.{{l}}.norm.{{n}}", _OUTER | _NORM),
    )
)


def _split(theirs: str, ours: str, which: dict[str, dict[str, str]]) -> tuple[Rule, ...]:
    """MMAction2's layer of two parts and its norm."""
    return (
        Rule(f"{theirs}.conv.conv_s.weight", f"{ours}.conv.spatial.weight", which),
        Rule(f"{theirs}.conv.bn_s.{{n}}", f"{ours}.conv.norm.{{n}}", which | _NORM),
        Rule(f"{theirs}.conv.conv_t.weight", f"{ours}.conv.temporal.weight", which),
        Rule(f"{theirs}.bn.{{n}}", f"{ours}.norm.{{n}}", which | _NORM),
    )


_LAYER = "backbone.layer{s}.{b}"
_MMACTION2 = Table(
    _split("backbone.conv1", _STEM, {})
    + _split(f"{_LAYER}.conv{{l}}", f"{_OURS}.{{l}}", _BOTH)
    + _split(f"{_LAYER}.downsample", f"{_OURS}.shortcut", {})
    + (Rule("cls_head.fc_cls.{n}", "head.projection.{n}", {"n": AFFINE}),),
    (r"data_preprocessor\..*",),
)
_RES = "blocks.{s}.res_blocks.{b}"
_SIDES = {"l": {"a": "a", "c": "c"}}
_LETTERS = {"l": {"a": "a", "b": "b", "c": "c"}}
_LAST_STAGE = {"s": {"1": "1", "2": "2", "3": "3", "4": "4"}}
_PARTS_PTV = {"p": {"conv_t": "temporal", "conv_xy": "spatial"}}
_PYTORCHVIDEO = Table(
    (
        Rule("blocks.0.conv.weight", f"{_STEM}.conv.weight"),
        Rule("blocks.0.norm.{n}", f"{_STEM}.norm.{{n}}", _NORM),
        Rule(f"{_RES}.branch1_conv.weight", f"{_OURS}.shortcut.conv.weight"),
        Rule(f"{_RES}.branch1_norm.{{n}}", f"{_OURS}.shortcut.norm.{{n}}", _NORM),
        Rule(f"{_RES}.branch2.conv_{{l}}.weight", f"{_OURS}.{{l}}.conv.weight", _SIDES),
        Rule(f"{_RES}.branch2.conv_b.{{p}}.weight", f"{_OURS}.b.conv.{{p}}.weight", _PARTS_PTV),
        Rule(f"{_RES}.branch2.conv_b.norm.{{n}}", f"{_OURS}.b.conv.norm.{{n}}", _NORM),
        Rule(f"{_RES}.branch2.norm_{{l}}.{{n}}", f"{_OURS}.{{l}}.norm.{{n}}", _LETTERS | _NORM),
        Rule("blocks.5.proj.{n}", "head.projection.{n}", {"n": AFFINE}),
    )
)
# Between the parts of res3's first second layer: 288 channels here, 230 in torchvision's network,
# whose names are the same.
_WIDE = "layer2.0.conv2.0.0.weight"
LAYOUTS = (
    Layout(
        "vmz",
        "r2plus1d_vmz",
        _VMZ_DEEP,
        (r"stem\.3\.weight", r"layer1\.0\.conv2\.0\.3\.weight", r"layer1\.0\.conv3\.0\.weight"),
        task="classification",
    ),
    Layout(
        "vmz",
        "r2plus1d_vmz",
        _VMZ_BASIC,
        (r"stem\.3\.weight", r"layer1\.0\.conv1\.0\.3\.weight"),
        (r"layer1\.0\.conv3\.0\.weight",),
        task="classification",
        applies=lambda state: _WIDE not in state or state[_WIDE].shape[:1] != (230,),
    ),
    Layout(
        "mmaction2",
        "r2plus1d_mmaction2",
        _MMACTION2,
        (r"backbone\.conv1\.conv\.conv_s\.weight", r"cls_head\.fc_cls\.weight"),
        task="classification",
    ),
    Layout(
        "pytorchvideo",
        "r2plus1d_pytorchvideo",
        _PYTORCHVIDEO,
        (r"blocks\.0\.conv\.weight", r"blocks\.1\.res_blocks\.0\.branch2\.conv_b\.conv_t\.weight"),
        task="classification",
    ),
)
_DEPTHS: dict[tuple[bool, tuple[int, ...]], int] = {
    (False, (2, 2, 2, 2)): 18,
    (False, (3, 4, 6, 3)): 34,
    (True, (3, 4, 6, 3)): 50,
    (True, (3, 4, 23, 3)): 101,
    (True, (3, 8, 36, 3)): 152,
}
# What each source's networks have in common.
ARGS: dict[str, dict[str, Any]] = {
    "vmz": {},
    "mmaction2": {
        "stem": "matched",
        "stem_stride": 4,
        "factorised_shortcuts": True,
        "inner_norm_eps": 1e-5,
    },
    "pytorchvideo": {
        "stem": "plain",
        "stem_stride": 2,
        "res2_stride": 2,
        "temporal_strides": [1, 1, 2, 2],
        "middle": "out",
        "order": "temporal_first",
        "norm_eps": 1e-5,
    },
}


def reader(source: str) -> Any:
    """Reads the depth of an R(2+1)D of that source; the rest is the source's."""

    def read(shapes: Mapping[str, Shape]) -> Structure:
        depths = tuple(
            sum(f"backbone.res{s}.blocks.{b}.b.norm.weight" in shapes for b in range(40))
            for s in range(2, 6)
        )
        deep = "backbone.res2.blocks.0.c.norm.weight" in shapes
        if "head.projection.weight" not in shapes:
            raise UserError("the classifier is missing: these are the weights of a backbone alone")
        if (deep, depths) not in _DEPTHS:
            raise UserError(f"an R(2+1)D of {depths} blocks is none of 18, 34, 50, 101, 152 layers")
        return Structure(
            backbone=f"r2plus1d_{_DEPTHS[deep, depths]}",
            num_classes=shapes["head.projection.weight"][0],
            args=dict(ARGS[source]),
            whole=True,
        )

    return read


def rows() -> Iterator[Architecture]:
    """Published networks, and VMZ's other depths."""
    for depth, frames, side in (
        (18, 16, 128),
        (34, 8, 128),
        (34, 32, 128),
        (50, 32, 256),
        (101, 32, 256),
        (152, 32, 256),
    ):
        yield row(
            f"r2plus1d_{depth}_{frames}x2_k400",
            f"r2plus1d_{depth}",
            "k400",
            frames,
            2,
            ("vmz",),
            {"norm": KINETICS, "side": side},
            *(() if frames == 8 else (f"r2plus1d_{depth}",)),
        )
    for depth, clip, names in (
        (18, "8x8", ()),
        (34, "8x8", ("r2plus1d_r34_8xb8-8x8x1-180e_kinetics400-rgb",)),
        (34, "32x2", ("r2plus1d_r34_8xb8-32x2x1-180e_kinetics400-rgb",)),
    ):
        frames, stride = map(int, clip.split("x"))
        yield row(
            f"r2plus1d_{depth}_{clip}_k400_mmaction2",
            f"r2plus1d_{depth}",
            "k400",
            frames,
            stride,
            ("mmaction2",),
            {"args": dict(ARGS["mmaction2"]), "norm": IMAGENET},
            f"r2plus1d_r{depth}_{clip}",
            *names,
        )
    yield row(
        "r2plus1d_50_16x4_k400_pytorchvideo",
        "r2plus1d_50",
        "k400",
        16,
        4,
        ("pytorchvideo",),
        {"args": dict(ARGS["pytorchvideo"]), "head": {"window": 7}, "norm": GREY},
        "r2plus1d_r50",
        "R2PLUS1D_16x4_R50",
    )
