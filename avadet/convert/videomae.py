"""How VideoMAE's vision transformers are named: by the original repositories (VideoMAE, its second
version, VideoMAE-Action-Detection), MMAction2 and Hugging Face's transformers.

All have biases of queries and values only; ours of the keys is filled with zeros. Only MMAction2
keeps positions in the file (they are fixed sines): for the others they are made here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from avadet.convert.joined import JoinedTable
from avadet.convert.layout import Layout
from avadet.convert.mmaction2 import BACKGROUND
from avadet.convert.rules import AFFINE, Renamed, Rule
from avadet.convert.structure_transformers import is_vit_patch
from avadet.models.backbones.vit import TUBELET, sine_positions

_N = {"n": AFFINE}
_HALVES = {"i": {"1": "1", "2": "2"}}
_BIAS: dict[str, Any] = {
    "parts": ((".attn.q_bias", None, ".attn.v_bias"),),
    "whole": (".attn.qkv.bias",),
}
# Queries, keys and values apart; older files call the biases otherwise.
_APART: dict[str, Any] = {
    "parts": (
        (".query.weight", ".key.weight", ".value.weight"),
        (".query.bias", None, ".value.bias"),
        (".q_bias", None, ".v_bias"),
    ),
    "whole": (".qkv.weight", ".qkv.bias", ".qkv.bias"),
}
_POSITIONS = "backbone.positions"


@dataclass(frozen=True)
class SineTable(JoinedTable):
    """A table of a source whose files lack the positions."""

    def read(self, state: Mapping[str, Tensor]) -> Renamed:
        """As ``JoinedTable.read``, and the positions of 16 frames of 224 pixels."""
        renamed = super().read(state)
        patch = renamed.tensors.get("backbone.patch.weight")
        if patch is None or _POSITIONS in renamed.tensors:
            return renamed
        # Others are refused by the reader; in a small file they could ask for endless positions.
        if is_vit_patch(tuple(patch.shape)):
            # As all public checkpoints were trained: 16 frames of 224 pixels.
            tokens = 16 // TUBELET * (224 // patch.shape[-1]) ** 2
            renamed.tensors[_POSITIONS] = sine_positions(tokens, len(patch)).to(patch.device)
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


def _original(prefix: str, norm: str) -> tuple[Rule, ...]:
    """The original encoder; the classifiers' norm follows the mean, the others' precedes it."""
    mlp = f"{prefix}blocks.{{b}}.mlp.fc{{i}}.{{n}}"
    return (
        Rule(f"{prefix}patch_embed.proj.{{n}}", "backbone.patch.{n}", _N),
        *_blocks(prefix),
        Rule(mlp, "backbone.blocks.{b}.mlp.fc{i}.{n}", {**_HALVES, **_N}),
        Rule(f"{prefix}{norm}.{{n}}", "backbone.norm.{n}", _N),
    )


_HEAD = Rule("head.{n}", "head.projection.{n}", _N)
ORIGINAL = SineTable((*_original("", "fc_norm"), _HEAD), **_BIAS)
ACTION_DETECTION = SineTable((*_original("", "norm"), _HEAD), **_BIAS)
# What pre-training has besides the encoder.
_DECODER = (r"decoder\..*", r"encoder_to_decoder\..*", r"mask_token")
PRETRAINED = SineTable(_original("encoder.", "norm"), _DECODER, **_BIAS)


def _transformers() -> tuple[Rule, ...]:
    theirs, ours = "videomae.encoder.layer.{b}", "backbone.blocks.{b}"
    embedding = "videomae.embeddings.patch_embeddings.projection.{n}"
    return (
        Rule(embedding, "backbone.patch.{n}", _N),
        Rule(f"{theirs}.layernorm_before.{{n}}", f"{ours}.norm1.{{n}}", _N),
        Rule(f"{theirs}.attention.attention.qkv.{{n}}", f"{ours}.attn.qkv.{{n}}", _N),
        Rule(f"{theirs}.attention.output.dense.{{n}}", f"{ours}.attn.proj.{{n}}", _N),
        Rule(f"{theirs}.layernorm_after.{{n}}", f"{ours}.norm2.{{n}}", _N),
        Rule(f"{theirs}.intermediate.dense.{{n}}", f"{ours}.mlp.fc1.{{n}}", _N),
        Rule(f"{theirs}.output.dense.{{n}}", f"{ours}.mlp.fc2.{{n}}", _N),
    )


TRANSFORMERS = SineTable(
    (
        *_transformers(),
        Rule("fc_norm.{n}", "backbone.norm.{n}", _N),
        Rule("classifier.{n}", "head.projection.{n}", _N),
    ),
    (r"videomae\.embeddings\.position_embeddings",),
    **_APART,
)
TRANSFORMERS_PRETRAINED = SineTable(
    (*_transformers(), Rule("videomae.layernorm.{n}", "backbone.norm.{n}", _N)),
    (*_DECODER, r"(videomae\.embeddings\.)?position_embeddings"),
    **_APART,
)

_EMBEDDING = r"videomae\.embeddings\.patch_embeddings\.projection"
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
    Layout(
        "videomae_action_detection",
        "vit",
        ACTION_DETECTION,
        (r"patch_embed\.proj\.weight", r"blocks\.0\.attn\.q_bias", r"(norm|head)\.weight"),
        (r"fc_norm\.weight",),
        task="detection",
    ),
    Layout(
        "transformers",
        "vit",
        TRANSFORMERS,
        (rf"{_EMBEDDING}\.weight", r"classifier\.weight"),
        task="classification",
    ),
)
# Encoders before fine-tuning: a backbone to start from, no network.
BACKBONE_LAYOUTS = (
    Layout("videomae", "vit", PRETRAINED, (r"encoder\.patch_embed\.proj\.weight",)),
    Layout(
        "transformers",
        "vit",
        TRANSFORMERS_PRETRAINED,
        (rf"{_EMBEDDING}\.weight",),
        (r"classifier\.weight",),
    ),
)
