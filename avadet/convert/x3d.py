"""X3D's names at PySlowFast, PyTorchVideo and MMAction2, and what its shapes tell.

PyTorchVideo calls the stem's spatial convolution ``conv_t`` and the temporal one ``conv_xy``, and
its res2 has a shortcut without norm. XS, S and M have the same tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from avadet.convert.architectures import GREY, Architecture, row
from avadet.convert.layout import Layout
from avadet.convert.rules import AFFINE, NORM, Adapter, Rule, Shape, Table
from avadet.convert.structure import Structure
from avadet.errors import UserError

_LETTERS = {"l": {"a": "a", "b": "b", "c": "c"}}
_NUMBERS = {"l": {"1": "a", "2": "b", "3": "c"}}
_OUTER = {"l": {"a": "a", "c": "c"}}
_STAGES = {"s": {"1": "2", "2": "3", "3": "4", "4": "5"}}
_NORM = {"n": NORM}
_OURS = "backbone.res{s}.blocks.{b}"
_GATE = {"f": {"fc1": "reduce", "fc2": "expand"}, "n": AFFINE}
_CONV5, _HIDDEN, _LAST = "backbone.conv5", "head.hidden.weight", "head.projection.{n}"
# Two of the sources have a 1x1x1 convolution where others have a linear layer.
_CELLS = Adapter(
    "as a linear layer",
    lambda tensor: tensor.flatten(1),
    lambda tensor: tensor[..., None, None, None],
)

_BLOCK = "s{s}.pathway0_res{b}"
_PYSLOWFAST = Table(
    (
        Rule("s1.pathway0_stem.conv_xy.weight", "backbone.stem.spatial.weight"),
        Rule("s1.pathway0_stem.conv.weight", "backbone.stem.temporal.weight"),
        Rule("s1.pathway0_stem.bn.{n}", "backbone.stem.norm.{n}", _NORM),
        Rule(f"{_BLOCK}.branch1.weight", f"{_OURS}.shortcut.conv.weight"),
        Rule(f"{_BLOCK}.branch1_bn.{{n}}", f"{_OURS}.shortcut.norm.{{n}}", _NORM),
        Rule(f"{_BLOCK}.branch2.{{l}}.weight", f"{_OURS}.{{l}}.conv.weight", _LETTERS),
        Rule(f"{_BLOCK}.branch2.{{l}}_bn.{{n}}", f"{_OURS}.{{l}}.norm.{{n}}", _LETTERS | _NORM),
        Rule(f"{_BLOCK}.branch2.se.{{f}}.{{n}}", f"{_OURS}.se.{{f}}.{{n}}", _GATE),
        Rule("head.conv_5.weight", f"{_CONV5}.conv.weight"),
        Rule("head.conv_5_bn.{n}", f"{_CONV5}.norm.{{n}}", _NORM),
        Rule("head.lin_5.weight", _HIDDEN, adapter=_CELLS),
        Rule("head.projection.{n}", _LAST, {"n": AFFINE}),
    )
)
_RES, _WITH = "blocks.{s}.res_blocks.{b}", _STAGES | _NORM
_PYTORCHVIDEO = Table(
    (
        Rule("blocks.0.conv.conv_t.weight", "backbone.stem.spatial.weight"),
        Rule("blocks.0.conv.conv_xy.weight", "backbone.stem.temporal.weight"),
        Rule("blocks.0.norm.{n}", "backbone.stem.norm.{n}", _NORM),
        Rule(f"{_RES}.branch1_conv.weight", f"{_OURS}.shortcut.conv.weight", _STAGES),
        Rule(f"{_RES}.branch1_norm.{{n}}", f"{_OURS}.shortcut.norm.{{n}}", _WITH),
        Rule(f"{_RES}.branch2.conv_{{l}}.weight", f"{_OURS}.{{l}}.conv.weight", _STAGES | _LETTERS),
        Rule(f"{_RES}.branch2.norm_{{l}}.{{n}}", f"{_OURS}.{{l}}.norm.{{n}}", _WITH | _OUTER),
        Rule(f"{_RES}.branch2.norm_b.0.{{n}}", f"{_OURS}.b.norm.{{n}}", _WITH),
        Rule(
            f"{_RES}.branch2.norm_b.1.block.{{f}}.{{n}}",
            f"{_OURS}.se.{{f}}.{{n}}",
            {**_STAGES, "f": {"0": "reduce", "2": "expand"}, "n": AFFINE},
        ),
        Rule("blocks.5.pool.pre_conv.weight", f"{_CONV5}.conv.weight"),
        Rule("blocks.5.pool.pre_norm.{n}", f"{_CONV5}.norm.{{n}}", _NORM),
        Rule("blocks.5.pool.post_conv.weight", _HIDDEN, adapter=_CELLS),
        Rule("blocks.5.proj.{n}", _LAST, {"n": AFFINE}),
    )
)
_LAYER, _HERE = "backbone.layer{s}.{b}", "backbone.res{s+1}.blocks.{b}"
_MMACTION2 = Table(
    (
        Rule("backbone.conv1_s.conv.weight", "backbone.stem.spatial.weight"),
        Rule("backbone.conv1_t.conv.weight", "backbone.stem.temporal.weight"),
        Rule("backbone.conv1_t.bn.{n}", "backbone.stem.norm.{n}", _NORM),
        Rule(f"{_LAYER}.downsample.conv.weight", f"{_HERE}.shortcut.conv.weight"),
        Rule(f"{_LAYER}.downsample.bn.{{n}}", f"{_HERE}.shortcut.norm.{{n}}", _NORM),
        Rule(f"{_LAYER}.conv{{l}}.conv.weight", f"{_HERE}.{{l}}.conv.weight", _NUMBERS),
        Rule(f"{_LAYER}.conv{{l}}.bn.{{n}}", f"{_HERE}.{{l}}.norm.{{n}}", _NUMBERS | _NORM),
        Rule(f"{_LAYER}.se_module.{{f}}.{{n}}", f"{_HERE}.se.{{f}}.{{n}}", _GATE),
        Rule("backbone.conv5.conv.weight", f"{_CONV5}.conv.weight"),
        Rule("backbone.conv5.bn.{n}", f"{_CONV5}.norm.{{n}}", _NORM),
        Rule("cls_head.fc1.weight", _HIDDEN),
        Rule("cls_head.fc2.{n}", _LAST, {"n": AFFINE}),
    ),
    (r"data_preprocessor\..*",),
)
LAYOUTS = (
    Layout(
        "pyslowfast",
        "x3d",
        _PYSLOWFAST,
        (r"s1\.pathway0_stem\.conv_xy\.weight", r"head\.lin_5\.weight"),
        task="classification",
    ),
    Layout(
        "pytorchvideo",
        "x3d",
        _PYTORCHVIDEO,
        (r"blocks\.0\.conv\.conv_t\.weight", r"blocks\.5\.pool\.post_conv\.weight"),
        task="classification",
    ),
    Layout(
        "mmaction2",
        "x3d",
        _MMACTION2,
        (r"backbone\.conv1_s\.conv\.weight", r"cls_head\.fc1\.weight"),
        task="classification",
    ),
)
# MMAction2 rounds these to 114.75 and 57.38 of 255.
_GREY_255 = ((0.45, 0.45, 0.45), (0.22502, 0.22502, 0.22502))
_DEPTHS = {(3, 5, 11, 7): "x3d_m", (5, 10, 25, 15): "x3d_l"}


def read_x3d(shapes: Mapping[str, Shape]) -> Structure:
    """M or L; XS and S have the shapes of M.

    Raises:
        UserError: another depth, or tensors missing.
    """
    depths = tuple(
        sum(f"backbone.res{s}.blocks.{b}.a.conv.weight" in shapes for b in range(30))
        for s in range(2, 6)
    )
    needed = ("backbone.stem.spatial.weight", "head.hidden.weight", "head.projection.weight")
    missing = [name for name in needed if name not in shapes]
    if missing:
        raise UserError(f"these tensors of an X3D are missing: {', '.join(missing)}")
    if depths not in _DEPTHS:
        raise UserError(f"an X3D of {depths} blocks is none of XS, S, M, L")
    args: dict[str, Any] = {}
    if shapes["backbone.stem.spatial.weight"][0] != 24:
        args["width"] = shapes["backbone.stem.spatial.weight"][0]
    if "backbone.res2.blocks.0.shortcut.norm.weight" not in shapes:
        args["shortcut_norm"] = False
    return Structure(
        backbone=_DEPTHS[depths],
        num_classes=shapes["head.projection.weight"][0],
        args=args,
        head_args={"mlp_hidden": shapes["head.hidden.weight"][0]},
        whole=True,
    )


def rows() -> Iterator[Architecture]:
    """Published networks; ``window`` is the map's side at the training crop."""
    sizes = (
        ("xs", "m", 4, 12, 182, 5),
        ("s", "m", 13, 6, 182, 5),
        ("m", "m", 16, 5, 256, 7),
        ("l", "l", 16, 5, 356, 10),
    )
    for size, network, frames, stride, side, window in sizes:
        clip = f"{frames}x{stride}"
        hidden = {"mlp_hidden": 2048}
        for source, args, norm, names in (
            ("pyslowfast", {}, GREY, (f"X3D_{size.upper()}",)),
            ("pytorchvideo", {"shortcut_norm": False}, GREY, (f"x3d_{size}",)),
            (
                "mmaction2",
                {},
                _GREY_255,
                (f"x3d_{size}_{clip}x1_facebook-kinetics400-rgb", f"x3d_{size}_{clip}"),
            ),
        ):
            if source == "mmaction2" and size not in "sm":
                continue
            suffix = "" if source == "pyslowfast" else f"_{source}"
            yield row(
                f"x3d_{size}_{clip}_k400{suffix}",
                f"x3d_{network}",
                "k400",
                frames,
                stride,
                (source,),
                {
                    "args": args,
                    "head": hidden | ({} if source == "mmaction2" else {"window": window}),
                    "norm": norm,
                    "side": side,
                },
                *names,
            )
