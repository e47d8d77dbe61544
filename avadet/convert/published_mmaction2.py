"""MMAction2's rows of ``architectures``.

Its networks differ from PySlowFast's of the same name: lateral convolutions without norm, Slow
frames by stride, res5 without dilation on AVA, RoIAlign 8x8 with the half-pixel shift, ImageNet's
mean and std. Source: configs/{detection,recognition} of MMAction2 4d6c9347.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from avadet.convert.architectures import (
    CLIP,
    FAST,
    IMAGENET,
    K_PLACES,
    Architecture,
    non_local,
    row,
    slowfast_args,
)

_PLACES = {"res3": [0, 2], "res4": [0, 2, 4]}
_SOURCE = ("mmaction2",)


def rows() -> Iterator[Architecture]:
    """All rows."""
    yield from _recognition()
    yield from _detection()


def _slowfast(clip: str, kernel: int, **more: Any) -> dict[str, Any]:
    return slowfast_args(clip, kernel, lateral_norm=False, slow_sampling="stride", **more)


def _recognition() -> Iterator[Architecture]:
    for depth, clip, kernel, aliases in (
        (50, "4x16", 5, ("slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb",)),
        (
            50,
            "8x8",
            7,
            ("slowfast_r50_8xb8-8x8x1-256e_kinetics400-rgb",),
        ),
        (101, "8x8", 7, ("slowfast_r101_8xb8-8x8x1-256e_kinetics400-rgb",)),
    ):
        frames, stride, _ = FAST[clip]
        name = f"slowfast_r{depth}_{clip}"
        yield row(
            f"{name}_k400_mmaction2",
            f"slowfast_r{depth}",
            "k400",
            frames,
            stride,
            _SOURCE,
            {"args": _slowfast(clip, kernel), "norm": IMAGENET},
            *aliases,
            name,
        )
    yield row(
        "slowfast_r50_8x8_steplr_k400_mmaction2",
        "slowfast_r50",
        "k400",
        *FAST["8x8"][:2],
        _SOURCE,
        {"args": slowfast_args("8x8", 7, slow_sampling="stride"), "norm": IMAGENET},
        "slowfast_r50_8xb8-8x8x1-steplr-256e_kinetics400-rgb",
    )
    yield row(
        "slowfast_r101_r50_4x16_k400_mmaction2",
        "slowfast_r101",
        "k400",
        *FAST["4x16"][:2],
        _SOURCE,
        {"args": _slowfast("4x16", 5, fast_depth=50), "norm": IMAGENET},
        "slowfast_r101-r50_32xb8-4x16x1-256e_kinetics400-rgb",
        "slowfast_r101_r50_4x16",
    )
    yield from _c2d()
    for depth, clip, dataset, others in _SLOWONLY:
        yield row(
            f"slow_r{depth}_{clip}_{dataset}_mmaction2",
            f"slow_r{depth}",
            dataset,
            *CLIP[clip],
            _SOURCE,
            {"norm": IMAGENET},
            *others,
        )
    attention = non_local(_PLACES, "softmax", mmaction2=True)
    for clip in ("4x16", "8x8"):
        yield row(
            f"slow_r50_{clip}_nl_k400_mmaction2",
            "slow_r50",
            "k400",
            *CLIP[clip],
            _SOURCE,
            {"args": {"non_local": attention}, "norm": IMAGENET},
            "slowonly_r50-in1k-pre-nl-embedded-gaussian_8xb16-"
            f"{clip}x1-steplr-150e_kinetics400-rgb",
        )
    strided = {"stem_strides_t": [2, 2]}
    yield row(
        "i3d_r50_32x2_k400_mmaction2",
        "i3d_r50",
        "k400",
        32,
        2,
        _SOURCE,
        {"args": strided, "norm": IMAGENET},
        "i3d_imagenet-pretrained-r50_8xb8-32x2x1-100e_kinetics400-rgb",
        "i3d_imagenet-pretrained-r50_8xb8-dense-32x2x1-100e_kinetics400-rgb",
        "i3d_r50_32x2",
    )
    yield row(
        "i3d_r50_32x2_heavy_k400_mmaction2",
        "i3d_r50",
        "k400",
        32,
        2,
        _SOURCE,
        {"args": {"heavy": True}, "norm": IMAGENET},
        "i3d_imagenet-pretrained-r50-heavy_8xb8-32x2x1-100e_kinetics400-rgb",
    )
    for variant, kind in (
        ("", "dot_product"),
        ("_embedded", "embedded_gaussian"),
        ("_gaussian", "gaussian"),
    ):
        attention = non_local(K_PLACES, kind, mmaction2=True)
        word = kind.replace("_", "-")
        yield row(
            f"i3d_r50_32x2_nl{variant}_k400_mmaction2",
            "i3d_r50",
            "k400",
            32,
            2,
            _SOURCE,
            {"args": {**strided, "non_local": attention}, "norm": IMAGENET},
            f"i3d_imagenet-pretrained-r50-nl-{word}_8xb8-32x2x1-100e_kinetics400-rgb",
            f"i3d_r50_nl_{word.replace('-', '_')}",
        )


def _c2d() -> Iterator[Architecture]:
    """Image networks over the frames; those that pool after res2 do not pad the first pool."""
    for depth, clip, variant, args, alias in (
        (50, "8x8", "_nopool", {"res2_pool_t": 1}, "c2d_r50-in1k-pre-nopool_8xb32-8x8x1"),
        (101, "8x8", "_nopool", {"res2_pool_t": 1}, "c2d_r101-in1k-pre-nopool_8xb32-8x8x1"),
        (50, "8x8", "", {"stem_pool_padding": 0}, "c2d_r50-in1k-pre_8xb32-8x8x1"),
        (50, "16x4", "", {"stem_pool_padding": 0}, "c2d_r50-in1k-pre_8xb32-16x4x1"),
    ):
        yield row(
            f"c2d_r{depth}_{clip}{variant}_k400_mmaction2",
            f"c2d_r{depth}",
            "k400",
            *CLIP[clip],
            _SOURCE,
            {"args": args, "norm": IMAGENET, "side": 224},
            f"{alias}-100e_kinetics400-rgb",
            f"c2d_r{depth}_{clip}{variant}",
        )


_SLOWONLY: tuple[tuple[int, str, str, tuple[str, ...]], ...] = (
    (
        50,
        "4x16",
        "k400",
        (
            "slowonly_r50_8xb16-4x16x1-256e_kinetics400-rgb",
            "slowonly_imagenet-pretrained-r50_8xb16-4x16x1-steplr-150e_kinetics400-rgb",
            "slowonly_r50_4x16",
        ),
    ),
    (
        50,
        "8x8",
        "k400",
        (
            "slowonly_r50_8xb16-8x8x1-256e_kinetics400-rgb",
            "slowonly_imagenet-pretrained-r50_8xb16-8x8x1-steplr-150e_kinetics400-rgb",
            "slowonly_r50_8x8",
        ),
    ),
    (
        101,
        "8x8",
        "k400",
        ("slowonly_r101_8xb16-8x8x1-196e_kinetics400-rgb", "slowonly_r101_8x8"),
    ),
    (
        50,
        "4x16",
        "k700",
        ("slowonly_imagenet-pretrained-r50_16xb16-4x16x1-steplr-150e_kinetics700-rgb",),
    ),
    (
        50,
        "8x8",
        "k700",
        ("slowonly_imagenet-pretrained-r50_16xb16-8x8x1-steplr-150e_kinetics700-rgb",),
    ),
    (
        50,
        "8x8",
        "k710",
        ("slowonly_imagenet-pretrained-r50_32xb8-8x8x1-steplr-150e_kinetics710-rgb",),
    ),
)


def _detection() -> Iterator[Architecture]:
    fast = "slowfast_kinetics400-pretrained-r50"
    pooled = "slowfast_r50-k400-pre-temporal-max-focal-alpha3-gamma1"
    short, full = _slowfast("4x16", 5), _slowfast("8x8", 7)
    peak = {"temporal_pool": "max"}
    table: tuple[tuple[str, str, str, dict[str, Any], dict[str, Any], tuple[str, ...]], ...] = (
        ("4x16", "", "ava21", short, {}, (f"{fast}_8xb16-4x16x1-20e_ava21-rgb",)),
        (
            "4x16",
            "_context",
            "ava21",
            short,
            {"context": True},
            (f"{fast}-context_8xb16-4x16x1-20e_ava21-rgb",),
        ),
        ("8x8", "", "ava21", full, {}, (f"{fast}_8xb8-8x8x1-20e_ava21-rgb",)),
        (
            "8x8",
            "",
            "ava22",
            full,
            {},
            (f"{fast}_8xb6-8x8x1-cosine-10e_ava22-rgb", "ava22_slowfast_r50_8x8_cosine"),
        ),
        (
            "8x8",
            "_tmax",
            "ava22",
            full,
            peak,
            (
                f"{fast}-temporal-max_8xb6-8x8x1-cosine-10e_ava22-rgb",
                f"{pooled}_8xb6-8x8x1-cosine-10e_ava22-rgb",
                "ava22_slowfast_r50_temporal_max",
                "ava22_slowfast_r50_temporal_max_focal",
            ),
        ),
    )
    for clip, variant, dataset, args, head, aliases in table:
        frames, stride, _ = FAST[clip]
        yield row(
            f"slowfast_r50_{clip}{variant}_{dataset}_mmaction2",
            "slowfast_r50",
            dataset,
            frames,
            stride,
            _SOURCE,
            _facts(args, head),
            *aliases,
            f"{dataset}_slowfast_r50_{clip}{variant}",
        )
    for dataset in ("ava21", "ava22"):
        yield row(
            f"slowfast_r50_8x8_acrn_{dataset}_mmaction2",
            "slowfast_r50",
            dataset,
            32,
            2,
            _SOURCE,
            _facts(full, {}, "acrn"),
            f"slowfast-acrn_kinetics400-pretrained-r50_8xb8-8x8x1-cosine-10e_{dataset}-rgb",
            f"{dataset}_slowfast_acrn_r50_8x8",
        )
    slow = "slowonly_kinetics400-pretrained"
    attention = {"non_local": non_local(_PLACES, "softmax", mmaction2=True)}
    for depth, clip, variant, args, aliases in (
        (
            50,
            "4x16",
            "",
            {},
            (
                f"{slow}-r50_8xb16-4x16x1-20e_ava21-rgb",
                "slowonly_kinetics700-pretrained-r50_8xb16-4x16x1-20e_ava21-rgb",
                "ava21_slowonly_r50_4x16",
            ),
        ),
        (50, "4x16", "_nl", attention, (f"{slow}-r50-nl_8xb16-4x16x1-20e_ava21-rgb",)),
        (
            50,
            "8x8",
            "_nl",
            attention,
            (f"{slow}-r50-nl_8xb16-8x8x1-20e_ava21-rgb", "ava21_slowonly_r50_nl_8x8"),
        ),
        (
            101,
            "8x8",
            "",
            {},
            (f"{slow}-r101_8xb16-8x8x1-20e_ava21-rgb", "ava21_slowonly_r101_8x8"),
        ),
    ):
        yield row(
            f"slow_r{depth}_{clip}{variant}_ava21_mmaction2",
            f"slow_r{depth}",
            "ava21",
            *CLIP[clip],
            _SOURCE,
            _facts(args, {}),
            *aliases,
        )
    for operator in ("nl", "max", "avg"):
        yield row(
            f"slow_r50_4x16_lfb_{operator}_ava21_mmaction2",
            "slow_r50",
            "ava21",
            *CLIP["4x16"],
            _SOURCE,
            _facts({}, _bank(operator), "feature_bank"),
            f"slowonly-lfb-{operator}_kinetics400-pretrained-r50_8xb12-4x16x1-20e_ava21-rgb",
        )
    yield from _ava_kinetics()


def _bank(operator: str) -> dict[str, Any]:
    """Its heads with a long-term feature bank, whose windows are filled up with zeros."""
    head: dict[str, Any] = {
        "operator": "non_local" if operator == "nl" else operator,
        "bank_channels": 2048,
        "window_seconds": 60,
        "max_persons": 5,
        "masked": False,
    }
    return {**head, "layers": 2, "latent": 512} if operator == "nl" else head


def _ava_kinetics() -> Iterator[Architecture]:
    """The ladder of tricks, each on top of the ones before."""
    start, tail = "slowonly_k700-pre-r50", "10e_ava-kinetics-rgb"
    context = {"context": True}
    peak = {**context, "temporal_pool": "max"}
    mlp = {**peak, "mlp_hidden": 4096}
    full = f"{start}-context-temporal-max-nl-head_8xb8-8x8x1"
    for clip, variant, head, aliases in (
        (
            "4x16",
            "",
            {},
            (f"slowonly_k400-pre-r50_8xb8-4x16x1-{tail}", f"{start}_8xb8-4x16x1-{tail}"),
        ),
        (
            "8x8",
            "",
            {},
            (f"slowonly_k400-pre-r50_8xb8-8x8x1-{tail}", f"{start}_8xb8-8x8x1-{tail}"),
        ),
        ("8x8", "_context", context, (f"{start}-context_8xb8-8x8x1-{tail}",)),
        ("8x8", "_context_tmax", peak, (f"{start}-context-temporal-max_8xb8-8x8x1-{tail}",)),
        (
            "8x8",
            "_context_tmax_mlp",
            mlp,
            (
                f"{full}-{tail}",
                f"{full}-focal-{tail}",
                "avak_slowonly_r50_context_temporal_max_nl_head",
            ),
        ),
        (
            "16x4",
            "_context_tmax_mlp",
            mlp,
            (f"{start}_8xb8-16x4x1-10e-tricks_ava-kinetics-rgb",),
        ),
    ):
        yield row(
            f"slow_r50_{clip}{variant}_avak_mmaction2",
            "slow_r50",
            "avak",
            *CLIP[clip],
            _SOURCE,
            _facts({}, head),
            *aliases,
        )


def _facts(args: dict[str, Any], head: dict[str, Any], name: str | None = None) -> dict[str, Any]:
    facts = {
        "args": {**args, "dilate": False},
        "head": {"resolution": 8, "aligned": True, **head},
        "norm": IMAGENET,
    }
    return facts if name is None else {**facts, "head_name": name}
