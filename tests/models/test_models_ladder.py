"""The ladder of heads: one line of the config a step, and each step the published network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from avadet import build
from avadet.config import RunConfig, load_config
from avadet.convert import architectures, zoo
from avadet.data.label_map import LabelMap
from avadet.models.description import create

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "ava"
# Step, what it changes, the network and the checkpoint of MMAction2, its mAP there.
STEPS: list[tuple[str, dict[str, Any], str, str, float]] = [
    ("1_roi", {}, "8x8", "slow_r50_8x8_avak_k700_mmaction2", 27.82),
    (
        "2_context",
        {"model.head.context": True},
        "8x8_context",
        "slow_r50_8x8_context_avak_mmaction2",
        28.31,
    ),
    (
        "3_temporal_max",
        {"model.head.temporal_pool": "max"},
        "8x8_context_tmax",
        "slow_r50_8x8_context_tmax_avak_mmaction2",
        28.48,
    ),
    (
        "4_mlp",
        {"model.head.mlp_hidden": 4096},
        "8x8_context_tmax_mlp",
        "slow_r50_8x8_context_tmax_mlp_avak_mmaction2",
        29.83,
    ),
    (
        "5_focal",
        {"train.loss.name": "focal", "train.loss.alpha": 3, "train.loss.gamma": 1},
        "8x8_context_tmax_mlp",
        "slow_r50_8x8_context_tmax_mlp_avak_focal_mmaction2",
        30.33,
    ),
    (
        "6_16x4",
        {"data.num_frames": 16, "data.frame_stride": 4},
        "16x4_context_tmax_mlp",
        "slow_r50_16x4_context_tmax_mlp_avak_mmaction2",
        31.29,
    ),
]


def path(step: str) -> Path:
    return FOLDER / f"ladder_{step}.yaml"


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {k: v for key, each in value.items() for k, v in flat(each, f"{prefix}.{key}").items()}


def settings(config: RunConfig) -> dict[str, Any]:
    return {key[1:]: value for key, value in flat(config.model_dump()).items() if key != ".out"}


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step[0])
def test_a_step_is_the_published_network(step: tuple) -> None:
    name, _, network, checkpoint, published = step
    config = load_config(path(name))
    theirs = architectures.get(f"slow_r50_{network}_avak_mmaction2").description
    with torch.device("meta"):
        model = create(build.describe(config, LabelMap.numbered(80)))
        expected = create(theirs)
    shapes = [{k: v.shape for k, v in each.state_dict().items()} for each in (model, expected)]
    assert shapes[0] == shapes[1]
    head = ("resolution", "aligned", "temporal_pool", "context", "stride")
    assert [getattr(model.head, k) for k in head] == [getattr(expected.head, k) for k in head]
    assert model.description.preprocessing == theirs.preprocessing
    assert zoo.rows()[checkpoint].published == {"map": published}
    assert f"{published:.2f} frame-mAP" in path(name).read_text()


@pytest.mark.parametrize("number", range(1, len(STEPS)), ids=lambda i: STEPS[i][0])
def test_a_step_changes_one_thing(number: int) -> None:
    (before, *_), (after, change, *_) = STEPS[number - 1], STEPS[number]
    old, new = settings(load_config(path(before))), settings(load_config(path(after)))
    assert {key: value for key, value in new.items() if old.get(key) != value} == change
    assert old.keys() - new.keys() == set()
    # In the file: its base, where it writes to, and one line more.
    lines = [line for line in path(after).read_text().splitlines() if not line.startswith("#")]
    assert len([line for line in lines if line not in ("model:",)]) == 3
