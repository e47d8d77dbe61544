"""VMZ's names (ir-CSN and ip-CSN): Sequentials, so convolution and norm are 0 and 1."""

from __future__ import annotations

from avadet.convert.layout import Layout
from avadet.convert.rules import AFFINE, NORM, Rule, Table

_OUTER = {"l": {"1": "a", "3": "c"}}
_BLOCK, _OURS = "layer{s}.{b}", "backbone.res{s+1}.blocks.{b}"
_COMMON = (
    Rule("stem.0.weight", "backbone.stem.conv.weight"),
    Rule("stem.1.{n}", "backbone.stem.norm.{n}", {"n": NORM}),
    Rule(f"{_BLOCK}.conv{{l}}.0.weight", f"{_OURS}.{{l}}.conv.weight", _OUTER),
    Rule(f"{_BLOCK}.conv{{l}}.1.{{n}}", f"{_OURS}.{{l}}.norm.{{n}}", {**_OUTER, "n": NORM}),
    Rule(f"{_BLOCK}.downsample.0.weight", f"{_OURS}.shortcut.conv.weight"),
    Rule(f"{_BLOCK}.downsample.1.{{n}}", f"{_OURS}.shortcut.norm.{{n}}", {"n": NORM}),
    Rule(f"{_BLOCK}.conv2.1.{{n}}", f"{_OURS}.b.norm.{{n}}", {"n": NORM}),
    Rule("fc.{n}", "head.projection.{n}", {"n": AFFINE}),
)
_IR = (Rule(f"{_BLOCK}.conv2.0.weight", f"{_OURS}.b.conv.weight"),)
_IP = (
    Rule(f"{_BLOCK}.conv2.0.0.weight", f"{_OURS}.b.conv.pointwise.weight"),
    Rule(f"{_BLOCK}.conv2.0.1.{{n}}", f"{_OURS}.b.conv.norm.{{n}}", {"n": NORM}),
    Rule(f"{_BLOCK}.conv2.0.2.weight", f"{_OURS}.b.conv.depthwise.weight"),
)
_MARKS = (r"stem\.0\.weight", r"layer1\.0\.conv3\.0\.weight", r"fc\.weight")
LAYOUTS = (
    Layout(
        "vmz",
        "resnet",
        Table(_COMMON + _IP),
        (*_MARKS, r"layer1\.0\.conv2\.0\.2\.weight"),
        task="classification",
        applies=lambda state: state["layer1.0.conv2.0.2.weight"].shape[1:2] == (1,),
    ),
    Layout(
        "vmz",
        "resnet",
        Table(_COMMON + _IR),
        (*_MARKS, r"layer1\.0\.conv2\.0\.weight"),
        task="classification",
        applies=lambda state: state["layer1.0.conv2.0.weight"].shape[1:2] == (1,),
    ),
)
