"""PyTorchVideo's names: numbered blocks, where a network that pools after res2 counts one more."""

from __future__ import annotations

from collections.abc import Mapping

from avadet.convert.layout import Layout
from avadet.convert.rules import AFFINE, NORM, Rule, Table

_LAYERS = {"l": {"a": "a", "b": "b", "c": "c"}}
_PLAIN = {"s": {"1": "2", "2": "3", "3": "4", "4": "5"}}
_POOLED = {"s": {"1": "2", "3": "3", "4": "4", "5": "5"}}


def _stages(block: str, trunk: str, stages: Mapping[str, Mapping[str, str]]) -> tuple[Rule, ...]:
    ours, norm = f"{trunk}.res{{s}}.blocks.{{b}}", {"n": NORM}
    return (
        Rule(f"{block}.branch1_conv.weight", f"{ours}.shortcut.conv.weight", stages),
        Rule(f"{block}.branch1_norm.{{n}}", f"{ours}.shortcut.norm.{{n}}", {**stages, **norm}),
        Rule(
            f"{block}.branch2.conv_{{l}}.weight", f"{ours}.{{l}}.conv.weight", {**stages, **_LAYERS}
        ),
        Rule(
            f"{block}.branch2.norm_{{l}}.{{n}}",
            f"{ours}.{{l}}.norm.{{n}}",
            {**stages, **_LAYERS, **norm},
        ),
    )


def _single(prefix: str, stages: Mapping[str, Mapping[str, str]]) -> tuple[Rule, ...]:
    return (
        Rule(f"{prefix}blocks.0.conv.weight", "backbone.stem.conv.weight"),
        Rule(f"{prefix}blocks.0.norm.{{n}}", "backbone.stem.norm.{n}", {"n": NORM}),
        *_stages(f"{prefix}blocks.{{s}}.res_blocks.{{b}}", "backbone", stages),
    )


def _double(prefix: str) -> tuple[Rule, ...]:
    rules: list[Rule] = []
    for index, name in ((0, "slow"), (1, "fast")):
        trunk = f"backbone.{name}"
        inner = f"multipathway_blocks.{index}"
        rules += [
            Rule(f"{prefix}blocks.0.{inner}.conv.weight", f"{trunk}.stem.conv.weight"),
            Rule(f"{prefix}blocks.0.{inner}.norm.{{n}}", f"{trunk}.stem.norm.{{n}}", {"n": NORM}),
            *_stages(f"{prefix}blocks.{{s}}.{inner}.res_blocks.{{b}}", trunk, _PLAIN),
        ]
    fusion = "multipathway_fusion"
    rules += [
        Rule(
            f"{prefix}blocks.0.{fusion}.conv_fast_to_slow.weight",
            "backbone.lateral.stem.conv.weight",
        ),
        Rule(
            f"{prefix}blocks.0.{fusion}.norm.{{n}}", "backbone.lateral.stem.norm.{n}", {"n": NORM}
        ),
        Rule(
            f"{prefix}blocks.{{s}}.{fusion}.conv_fast_to_slow.weight",
            "backbone.lateral.res{s+1}.conv.weight",
        ),
        Rule(
            f"{prefix}blocks.{{s}}.{fusion}.norm.{{n}}",
            "backbone.lateral.res{s+1}.norm.{n}",
            {"n": NORM},
        ),
    ]
    return tuple(rules)


def _head(name: str) -> tuple[Rule, ...]:
    return (Rule(f"{name}.proj.{{n}}", "head.projection.{n}", {"n": AFFINE}),)


_STEM = r"blocks\.0\.conv\.weight"
_STEMS = r"blocks\.0\.multipathway_blocks\.1\.conv\.weight"
_RES2 = r"blocks\.1\.res_blocks\.0\.branch2\.conv_b\.weight"
_DETECTION = r"detection_head\.proj\.weight"
LAYOUTS = (
    Layout(
        "pytorchvideo",
        "resnet",
        Table(_double("model.") + _head("detection_head")),
        (r"model\." + _STEMS, _DETECTION),
        task="detection",
    ),
    Layout(
        "pytorchvideo",
        "resnet",
        Table(_single("model.", _PLAIN) + _head("detection_head")),
        (r"model\." + _STEM, r"model\." + _RES2, _DETECTION),
        task="detection",
    ),
    Layout(
        "pytorchvideo",
        "resnet",
        Table(_double("") + _head("blocks.6")),
        (_STEMS, r"blocks\.6\.proj\.weight"),
        task="classification",
    ),
    Layout(
        "pytorchvideo",
        "resnet",
        Table(_single("", _POOLED) + _head("blocks.6")),
        (_STEM, _RES2, r"blocks\.6\.proj\.weight"),
        task="classification",
    ),
    Layout(
        "pytorchvideo",
        "resnet",
        Table(_single("", _PLAIN) + _head("blocks.5")),
        (_STEM, _RES2, r"blocks\.5\.proj\.weight"),
        task="classification",
    ),
)
