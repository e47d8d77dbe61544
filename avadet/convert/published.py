"""The rows of ``architectures``.

Sources: configs/{AVA,Kinetics,Charades} of PySlowFast 287ec007, configs/{detection,recognition} of
MMAction2 4d6c9347, pytorchvideo/models/hub of PyTorchVideo f3142bb0, pt/vmz of VMZ 4cc542d5.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from avadet.convert import convnets, published_mmaction2, published_transformers
from avadet.convert.architectures import (
    AVA_PLACES,
    CLIP,
    FAST,
    IMAGENET,
    K_PLACES,
    KINETICS,
    Architecture,
    non_local,
    row,
    slowfast_args,
)

_SLOWFAST_SOURCES = ("pyslowfast", "caffe2", "pytorchvideo")
_WINDOW = {"window": 7}
# AVA's networks pool keys and values over time as well.
_WIDE_POOL = (2, 2, 2)


def rows() -> Iterator[Architecture]:
    """All rows."""
    yield from _kinetics_single()
    yield from _kinetics_slowfast()
    yield from _charades()
    yield from _ava()
    yield from _csn()
    yield from published_mmaction2.rows()
    yield from published_transformers.rows()
    yield from convnets.rows()
    for depth in (50, 101, 152):
        name = f"c2d_r{depth}"
        yield row(
            f"{name}_image_in1k", name, "in1k", 1, 1, ("torchvision",), _IMAGE, f"resnet{depth}"
        )


_IMAGE: dict[str, Any] = {
    "args": {"res2_pool_t": 1},
    "norm": IMAGENET,
    "side": 256,
}


# ------------------------------------------------------------------------------ PySlowFast


def _kinetics_single() -> Iterator[Architecture]:
    """C2D, I3D and Slow: R50 and R101, with and without non-local blocks.

    C2D and I3D attend with a softmax, Slow with a dot product.
    """
    for family, clips in (("c2d", ("8x8",)), ("i3d", ("8x8",)), ("slow", ("4x16", "8x8"))):
        kind = "dot_product" if family == "slow" else "softmax"
        for depth in (50, 101):
            for clip in clips:
                for attention in (False, True):
                    args = {"non_local": non_local(K_PLACES, kind)} if attention else {}
                    middle = "_nl" if attention else ""
                    upper = f"{family.upper()}{'_NLN' if attention else ''}_{clip}_R{depth}"
                    names = [upper, f"{upper}_IN1K"]
                    if family == "slow":
                        names.append(f"SLOWONLY_{clip}_R{depth}")
                    if not attention and depth == 50 and clip == "8x8":
                        names.append(f"{family}_r50")  # PyTorchVideo's hub
                    yield row(
                        f"{family}_r{depth}_{clip}{middle}_k400",
                        f"{family}_r{depth}",
                        "k400",
                        *CLIP[clip],
                        _SLOWFAST_SOURCES,
                        {"args": args, "head": _WINDOW},
                        *names,
                    )
    yield row(
        "c2d_r50_8x8_nopool_k400",
        "c2d_r50",
        "k400",
        8,
        8,
        ("pyslowfast", "caffe2"),
        {"args": {"res2_pool_t": 1}, "head": _WINDOW},
        "C2D_NOPOOL_8x8_R50",
    )


def _kinetics_slowfast() -> Iterator[Architecture]:
    dotted = non_local(K_PLACES)
    table: tuple[tuple[str, str, str, dict[str, Any], tuple[str, ...]], ...] = (
        ("r50_4x16", "r50", "4x16", slowfast_args("4x16", 5), ("SLOWFAST_4x16_R50",)),
        (
            "r50_8x8",
            "r50",
            "8x8",
            slowfast_args("8x8", 7),
            (
                "SLOWFAST_8x8_R50",
                "SLOWFAST_8x8_R50_stepwise",
                "slowfast_r50",
            ),
        ),
        (
            "r50_4x16_nl",
            "r50",
            "4x16",
            slowfast_args("4x16", 5, non_local=dotted),
            ("SLOWFAST_NLN_4x16_R50",),
        ),
        (
            "r50_8x8_nl",
            "r50",
            "8x8",
            slowfast_args("8x8", 5, non_local=dotted),
            ("SLOWFAST_NLN_8x8_R50",),
        ),
        (
            "r101_8x8",
            "r101",
            "8x8",
            slowfast_args("8x8", 5),
            ("SLOWFAST_8x8_R101", "SLOWFAST_8x8_R101_101_101", "slowfast_r101"),
        ),
        (
            "r101_8x8_50_50",
            "r101",
            "8x8",
            slowfast_args("8x8", 5, res4_temporal_blocks=6),
            ("SLOWFAST_8x8_R101_50_50",),
        ),
        (
            "r101_8x8_50_101",
            "r101",
            "8x8",
            slowfast_args("8x8", 5, res4_temporal_blocks=6, fast_res4_temporal_blocks=23),
            ("SLOWFAST_8x8_R101_50_101",),
        ),
        (
            "r101_16x8",
            "r101",
            "16x8",
            slowfast_args("16x8", 5, res4_temporal_blocks=6),
            ("SLOWFAST_16x8_R101_50_50", "slowfast_16x8_r101_50_50"),
        ),
        (
            "r101_16x8_nl",
            "r101",
            "16x8",
            slowfast_args("16x8", 5, res4_temporal_blocks=6, non_local=non_local(AVA_PLACES)),
            ("SLOWFAST_NLN_16x8_R101_50_50",),
        ),
    )
    for name, depth, clip, args, aliases in table:
        frames, stride, _ = FAST[clip]
        yield row(
            f"slowfast_{name}_k400",
            f"slowfast_{depth}",
            "k400",
            frames,
            stride,
            _SLOWFAST_SOURCES,
            {"args": args, "head": _WINDOW},
            *aliases,
        )
    # Trained in grids of sizes; tested at the small one.
    yield row(
        "slowfast_r50_8x8_multigrid_k400",
        "slowfast_r50",
        "k400",
        *FAST["8x8"][:2],
        _SLOWFAST_SOURCES,
        {"args": slowfast_args("8x8", 7), "head": _WINDOW, "side": 224},
        "SLOWFAST_8x8_R50_stepwise_multigrid",
    )
    # What the AVA networks were fine-tuned from.
    for clip in ("8x8", "16x8"):
        yield row(
            f"slowfast_r101_{clip}_nl_k600",
            "slowfast_r101",
            "k600",
            *FAST[clip][:2],
            ("caffe2", "pyslowfast"),
            {
                "args": slowfast_args(
                    clip,
                    5,
                    res4_temporal_blocks=6,
                    non_local=non_local(AVA_PLACES, pool=_WIDE_POOL),
                ),
                "head": _WINDOW,
            },
        )


def _charades() -> Iterator[Architecture]:
    yield row(
        "slowfast_r50_16x8_charades",
        "slowfast_r50",
        "charades",
        64,
        2,
        _SLOWFAST_SOURCES,
        {"args": slowfast_args("16x8", 7), "head": _WINDOW},
        "SLOWFAST_16x8_R50",
        "SLOWFAST_16x8_R50_multigrid",
    )
    yield row(
        "slowfast_r50_8x8_charades",
        "slowfast_r50",
        "charades",
        32,
        2,
        _SLOWFAST_SOURCES,
        {"args": slowfast_args("8x8", 7), "head": _WINDOW},
        "SLOWFAST_8x8_R50",
    )
    yield row(
        "slow_r50_8x8_charades",
        "slow_r50",
        "charades",
        8,
        8,
        _SLOWFAST_SOURCES,
        {"head": _WINDOW},
        "SLOW_8x8_R50",
    )


def _ava() -> Iterator[Architecture]:
    """The released AVA networks align without the half-pixel shift; the SHORT recipes with it."""
    plain, shifted = {"aligned": False}, {"aligned": True}
    yield row(
        "slow_r50_4x16_ava22",
        "slow_r50",
        "ava22",
        4,
        16,
        _SLOWFAST_SOURCES,
        {"head": plain},
        "SLOW_8x8_R50",
        "C2D_8x8_R50",
        "SLOW_4x16_R50_DETECTION",
        "slow_r50_detection",
    )
    yield row(
        "slow_r50_4x16_ava22_short",
        "slow_r50",
        "ava22",
        4,
        16,
        ("pyslowfast", "caffe2"),
        {"head": shifted},
        "SLOW_8x8_R50_SHORT",
    )
    yield row(
        "slowfast_r50_8x8_ava22",
        "slowfast_r50",
        "ava22",
        32,
        2,
        _SLOWFAST_SOURCES,
        {"args": slowfast_args("8x8", 7), "head": plain},
        "SLOWFAST_32x2_R50",
        "SLOWFAST_8x8_R50_DETECTION",
        "slowfast_r50_detection",
    )
    yield row(
        "slowfast_r50_8x8_ava22_short",
        "slowfast_r50",
        "ava22",
        32,
        2,
        ("pyslowfast", "caffe2"),
        {"args": slowfast_args("8x8", 7), "head": shifted, "side": 224},
        "SLOWFAST_32x2_R50_SHORT",
    )
    deep = non_local(AVA_PLACES, pool=_WIDE_POOL)
    for clip, dataset, alias in (
        ("8x8", "ava21", "SLOWFAST_32x2_R101_50_50_v2.1"),
        ("8x8", "ava22", "SLOWFAST_32x2_R101_50_50"),
        ("16x8", "ava22", "SLOWFAST_64x2_R101_50_50"),
    ):
        frames, stride, _ = FAST[clip]
        yield row(
            f"slowfast_r101_{clip}_nl_{dataset}",
            "slowfast_r101",
            dataset,
            frames,
            stride,
            ("caffe2", "pyslowfast"),
            {"args": slowfast_args(clip, 5, res4_temporal_blocks=6, non_local=deep), "head": plain},
            alias,
        )


# ------------------------------------------------------------------------------------- CSN


def _csn() -> Iterator[Architecture]:
    for sort in ("ir", "ip"):
        for depth in (50, 101, 152):
            backbone = f"{sort}_csn_{depth}"
            yield row(
                f"{backbone}_32x2_k400",
                backbone,
                "k400",
                32,
                2,
                ("vmz",),
                {"norm": KINETICS},
                backbone,
                f"{sort}CSN_{depth}",
            )
            pretrained = f"{sort}csn_ig65m-pretrained-r{depth}-bnfrozen"
            yield row(
                f"{backbone}_32x2_frozen_k400_mmaction2",
                backbone,
                "k400",
                32,
                2,
                ("mmaction2",),
                {"args": {"frozen_norms": True}, "norm": IMAGENET},
                f"{pretrained}_8xb12-32x2x1-58e_kinetics400-rgb",
                f"{pretrained}_32x2x1-58e_kinetics400-rgb",
                f"{sort}csn_r{depth}_bnfrozen",
            )
    for sort in ("ir", "ip"):
        yield row(
            f"{sort}_csn_152_32x2_k400_mmaction2",
            f"{sort}_csn_152",
            "k400",
            32,
            2,
            ("mmaction2",),
            {"norm": KINETICS},
            f"{sort}csn_r152_32x2x1-180e_kinetics400-rgb",
            f"{sort}csn_sports1m-pretrained-r152-bnfrozen_32x2x1-58e_kinetics400-rgb",
        )
    yield row(
        "ir_csn_152_32x2_ig65m_k400_mmaction2",
        "ir_csn_152",
        "k400",
        32,
        2,
        ("mmaction2",),
        {"norm": IMAGENET},
        "ircsn_ig65m-pretrained-r152_8xb12-32x2x1-58e_kinetics400-rgb",
    )
    yield row(
        "ir_csn_101_32x2_k400_pytorchvideo",
        "ir_csn_101",
        "k400",
        32,
        2,
        ("pytorchvideo",),
        {"args": {"norm_eps": 1e-5}, "head": _WINDOW},
        "csn_r101",
        "CSN_32x2_R101",
    )
