"""MMAction2's names (1.x, and 0.x where the same).

Its detection heads have a first row for a background class that neither the loss nor the scores
use: it is dropped on reading (81 rows -> the 80 classes of AVA, in order), and written back as
zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from avadet.convert.feature_bank import BANK_MARK, BANK_RULES
from avadet.convert.layout import Layout
from avadet.convert.rules import AFFINE, NORM, Adapter, Rule, Table
from avadet.convert.torchvision import INFLATE

_LAYERS = {"l": {"1": "a", "2": "b", "3": "c"}}
_OUTER = {"l": {"1": "a", "3": "c"}}


def _with_row(tensor: Tensor) -> Tensor:
    return torch.cat([tensor.new_zeros(1, *tensor.shape[1:]), tensor])


def _slow_first(tensor: Tensor) -> Tensor:
    """Columns (fast, slow) -> (slow, fast); Fast has an eighth of Slow's channels."""
    if tensor.ndim < 2:
        return tensor
    fast = tensor.shape[1] // 9
    return torch.cat([tensor[:, fast:], tensor[:, :fast]], 1)


def _fast_first(tensor: Tensor) -> Tensor:
    if tensor.ndim < 2:
        return tensor
    slow = tensor.shape[1] - tensor.shape[1] // 9
    return torch.cat([tensor[:, slow:], tensor[:, :slow]], 1)


# Its SlowFast classifier takes the Fast features first (its RoI extractor the Slow ones).
ORDER = Adapter("Slow features first", _slow_first, _fast_first)
BACKGROUND = Adapter("drop the background row", lambda tensor: tensor[1:], _with_row)


def _common(theirs: str, trunk: str, change: Adapter | None = None) -> tuple[Rule, ...]:
    block, ours = f"{theirs}.layer{{s}}.{{b}}", f"{trunk}.res{{s+1}}.blocks.{{b}}"
    return (
        Rule(f"{theirs}.conv1.conv.weight", f"{trunk}.stem.conv.weight", adapter=change),
        Rule(f"{theirs}.conv1.bn.{{n}}", f"{trunk}.stem.norm.{{n}}", {"n": NORM}),
        Rule(f"{block}.downsample.conv.weight", f"{ours}.shortcut.conv.weight", adapter=change),
        Rule(f"{block}.downsample.bn.{{n}}", f"{ours}.shortcut.norm.{{n}}", {"n": NORM}),
    )


def _layers(
    theirs: str, trunk: str, which: dict[str, dict[str, str]], change: Adapter | None = None
) -> tuple[Rule, ...]:
    block, ours = f"{theirs}.layer{{s}}.{{b}}", f"{trunk}.res{{s+1}}.blocks.{{b}}"
    return (
        Rule(f"{block}.conv{{l}}.conv.weight", f"{ours}.{{l}}.conv.weight", which, change),
        Rule(f"{block}.conv{{l}}.bn.{{n}}", f"{ours}.{{l}}.norm.{{n}}", {**which, "n": NORM}),
    )


def _attention(theirs: str, trunk: str) -> tuple[Rule, ...]:
    block, ours = (
        f"{theirs}.layer{{s}}.{{b}}.non_local_block",
        f"{trunk}.res{{s+1}}.non_local.{{b}}",
    )
    rules = [Rule(f"{block}.theta.conv.{{n}}", f"{ours}.theta.{{n}}", {"n": AFFINE})]
    # With sub-sampling, g and phi are followed by a pool and stand at index 0.
    for name in ("g", "phi"):
        rules += [
            Rule(f"{block}.{name}.0.conv.{{n}}", f"{ours}.{name}.{{n}}", {"n": AFFINE}),
            Rule(f"{block}.{name}.conv.{{n}}", f"{ours}.{name}.{{n}}", {"n": AFFINE}),
        ]
    rules += [
        Rule(f"{block}.conv_out.conv.{{n}}", f"{ours}.out.{{n}}", {"n": AFFINE}),
        Rule(f"{block}.conv_out.bn.{{n}}", f"{ours}.norm.{{n}}", {"n": NORM}),
    ]
    return tuple(rules)


