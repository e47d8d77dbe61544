"""Names of Caffe2 blobs in PySlowFast's ``.pkl`` files: ``{"blobs": {name: array}}``.

The fast pathway has a leading ``t_``; norms end in ``_bn_s, _bn_b, _bn_rm, _bn_riv`` (scale, bias,
running mean, running variance: the last is a plain variance in spite of its name).
"""

from __future__ import annotations

from avadet.convert.layout import Layout
from avadet.convert.rules import Rule, Table

_NORM = {"n": {"s": "weight", "b": "bias", "rm": "running_mean", "riv": "running_var"}}
_WEIGHT = {"w": {"w": "weight", "b": "bias"}}
_LAYERS = {"l": {"a": "a", "b": "b", "c": "c"}}
_ATTENTION = {"l": {name: name for name in ("theta", "phi", "g", "out")}}


def _pathway(prefix: str, trunk: str) -> tuple[Rule, ...]:
    block, ours = f"{prefix}res{{s}}_{{b}}", f"{trunk}.res{{s}}.blocks.{{b}}"
    return (
        Rule(f"{prefix}conv1_w", f"{trunk}.stem.conv.weight"),
        Rule(f"{prefix}res_conv1_w", f"{trunk}.stem.conv.weight"),
        Rule(f"{prefix}res_conv1_bn_{{n}}", f"{trunk}.stem.norm.{{n}}", _NORM),
        Rule(f"{block}_branch1_w", f"{ours}.shortcut.conv.weight"),
        Rule(f"{block}_branch1_bn_{{n}}", f"{ours}.shortcut.norm.{{n}}", _NORM),
        Rule(f"{block}_branch2{{l}}_w", f"{ours}.{{l}}.conv.weight", _LAYERS),
        Rule(f"{block}_branch2{{l}}_bn_{{n}}", f"{ours}.{{l}}.norm.{{n}}", {**_LAYERS, **_NORM}),
    )


def _attention(trunk: str) -> tuple[Rule, ...]:
    theirs, ours = "nonlocal_conv{s}_{b}", f"{trunk}.res{{s}}.non_local.{{b}}"
    return (
        Rule(f"{theirs}_{{l}}_{{w}}", f"{ours}.{{l}}.{{w}}", {**_ATTENTION, **_WEIGHT}),
        Rule(f"{theirs}_bn_{{n}}", f"{ours}.norm.{{n}}", _NORM),
    )


_HEAD = (Rule("pred_{w}", "head.projection.{w}", _WEIGHT),)
# The lateral connection after a stage carries the name of that stage's last block ({last}),
# which nothing of ours holds: these rules read only.
_FUSION = (
    Rule("t_pool1_subsample_w", "backbone.lateral.stem.conv.weight"),
    Rule("t_pool1_subsample_bn_{n}", "backbone.lateral.stem.norm.{n}", _NORM),
    Rule("t_res{s}_{last}_branch2c_bn_subsample_w", "backbone.lateral.res{s}.conv.weight"),
    Rule("t_res{s}_{last}_branch2c_bn_subsample_bn_{n}", "backbone.lateral.res{s}.norm.{n}", _NORM),
)
# Left over from training.
_IGNORED = (r".*_momentum", r"lr", r"model_iter", r"weight_order")
ONE = Table(_pathway("", "backbone") + _attention("backbone") + _HEAD, _IGNORED)
TWO = Table(
    _pathway("", "backbone.slow")
    + _attention("backbone.slow")
    + _pathway("t_", "backbone.fast")
    + _FUSION
    + _HEAD,
    _IGNORED,
)
_STEM = r"(res_)?conv1_w"
LAYOUTS = (
    Layout("caffe2", "resnet", TWO, (_STEM, r"t_(res_)?conv1_w")),
    Layout("caffe2", "resnet", ONE, (_STEM, r"res2_0_branch2a_w"), (r"t_(res_)?conv1_w",)),
)
