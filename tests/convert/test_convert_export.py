"""Round trips: avadet -> PySlowFast or MMAction2 -> avadet, and what these cannot express."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from avadet.convert import architectures, load_model
from avadet.convert.export import export, write
from avadet.convert.recognise import LAYOUTS
from avadet.errors import UserError
from avadet.models.description import ModelDescription, create
from avadet.models.preprocess import Preprocessing

_THIN = {"width": 8}
_ATTENTION = {"places": {"res3": [1], "res4": [0, 2]}, "kind": "dot_product", "pool": [1, 2, 2]}


def _description(
    task: str, backbone: str, args: dict[str, Any], whole: bool = False, **head: Any
) -> ModelDescription:
    detection = task == "detection"
    stride = {"output_stride": 16} if detection else {}
    return ModelDescription(
        name="tiny",
        task=task,
        backbone=backbone,
        num_classes=7,
        preprocessing=Preprocessing(16, 3, 224, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)),
        activation="sigmoid" if detection else "softmax",
        backbone_args={**({} if whole else _THIN), **stride, **args},
        head="roi" if detection else "pool",
        head_args=head,
    )


_CASES = {
    "pyslowfast slowfast detector": (
        "pyslowfast",
        _description(
            "detection",
            "slowfast_r50",
            {"alpha": 8, "fusion_kernel": 5, "res4_temporal_blocks": 2},
            aligned=False,
        ),
    ),
    "pyslowfast slow with attention": (
        "pyslowfast",
        _description(
            "classification",
            "slow_r50",
            {"non_local": {**_ATTENTION, "pool_first": True, "out_bias": True}},
            window=7,
        ),
    ),
    "pyslowfast c2d without pool": (
        "pyslowfast",
        _description("classification", "c2d_r50", {"res2_pool_t": 1}, window=4),
    ),
    "mmaction2 slowfast detector": (
        "mmaction2",
        _description(
            "detection",
            "slowfast_r50",
            {
                "alpha": 4,
                "fusion_kernel": 7,
                "lateral_norm": False,
                "slow_sampling": "stride",
                "dilate": False,
            },
            resolution=8,
            aligned=True,
            temporal_pool="max",
        ),
    ),
    "mmaction2 slowfast classifier": (
        "mmaction2",
        _description(
            "classification",
            "slowfast_r50",
            {"alpha": 4, "fusion_kernel": 7, "lateral_norm": False, "slow_sampling": "stride"},
        ),
    ),
    "mmaction2 slow detector with context and MLP": (
        "mmaction2",
        _description(
            "detection",
            "slow_r50",
            {"dilate": False},
            resolution=8,
            aligned=True,
            context=True,
            mlp_hidden=32,
        ),
    ),
    "mmaction2 i3d with attention": (
        "mmaction2",
        _description(
            "classification",
            "i3d_r50",
            {
                "stem_strides_t": [2, 2],
                "non_local": {**_ATTENTION, "pool_first": False, "out_bias": False},
            },
        ),
    ),
    "mmaction2 ir-CSN": (
        "mmaction2",
        _description("classification", "ir_csn_50", {"frozen_norms": True}),
    ),
    "mmaction2 ip-CSN": ("mmaction2", _description("classification", "ip_csn_50", {})),
    "mmaction2 c2d": (
        "mmaction2",
        _description("classification", "c2d_r50", {"stem_pool_padding": 0}),
    ),
    "mmaction2 heavy i3d": (
        "mmaction2",
        _description("classification", "i3d_r50", {"heavy": True}, whole=True),
    ),
    "mmaction2 i3d with Gaussian attention": (
        "mmaction2",
        _description(
            "classification",
            "i3d_r50",
            {
                "non_local": {
                    **_ATTENTION,
                    "kind": "gaussian",
                    "pool_first": False,
                    "out_bias": False,
                }
            },
        ),
    ),
    "mmaction2 slowfast of two depths": (
        "mmaction2",
        _description(
            "classification",
            "slowfast_r101",
            {"alpha": 8, "fusion_kernel": 5, "fast_depth": 50, "slow_sampling": "stride"},
        ),
    ),
    "pyslowfast slowfast, res4 by pathway": (
        "pyslowfast",
        _description(
            "classification",
            "slowfast_r101",
            {
                "alpha": 4,
                "fusion_kernel": 5,
                "res4_temporal_blocks": 6,
                "fast_res4_temporal_blocks": 23,
            },
            window=7,
        ),
    ),
}


def _model(description: ModelDescription) -> torch.nn.Module:
    torch.manual_seed(3)
    model = create(description)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) * 0.2 + ("running_var" in name))
    return model.eval()


@pytest.mark.parametrize("case", sorted(_CASES))
def test_round_trip(case: str, tmp_path: Path) -> None:
    target, description = _CASES[case]
    model = _model(description)
    path = tmp_path / "exported.pth"
    export(model, path, target)
    again = load_model(path)
    for key in ("task", "backbone", "backbone_args", "head", "num_classes", "preprocessing"):
        assert getattr(again.description, key) == getattr(description, key), key
    assert again.description.activation == description.activation
    ours, back = model.state_dict(), again.state_dict()
    assert list(ours) == list(back)
    for name, value in ours.items():
        assert torch.equal(value, back[name]), name


def test_keys_are_the_other_frameworks_own(tmp_path: Path) -> None:
    target, description = _CASES["pyslowfast slowfast detector"]
    export(_model(description), tmp_path / "x.pyth", target)
    content = torch.load(tmp_path / "x.pyth", weights_only=True)
    assert set(content) == {"epoch", "model_state", "cfg"}
    for key in (
        "s1.pathway1_stem.bn.running_var",
        "s3_fuse.conv_f2s.weight",
        "s2.pathway0_res0.branch1_bn.weight",
        "head.projection.weight",
    ):
        assert key in content["model_state"]
    target, description = _CASES["mmaction2 slowfast detector"]
    export(_model(description), tmp_path / "x.pth", target)
    state = torch.load(tmp_path / "x.pth", weights_only=True)["state_dict"]
    head = state["roi_head.bbox_head.fc_cls.weight"]
    assert head.shape[0] == 8  # a row of zeros for the background comes first
    assert not head[0].any()


@pytest.mark.parametrize(
    ("case", "target", "words"),
    [
        ("mmaction2 slowfast detector", "pyslowfast", "lateral_norm|slow_sampling"),
        ("mmaction2 slow detector with context and MLP", "pyslowfast", "head.hidden"),
        ("pyslowfast slowfast detector", "mmaction2", "slow_sampling"),
        ("pyslowfast slow with attention", "mmaction2", "pool_first|out_bias"),
        ("mmaction2 ir-CSN", "pyslowfast", "cannot express|no network|frozen"),
        ("mmaction2 slowfast of two depths", "pyslowfast", "fast_depth|slow_sampling"),
        ("mmaction2 i3d with Gaussian attention", "pyslowfast", "pool_first|out_bias"),
    ],
)
def test_what_cannot_be_expressed_is_said(
    case: str, target: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=words):
        export(_model(_CASES[case][1]), tmp_path / "x.pth", target)
    assert not (tmp_path / "x.pth").exists()


def test_unknown_target(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not one of avadet, pyslowfast, mmaction2"):
        export(_model(_CASES["mmaction2 ip-CSN"][1]), tmp_path / "x", "keras")


def _published() -> list[tuple[str, str]]:
    return [
        (name, target)
        for name, each in sorted(architectures.architectures().items())
        for target in ("pyslowfast", "mmaction2")
        if target in each.sources
    ]


@pytest.mark.parametrize("target", ["pyslowfast", "mmaction2"])
def test_every_published_network_goes_back_to_where_it_came_from(target: str) -> None:
    """Names, shapes and settings only; the writer reads back what it would write."""
    failed = {}
    for name, source in _published():
        if source != target:
            continue
        description = architectures.get(name).description
        with torch.device("meta"):
            model = create(description)
        try:
            layout, state, _ = write(model.state_dict(), description, target)
        except UserError as error:
            failed[name] = str(error)
            continue
        assert layout.recognises(state), name
        others = [each for each in LAYOUTS if each.recognises(state)]
        assert others[0] is layout, f"{name}: read as {others[0].source}"
    assert not failed


def test_networks_that_nobody_publishes_are_not_written(tmp_path: Path) -> None:
    odd = _description("classification", "slow_r50", {"depths": [1, 2, 3, 1]}, window=7)
    for target in ("pyslowfast", "mmaction2"):
        with pytest.raises(UserError, match="published depths"):
            export(_model(odd), tmp_path / "x.pth", target)