_FUSION = (
    Rule("backbone.slow_path.conv1_lateral.conv.weight", "backbone.lateral.stem.conv.weight"),
    Rule(
        "backbone.slow_path.layer{s}_lateral.conv.weight", "backbone.lateral.res{s+1}.conv.weight"
    ),
    Rule("backbone.slow_path.conv1_lateral.bn.{n}", "backbone.lateral.stem.norm.{n}", {"n": NORM}),
    Rule(
        "backbone.slow_path.layer{s}_lateral.bn.{n}",
        "backbone.lateral.res{s+1}.norm.{n}",
        {"n": NORM},
    ),
)
_SLOWFAST = (
    _common("backbone.slow_path", "backbone.slow")
    + _layers("backbone.slow_path", "backbone.slow", _LAYERS)
    + _attention("backbone.slow_path", "backbone.slow")
    + _common("backbone.fast_path", "backbone.fast")
    + _layers("backbone.fast_path", "backbone.fast", _LAYERS)
    + _FUSION
)
_RESNET = (
    _common("backbone", "backbone")
    + _layers("backbone", "backbone", _LAYERS)
    + _attention("backbone", "backbone")
)
# Its image networks, over the frames of a clip.
_IMAGE = _common("backbone", "backbone", INFLATE) + _layers(
    "backbone", "backbone", _LAYERS, INFLATE
)
_MIDDLE, _OURS = "backbone.layer{s}.{b}.conv2", "backbone.res{s+1}.blocks.{b}.b"
_IR_CSN = (
    _common("backbone", "backbone")
    + _layers("backbone", "backbone", _OUTER)
    + (
        Rule(f"{_MIDDLE}.0.conv.weight", f"{_OURS}.conv.weight"),
        Rule(f"{_MIDDLE}.0.bn.{{n}}", f"{_OURS}.norm.{{n}}", {"n": NORM}),
    )
)
_IP_CSN = (
    _common("backbone", "backbone")
    + _layers("backbone", "backbone", _OUTER)
    + (
        Rule(f"{_MIDDLE}.0.conv.weight", f"{_OURS}.conv.pointwise.weight"),
        Rule(f"{_MIDDLE}.0.bn.{{n}}", f"{_OURS}.conv.norm.{{n}}", {"n": NORM}),
        Rule(f"{_MIDDLE}.1.conv.weight", f"{_OURS}.conv.depthwise.weight"),
        Rule(f"{_MIDDLE}.1.bn.{{n}}", f"{_OURS}.norm.{{n}}", {"n": NORM}),
    )
)
_CLASSES = (Rule("cls_head.fc_cls.{n}", "head.projection.{n}", {"n": AFFINE}),)
_FAST_FIRST = (Rule("cls_head.fc_cls.{n}", "head.projection.{n}", {"n": AFFINE}, ORDER),)
_BOX = "roi_head.bbox_head.fc_cls"
_PERSONS = (Rule(f"{_BOX}.{{n}}", "head.projection.{n}", {"n": AFFINE}, BACKGROUND),)
_PERSONS_MLP = (
    Rule(f"{_BOX}.0.{{n}}", "head.hidden.{n}", {"n": AFFINE}),
    Rule(f"{_BOX}.2.{{n}}", "head.projection.{n}", {"n": AFFINE}, BACKGROUND),
)
_RELATION = tuple(
    rule
    for layer in (1, 2)
    for rule in (
        Rule(
            f"roi_head.shared_head.conv{layer}.conv.weight",
            f"head.relation.{layer - 1}.conv.weight",
        ),
        Rule(
            f"roi_head.shared_head.conv{layer}.bn.{{n}}",
            f"head.relation.{layer - 1}.norm.{{n}}",
            {"n": NORM},
        ),
    )
)
_Test = Callable[[Mapping[str, Tensor]], bool]
_IGNORED = (r"data_preprocessor\..*",)


def _of_pictures(state: Mapping[str, Tensor]) -> bool:
    """Whether no filter has a time axis: C2D keeps those of an image network."""
    return all(tensor.ndim < 5 for tensor in state.values())


def _depthwise(layer: str) -> _Test:
    """Whether that layer convolves each channel by itself, as CSN's do."""
    name = f"backbone.layer1.0.conv2.{layer}.conv.weight"
    return lambda state: name in state and state[name].shape[1:2] == (1,)


def _layouts() -> tuple[Layout, ...]:
    single = (r"backbone\.layer1\.0\.conv3\.conv\.weight", r"backbone\.conv1\.conv\.weight")
    middle = r"backbone\.layer1\.0\.conv2\.{}\.conv\.weight"
    trunks: tuple[tuple[tuple[str, ...], tuple[Rule, ...], _Test | None], ...] = (
        ((r"backbone\.slow_path\.conv1\.conv\.weight",), _SLOWFAST, None),
        ((middle.format(1),), _IP_CSN, _depthwise("1")),
        ((middle.format(0),), _IR_CSN, _depthwise("0")),
        (single, _IMAGE, _of_pictures),
        (single, _RESNET, None),
    )
    heads = (
        ((r"cls_head\.fc_cls\.weight",), _CLASSES),
        (tuple(rf"roi_head\.bbox_head\.fc_cls\.{i}\.weight" for i in (0, 2)), _PERSONS_MLP),
        ((r"roi_head\.bbox_head\.fc_cls\.weight", BANK_MARK), _PERSONS + BANK_RULES),
        (
            (r"roi_head\.bbox_head\.fc_cls\.weight", r"roi_head\.shared_head\.conv1\.conv\.weight"),
            _PERSONS + _RELATION,
        ),
        ((r"roi_head\.bbox_head\.fc_cls\.weight",), _PERSONS),
    )
    return tuple(
        Layout(
            "mmaction2",
            "resnet",
            Table(
                trunk + (_FAST_FIRST if trunk is _SLOWFAST and head is _CLASSES else head), _IGNORED
            ),
            mark + head_mark,
            applies=test,
            task="classification" if head is _CLASSES else "detection",
        )
        for mark, trunk, test in trunks
        for head_mark, head in heads
    )


LAYOUTS = _layouts()
