"""Weights and a clip drawn from names, alike in any program: what VideoMAE's goldens rest on."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor

# ViT-S with five classes.
WIDTH, DEPTH, HEADS, CLASSES = 384, 12, 6, 5
BOXES = [[20.0, 30.0, 100.0, 200.0], [0.0, 0.0, 223.0, 223.0], [150.0, 10.0, 215.0, 120.0]]


def drawn(name: str, shape: tuple[int, ...]) -> Tensor:
    """A tensor that depends on its canonical name; scales and matrices are near the identity's."""
    random = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    values = 0.02 * random.standard_normal(shape)
    if "norm" in name and name.endswith("weight"):
        values = 1 + 5 * values
    elif len(shape) > 1:
        values = 2 * values
    return torch.from_numpy(values.astype(np.float32))


def clip() -> Tensor:
    """(1,3,16,224,224): waves that move, different in every channel."""
    t, y, x = np.meshgrid(np.arange(16), np.arange(224), np.arange(224), indexing="ij")
    planes = [np.sin(0.05 * (c + 1) * x + 0.03 * y - 0.4 * t * (c - 1)) for c in range(3)]
    return torch.from_numpy(np.stack(planes)[None].astype(np.float32))


def state(classes: int = CLASSES) -> dict[str, Tensor]:
    """The network in the original VideoMAE's names and order, the norm as ``norm``."""
    shapes: dict[str, tuple[int, ...]] = {
        "patch_embed.proj.weight": (WIDTH, 3, 2, 16, 16),
        "patch_embed.proj.bias": (WIDTH,),
    }
    for block in range(DEPTH):
        shapes |= {
            f"blocks.{block}.norm1.weight": (WIDTH,),
            f"blocks.{block}.norm1.bias": (WIDTH,),
            f"blocks.{block}.attn.q_bias": (WIDTH,),
            f"blocks.{block}.attn.v_bias": (WIDTH,),
            f"blocks.{block}.attn.qkv.weight": (3 * WIDTH, WIDTH),
            f"blocks.{block}.attn.proj.weight": (WIDTH, WIDTH),
            f"blocks.{block}.attn.proj.bias": (WIDTH,),
            f"blocks.{block}.norm2.weight": (WIDTH,),
            f"blocks.{block}.norm2.bias": (WIDTH,),
            f"blocks.{block}.mlp.fc1.weight": (4 * WIDTH, WIDTH),
            f"blocks.{block}.mlp.fc1.bias": (4 * WIDTH,),
            f"blocks.{block}.mlp.fc2.weight": (WIDTH, 4 * WIDTH),
            f"blocks.{block}.mlp.fc2.bias": (WIDTH,),
        }
    shapes |= {"norm.weight": (WIDTH,), "norm.bias": (WIDTH,)}
    shapes |= {"head.weight": (classes, WIDTH), "head.bias": (classes,)}
    return {name: drawn(name, shape) for name, shape in shapes.items()}


def in_transformers_names(original: dict[str, Tensor], *, old: bool = False) -> dict[str, Tensor]:
    """The same network as Hugging Face's transformers names it, written out by hand."""
    renamed = {
        "videomae.embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
        "videomae.embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
        "fc_norm.weight": "norm.weight",
        "fc_norm.bias": "norm.bias",
        "classifier.weight": "head.weight",
        "classifier.bias": "head.bias",
    }
    result = {theirs: original[ours] for theirs, ours in renamed.items()}
    for block in range(DEPTH):
        theirs, ours = f"videomae.encoder.layer.{block}.", f"blocks.{block}."
        query, key, value = original[f"{ours}attn.qkv.weight"].chunk(3)
        attention = f"{theirs}attention.attention."
        result |= {
            f"{attention}query.weight": query.clone(),
            f"{attention}key.weight": key.clone(),
            f"{attention}value.weight": value.clone(),
            attention + ("q_bias" if old else "query.bias"): original[f"{ours}attn.q_bias"],
            attention + ("v_bias" if old else "value.bias"): original[f"{ours}attn.v_bias"],
        }
        for name, part in (
            ("attention.output.dense", "attn.proj"),
            ("intermediate.dense", "mlp.fc1"),
            ("output.dense", "mlp.fc2"),
            ("layernorm_before", "norm1"),
            ("layernorm_after", "norm2"),
        ):
            for kind in ("weight", "bias"):
                result[f"{theirs}{name}.{kind}"] = original[f"{ours}{part}.{kind}"]
    return result
