"""Parameter names and shapes are public: people's weights depend on them.

``goldens/state_dicts.json`` holds, per backbone with a 400-class head, the number of tensors and a
hash over all names and shapes, and the whole list for two tiny networks to be read. After a
change that is meant: ``python tests/models/test_models_goldens.py`` writes it anew.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from avadet.models.action import ActionClassifier
from avadet.models.backbones import BACKBONES
from avadet.models.heads import PoolHead

GOLDEN = Path(__file__).parent / "goldens" / "state_dicts.json"
NON_LOCAL = {"non_local": {"places": {"res4": [0]}}}
LISTED = {"slowfast_tiny": NON_LOCAL, "ip_csn_tiny": {}}


def state_lines(name: str, **args: Any) -> list[str]:
    with torch.device("meta"):
        backbone = BACKBONES.get(name)(**args)
        model = ActionClassifier(backbone, PoolHead(backbone.out_channels, 400))
    return [f"{key} {list(value.shape)}" for key, value in model.state_dict().items()]


def summary(name: str) -> dict[str, Any]:
    lines = state_lines(name)
    digest = hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
    return {"tensors": len(lines), "sha256": digest}


def current() -> dict[str, Any]:
    return {
        "summaries": {name: summary(name) for name in BACKBONES.names()},
        "lists": {name: state_lines(name, **args) for name, args in LISTED.items()},
    }


@pytest.mark.parametrize("name", BACKBONES.names())
def test_names_and_shapes_are_those_published(name: str) -> None:
    golden = json.loads(GOLDEN.read_text())["summaries"]
    assert name in golden, f"{name} is new: write the goldens anew"
    assert summary(name) == golden[name]


def test_nothing_published_has_gone() -> None:
    assert set(json.loads(GOLDEN.read_text())["summaries"]) <= set(BACKBONES.names())


@pytest.mark.parametrize("name", LISTED)
def test_listed_names(name: str) -> None:
    assert state_lines(name, **LISTED[name]) == json.loads(GOLDEN.read_text())["lists"][name]


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(current(), indent=1) + "\n")
