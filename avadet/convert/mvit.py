"""How MViT's tensors are named by PySlowFast, PyTorchVideo and torchvision."""

from __future__ import annotations

from typing import Any

from avadet.convert.joined import JoinedTable
from avadet.convert.layout import Layout
from avadet.convert.rules import AFFINE, Adapter, Rule, Table

_N = {"n": AFFINE}
_POOLS = {f"{word}_{axis}": f"{word}_{axis}" for word in ("pool", "norm") for axis in "qkv"}
_ATTENTION = {"l": {word: word for word in ("qkv", "proj", *_POOLS)}}
_AXES = {"a": {axis: axis for axis in "thw"}}
_TABLES = {"p": {"spatial": "space", "temporal": "time", "class": "class"}}
_HALVES = {"i": {"1": "1", "2": "2"}}


def _batched(axes: int) -> Adapter:
    """torchvision leaves out the leading axes of length 1."""
    return Adapter(
        "with a batch axis",
        lambda tensor: tensor[(None,) * axes],
        lambda tensor: tensor.reshape(tensor.shape[axes:]),
    )


_BLOCKS = (
    Rule("blocks.{b}.norm{i}.{n}", "backbone.blocks.{b}.norm{i}.{n}", {**_HALVES, **_N}),
    Rule("blocks.{b}.attn.{l}.{n}", "backbone.blocks.{b}.attn.{l}.{n}", {**_ATTENTION, **_N}),
    Rule("blocks.{b}.attn.rel_pos_{a}", "backbone.blocks.{b}.attn.rel_pos_{a}", _AXES),
    Rule("blocks.{b}.mlp.fc{i}.{n}", "backbone.blocks.{b}.mlp.fc{i}.{n}", {**_HALVES, **_N}),
    Rule("blocks.{b}.proj.{n}", "backbone.blocks.{b}.shortcut.{n}", _N),
)
PYSLOWFAST = Table(
    (
        Rule("patch_embed.proj.{n}", "backbone.patch.{n}", _N),
        Rule("cls_token", "backbone.class_token"),
        Rule("pos_embed_{p}", "backbone.position_{p}", _TABLES),
        *_BLOCKS,
        Rule("norm.{n}", "backbone.norm.{n}", _N),
        Rule("head.projection.{n}", "head.projection.{n}", _N),
    )
)
_THREE: dict[str, Any] = {
    "parts": tuple(tuple(f".attn.{axis}.{n}" for axis in "qkv") for n in AFFINE),
    "whole": tuple(f".attn.qkv.{n}" for n in AFFINE),
}
PYTORCHVIDEO = JoinedTable(
    (
        Rule("patch_embed.patch_model.{n}", "backbone.patch.{n}", _N),
        Rule("cls_positional_encoding.cls_token", "backbone.class_token"),
        Rule("cls_positional_encoding.pos_embed_{p}", "backbone.position_{p}", _TABLES),
        *_BLOCKS,
        Rule("norm_embed.{n}", "backbone.norm.{n}", _N),
        Rule("head.proj.{n}", "head.projection.{n}", _N),
    ),
    # Second names of the pools and their norms.
    (r"blocks\.\d+\.attn\._attention_pool_[qkv]\.(pool|norm)\.(weight|bias)",),
    **_THREE,
)
_OURS = "backbone.blocks.{b}"
TORCHVISION = Table(
    (
        Rule("conv_proj.{n}", "backbone.patch.{n}", _N),
        Rule("pos_encoding.class_token", "backbone.class_token", {}, _batched(2)),
        Rule("pos_encoding.class_pos", "backbone.position_class", {}, _batched(2)),
        Rule(
            "pos_encoding.{p}_pos",
            "backbone.position_{p}",
            {"p": {"spatial": "space", "temporal": "time"}},
            _batched(1),
        ),
        Rule("blocks.{b}.norm{i}.{n}", f"{_OURS}.norm{{i}}.{{n}}", {**_HALVES, **_N}),
        Rule("blocks.{b}.attn.qkv.{n}", f"{_OURS}.attn.qkv.{{n}}", _N),
        Rule("blocks.{b}.attn.project.0.{n}", f"{_OURS}.attn.proj.{{n}}", _N),
        Rule(
            "blocks.{b}.attn.pool_{q}.pool.weight",
            f"{_OURS}.attn.pool_{{q}}.weight",
            {"q": {axis: axis for axis in "qkv"}},
        ),
        Rule(
            "blocks.{b}.attn.pool_{q}.norm_act.0.{n}",
            f"{_OURS}.attn.norm_{{q}}.{{n}}",
            {"q": {axis: axis for axis in "qkv"}, **_N},
        ),
        Rule("blocks.{b}.attn.rel_pos_{a}", f"{_OURS}.attn.rel_pos_{{a}}", _AXES),
        Rule(
            "blocks.{b}.mlp.{i}.{n}",
            f"{_OURS}.mlp.fc{{i}}.{{n}}",
            {"i": {"0": "1", "3": "2"}, **_N},
        ),
        Rule("blocks.{b}.project.{n}", f"{_OURS}.shortcut.{{n}}", _N),
        Rule("norm.{n}", "backbone.norm.{n}", _N),
        Rule("head.1.{n}", "head.projection.{n}", _N),
    )
)

_POOL = r"blocks\.0\.attn\.pool_k\.weight"
LAYOUTS = (
    Layout(
        "pyslowfast",
        "mvit",
        PYSLOWFAST,
        (r"patch_embed\.proj\.weight", _POOL, r"head\.projection\.weight"),
    ),
    Layout(
        "pytorchvideo",
        "mvit",
        PYTORCHVIDEO,
        (r"patch_embed\.patch_model\.weight", _POOL, r"head\.proj\.weight"),
        task="classification",
    ),
    Layout(
        "torchvision",
        "mvit",
        TORCHVISION,
        (r"conv_proj\.weight", r"blocks\.0\.attn\.pool_k\.pool\.weight", r"head\.1\.weight"),
        task="classification",
    ),
)
