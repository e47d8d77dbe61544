"""torchvision's names. Its 2D ResNets become C2D networks: filters get a time axis of one."""

from __future__ import annotations

from torch import Tensor

from avadet.convert.layout import Layout
from avadet.convert.rules import AFFINE, NORM, Adapter, Rule, Table


def _flatten(tensor: Tensor) -> Tensor:
    return tensor.squeeze(2)


INFLATE = Adapter("insert a time axis", lambda tensor: tensor.unsqueeze(2), _flatten)
_LAYERS = {"l": {"1": "a", "2": "b", "3": "c"}}
_BLOCK, _OURS = "layer{s}.{b}", "backbone.res{s+1}.blocks.{b}"
_IMAGE = Table(
    (
        Rule("conv1.weight", "backbone.stem.conv.weight", adapter=INFLATE),
        Rule("bn1.{n}", "backbone.stem.norm.{n}", {"n": NORM}),
        Rule(f"{_BLOCK}.conv{{l}}.weight", f"{_OURS}.{{l}}.conv.weight", _LAYERS, INFLATE),
        Rule(f"{_BLOCK}.bn{{l}}.{{n}}", f"{_OURS}.{{l}}.norm.{{n}}", {**_LAYERS, "n": NORM}),
        Rule(f"{_BLOCK}.downsample.0.weight", f"{_OURS}.shortcut.conv.weight", adapter=INFLATE),
        Rule(f"{_BLOCK}.downsample.1.{{n}}", f"{_OURS}.shortcut.norm.{{n}}", {"n": NORM}),
        Rule("fc.{n}", "head.projection.{n}", {"n": AFFINE}),
    )
)
LAYOUTS = (
    Layout(
        "torchvision",
        "resnet",
        _IMAGE,
        (r"conv1\.weight", r"layer1\.0\.conv3\.weight", r"fc\.weight"),
        task="classification",
        applies=lambda state: state["conv1.weight"].ndim == 4,
    ),
)
