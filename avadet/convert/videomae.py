"""How VideoMAE's vision transformers are named by MMAction2 and by the original repository.

Both have biases of queries and values only; ours of the keys is filled with zeros. The original
keeps no positions in the file (they are fixed sines): they are made here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from avadet.convert.joined import JoinedTable
from avadet.convert.layout import Layout
from avadet.convert.mmaction2 import BACKGROUND
from avadet.convert.rules import AFFINE, Renamed, Rule
from avadet.models.backbones.vit import PATCH, TUBELET, sine_positions

_N = {"n": AFFINE}
_HALVES = {"i": {"1": "1", "2": "2"}}
_BIAS = {
    "parts": ((".attn.q_bias", None, ".attn.v_bias"),),
    "whole": (".attn.qkv.bias",),
}
# Tokens of a clip as all public checkpoints were trained: 16 frames of 224 pixels.
_TOKENS = 16 // TUBELET * (224 // PATCH) ** 2
_POSITIONS = "backbone.positions"


@dataclass(frozen=True)
class SineTable(JoinedTable):
    """A table of a source whose files lack the positions."""

    def read(self, state: Mapping[str, Tensor]) -> Renamed:
        """As ``JoinedTable.read``, and the positions of 16 frames of 224 pixels."""
        renamed = super().read(state)
        bias = renamed.tensors.get("backbone.patch.bias")
        if bias is not None and _POSITIONS not in renamed.tensors:
            renamed.tensors[_POSITIONS] = sine_positions(_TOKENS, len(bias))
            renamed.origin[_POSITIONS] = "the sines of VideoMAE"
        return renamed

    def write(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """As ``JoinedTable.write``, without the positions."""
        return super().write({key: value for key, value in state.items() if key != _POSITIONS})


def _blocks(theirs: str) -> tuple[Rule, ...]:
    block, ours = f"{theirs}blocks.{{b}}", "backbone.blocks.{b}"
    return (
        Rule(f"{block}.norm{{i}}.{{n}}", f"{ours}.norm{{i}}.{{n}}", {**_HALVES, **_N}),
        Rule(f"{block}.attn.qkv.{{n}}", f"{ours}.attn.qkv.{{n}}", _N),
        Rule(f"{block}.attn.proj.{{n}}", f"{ours}.attn.proj.{{n}}", _N),
    )


_MMACTION2 = (
    Rule("backbone.patch_embed.projection.{n}", "backbone.patch.{n}", _N),
    Rule("backbone.pos_embed", _POSITIONS),
    *_blocks("backbone."),
    Rule("backbone.blocks.{b}.mlp.layers.0.0.{n}", "backbone.blocks.{b}.mlp.fc1.{n}", _N),
    Rule("backbone.blocks.{b}.mlp.layers.1.{n}", "backbone.blocks.{b}.mlp.fc2.{n}", _N),
)
DETECTOR = JoinedTable(
    (
        *_MMACTION2,
        Rule("backbone.norm.{n}", "backbone.norm.{n}", _N),
        Rule("roi_head.bbox_head.fc_cls.{n}", "head.projection.{n}", _N, BACKGROUND),
    ),
    (r"data_preprocessor\..*",),
    **_BIAS,
)
CLASSIFIER = JoinedTable(
    (
        *_MMACTION2,
        Rule("backbone.fc_norm.{n}", "backbone.norm.{n}", _N),
        Rule("cls_head.fc_cls.{n}", "head.projection.{n}", _N),
    ),
    (r"data_preprocessor\..*",),
    **_BIAS,
)
ORIGINAL = SineTable(
    (
        Rule("patch_embed.proj.{n}", "backbone.patch.{n}", _N),
        *_blocks(""),
        Rule("blocks.{b}.mlp.fc{i}.{n}", "backbone.blocks.{b}.mlp.fc{i}.{n}", {**_HALVES, **_N}),
        Rule("fc_norm.{n}", "backbone.norm.{n}", _N),
        Rule("head.{n}", "head.projection.{n}", _N),
    ),
    **_BIAS,
)

_TOKEN = r"backbone\.patch_embed\.projection\.weight"
LAYOUTS = (
    Layout(
        "mmaction2",
        "vit",
        DETECTOR,
        (_TOKEN, r"roi_head\.bbox_head\.fc_cls\.weight"),
        task="detection",
    ),
    Layout(
        "mmaction2",
        "vit",
        CLASSIFIER,
        (_TOKEN, r"backbone\.fc_norm\.weight", r"cls_head\.fc_cls\.weight"),
        task="classification",
    ),
    Layout(
        "videomae",
        "vit",
        ORIGINAL,
        (r"patch_embed\.proj\.weight", r"blocks\.0\.attn\.q_bias", r"fc_norm\.weight"),
        task="classification",
    ),
)
