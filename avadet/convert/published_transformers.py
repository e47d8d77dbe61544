"""The rows of transformers in ``architectures``.

Sources: configs/Kinetics/MVIT* of PySlowFast 287ec007, pytorchvideo/models/hub/vision_transformers
of PyTorchVideo f3142bb0, torchvision 0.29, configs/{recognition,detection}/videomae of MMAction2
4d6c9347, the model zoos of VideoMAE and VideoMAE V2, transforms and fine-tuning of
VideoMAE-Action-Detection.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from avadet.convert.architectures import IMAGENET, Architecture, row

_TOKEN = {"output": "token"}
_SIDE = {"side": 224}
# Published tests of MViT cut one crop, from frames as small as in training.
_MVIT_SIDE = {"side": 224, "one_crop_side": 256}
# Of its transforms, in units of 255.
_ACTION_DETECTION = ((0.481458, 0.454692, 0.403844), (0.225, 0.225, 0.225))
_GIANTS = tuple(("g", dataset) for dataset in ("k400", "k600", "k710", "ssv2"))
_LARGE: dict[str, Any] = {"side": 312, "norm": IMAGENET}


def rows() -> Iterator[Architecture]:
    """All rows."""
    yield from _mvit()
    yield from _vit()


def _mvit() -> Iterator[Architecture]:
    """Classifiers of the class token; PyTorchVideo's pools have another eps."""
    table: tuple[tuple[str, str, str, int, int, dict[str, Any], tuple[str, ...]], ...] = (
        ("mvit_v1_b_16x4", "mvit_v1_b", "k400", 16, 4, {}, ("MVIT_B_16x4_CONV", "mvit_v1_b")),
        ("mvit_v1_b_32x3", "mvit_v1_b", "k400", 32, 3, {"frames": 32}, ()),
        ("mvit_v1_b24_32x3", "mvit_v1_b24", "k400", 32, 3, {}, ("MVIT_B_32x3_CONV",)),
        ("mvit_v1_b24_32x3", "mvit_v1_b24", "k600", 32, 3, {}, ("MVIT_B_32x3_CONV_K600",)),
        (
            "mvit_v2_s_16x4",
            "mvit_v2_s",
            "k400",
            16,
            4,
            {},
            ("MVITv2_S_16x4", "mvit_v2_s"),
        ),
        ("mvit_v2_b_32x3", "mvit_v2_b", "k400", 32, 3, {}, ("MVITv2_B_32x3",)),
        ("mvit_v2_l_40x3", "mvit_v2_l", "k400", 40, 3, {}, ("MVITv2_L_40x3_test",)),
    )
    for name, backbone, dataset, frames, stride, args, aliases in table:
        torchvision = name.endswith("16x4") and dataset == "k400"
        yield row(
            f"{name}_{dataset}",
            backbone,
            dataset,
            frames,
            stride,
            ("pyslowfast", *(("torchvision",) if torchvision else ())),
            {"args": {**args, **_TOKEN}, **(_LARGE if backbone == "mvit_v2_l" else _MVIT_SIDE)},
            *aliases,
        )
    eps = {**_TOKEN, "pool_norm_eps": 1e-5}
    for name, frames, stride, args, alias in (
        ("16x4", 16, 4, {}, ("mvit_base_16x4", "MVIT_B_16x4")),
        ("32x3", 32, 3, {"frames": 32}, ("mvit_base_32x3", "MVIT_B_32x3")),
        # Its hub function takes another size of pictures.
        ("16x4_112", 16, 4, {"crop": 112}, ("mvit_base_16x4_s112",)),
    ):
        yield row(
            f"mvit_v1_b_{name}_k400_pytorchvideo",
            "mvit_v1_b",
            "k400",
            frames,
            stride,
            ("pytorchvideo",),
            {"args": {**args, **eps}, **({"side": 112} if "crop" in args else _MVIT_SIDE)},
            *alias,
        )


def _giant_file(dataset: str) -> str:
    after = "k710_it_" if dataset in ("k400", "k600") else ""
    return f"vit_g_hybrid_pt_1200e_{after}{dataset}_ft"


def _vit() -> Iterator[Architecture]:
    """VideoMAE and its second version, fine-tuned: classifiers of the mean of all tokens, detectors
    of their map."""
    for size, word in (("s", "small"), ("b", "base"), ("l", "large"), ("h", "huge")):
        yield row(
            f"vit_{size}_16x4_videomae_k400",
            f"vit_{size}",
            "k400",
            16,
            4,
            ("videomae", "mmaction2", "transformers"),
            {"args": {"output": "mean"}, "norm": IMAGENET, **_SIDE},
            f"vit-{word}-p16_videomae-k400-pre_16x4x1_kinetics-400",
            f"videomae-{word}-finetuned-kinetics",
        )
        yield row(
            f"vit_{size}_16x2_videomae_ssv2",
            f"vit_{size}",
            "ssv2",
            16,
            2,
            ("videomae", "mmaction2", "transformers"),
            {"args": {"output": "mean"}, "norm": IMAGENET, **_SIDE},
            f"videomae-{word}-finetuned-ssv2",
        )
        yield row(
            f"vit_{size}_16x4_videomae_ava22",
            f"vit_{size}",
            "ava22",
            16,
            4,
            ("videomae_action_detection",),
            {
                "args": {"output": "map"},
                # RoIAlign without the half cell; boxes are widened in tests.
                "head": {"aligned": False, "extend": [0.1, 0.05]},
                "norm": _ACTION_DETECTION,
            },
        )
    for size, dataset in (("s", "k710"), ("b", "k710"), *_GIANTS):
        alias = f"vit_{size}_k710_dl_from_giant" if size != "g" else _giant_file(dataset)
        yield row(
            f"vit_{size}_16x{2 if dataset == 'ssv2' else 4}_videomae2_{dataset}",
            f"vit_{size}",
            dataset,
            16,
            2 if dataset == "ssv2" else 4,
            ("videomae",),
            {"args": {"output": "mean"}, "norm": IMAGENET, **_SIDE},
            alias,
        )
    for size, word in (("b", "base"), ("l", "large")):
        yield row(
            f"vit_{size}_16x4_videomae_avak_mmaction2",
            f"vit_{size}",
            "avak",
            16,
            4,
            ("mmaction2",),
            {
                "args": {"output": "map"},
                "head": {"resolution": 8, "aligned": True},
                "norm": IMAGENET,
            },
            f"vit-{word}-p16_videomae-k400-pre_8xb8-16x4x1-20e-adamw_ava-kinetics-rgb",
            f"avak_videomae_vit_{size}16",
        )
