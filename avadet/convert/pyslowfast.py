"""PySlowFast's names (``.pyth`` files, and converted ``.pkl`` ones)."""

from __future__ import annotations

from avadet.convert.layout import Layout
from avadet.convert.rules import AFFINE, NORM, Rule, Table

_LAYERS = {"a": "a", "b": "b", "c": "c"}
_ATTENTION = {name: name for name in ("theta", "phi", "g", "out")}


def _pathway(index: int, trunk: str) -> tuple[Rule, ...]:
    stem, block = f"s1.pathway{index}_stem", f"s{{s}}.pathway{index}_res{{b}}"
    attention = f"s{{s}}.pathway{index}_nonlocal{{b}}"
    ours = f"{trunk}.res{{s}}.blocks.{{b}}"
    non_local = f"{trunk}.res{{s}}.non_local.{{b}}"
    norm = {"n": NORM}
    return (
        Rule(f"{stem}.conv.weight", f"{trunk}.stem.conv.weight"),
        Rule(f"{stem}.bn.{{n}}", f"{trunk}.stem.norm.{{n}}", norm),
        Rule(f"{block}.branch1.weight", f"{ours}.shortcut.conv.weight"),
        Rule(f"{block}.branch1_bn.{{n}}", f"{ours}.shortcut.norm.{{n}}", norm),
        Rule(f"{block}.branch2.{{l}}.weight", f"{ours}.{{l}}.conv.weight", {"l": _LAYERS}),
        Rule(f"{block}.branch2.{{l}}_bn.{{n}}", f"{ours}.{{l}}.norm.{{n}}", {"l": _LAYERS, **norm}),
        Rule(
            f"{attention}.conv_{{l}}.{{n}}",
            f"{non_local}.{{l}}.{{n}}",
            {"l": _ATTENTION, "n": AFFINE},
        ),
        Rule(f"{attention}.bn.{{n}}", f"{non_local}.norm.{{n}}", norm),
    )


_HEAD = (Rule("head.projection.{n}", "head.projection.{n}", {"n": AFFINE}),)
_FUSION = (
    Rule("s1_fuse.conv_f2s.weight", "backbone.lateral.stem.conv.weight"),
    Rule("s1_fuse.bn.{n}", "backbone.lateral.stem.norm.{n}", {"n": NORM}),
    Rule("s{s}_fuse.conv_f2s.weight", "backbone.lateral.res{s}.conv.weight"),
    Rule("s{s}_fuse.bn.{n}", "backbone.lateral.res{s}.norm.{n}", {"n": NORM}),
)
ONE = Table(_pathway(0, "backbone") + _HEAD)
TWO = Table(_pathway(0, "backbone.slow") + _pathway(1, "backbone.fast") + _FUSION + _HEAD)

_STEM = r"s1\.pathway0_stem\.conv\.weight"
LAYOUTS = (
    Layout("pyslowfast", "resnet", TWO, (_STEM, r"s1\.pathway1_stem\.conv\.weight")),
    Layout(
        "pyslowfast",
        "resnet",
        ONE,
        (_STEM, r"s2\.pathway0_res0\.branch2\.b\.weight"),
        (r"s1\.pathway1_stem\.conv\.weight",),
        # X3D names its depthwise layers so too.
        applies=lambda state: state["s2.pathway0_res0.branch2.b.weight"].shape[1:2] != (1,),
    ),
)
