"""avadet's own weights files from strangers: they name no code, and their lies are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from avadet import registry
from avadet.convert import load_model
from avadet.convert.load import inspect
from avadet.errors import UserError
from avadet.models.description import ModelDescription, create, read_description, save_weights
from avadet.models.preprocess import Preprocessing
from avadet.persons import weights as person_weights
from avadet.persons.faster_rcnn import DetectorDescription


def _fields(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "name": "x",
        "task": "classification",
        "backbone": "c2d_tiny",
        "num_classes": 3,
        "preprocessing": Preprocessing(8, 8).to_dict(),
        "activation": "softmax",
        "head": "pool",
    }
    return values | changes


def _write(path: Path, fields: Any) -> Path:
    save_file({"w": torch.ones(1)}, path, metadata={"avadet": json.dumps(fields)})
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"backbone": "os:system", "backbone_args": {"command": "touch PWNED"}},
        {"head": "os:system", "head_args": {"command": "touch PWNED"}},
        {"backbone": "subprocess:call", "backbone_args": {"args": ["touch", "PWNED"]}},
        {"backbone": "builtins:exec", "backbone_args": {"source": "open('PWNED', 'w')"}},
        {"task": "detection", "head": "feature_bank", "head_args": {"operator": "evil:run"}},
        {"head_args": {"any": [{"deep": "evil:run"}]}},
    ],
)
def test_a_file_cannot_name_code(
    changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text("open('PWNED', 'w').close()")
    path = _write(tmp_path / "x.safetensors", _fields(**changes))
    for read in (load_model, inspect, read_description):
        with pytest.raises(UserError, match="code outside avadet"):
            read(path)
    assert not (tmp_path / "PWNED").exists()


def test_a_person_detector_cannot_name_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pixels = {"mean": [0, 0, 0], "std": [1, 1, 1]}
    fields = {"task": "persons", "name": "os:system", "args": {"command": "touch PWNED"}}
    fields |= {"preprocessing": pixels, "person_class": 0, "notes": ""}
    with pytest.raises(UserError, match="code outside avadet"):
        person_weights.load(_write(tmp_path / "x.safetensors", fields))
    assert not (tmp_path / "PWNED").exists()


def test_a_person_detector_is_told_from_an_action_network(tmp_path: Path) -> None:
    path = tmp_path / "persons.safetensors"
    person_weights.save(path, person_weights.create(DetectorDescription("faster_rcnn_tiny")))
    with pytest.raises(UserError, match=r"persons\.safetensors: a person detector, not an action"):
        load_model(path)


def test_code_that_its_user_named_is_his_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text("from avadet.models.backbones.c3d import C3D as net\n")
    monkeypatch.syspath_prepend(tmp_path)
    fields = _fields(backbone="mine:net", backbone_args={"width": 4}, head="c3d")
    fields["head_args"] = {"hidden": 8}
    description = ModelDescription.from_json(json.dumps(fields))
    path = tmp_path / "x.safetensors"
    monkeypatch.setattr(registry, "_used", set())
    save_weights(path, create(description))  # a config reaches for it in the same way
    assert load_model(path).description.backbone == "mine:net"
    monkeypatch.setattr(registry, "_used", set())
    with pytest.raises(UserError, match="set AVADET_TRUST=mine:net"):
        load_model(path)
    monkeypatch.setenv("AVADET_TRUST", "other:net,mine:net")
    assert load_model(path).description.backbone == "mine:net"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (_fields(backbone="c2d_r999"), "unknown backbone 'c2d_r999'"),
        (_fields(backbone=["c2d_tiny"]), "must be text"),
        (_fields(backbone_args={"depths": [10**9, 1, 1, 1]}), "from 1 to 200"),
        (_fields(backbone_args={"width": 10**7}), "do not fit"),
        (_fields(backbone_args={"width": "wide"}), "makes no network"),
        (_fields(backbone_args={"colour": 1}), "makes no network.*colour"),
        (_fields(num_classes=0), "at least 1"),
        (_fields(num_classes=10**9), "do not fit"),
        ([1, 2], "must be a JSON object"),
        ({"name": "x"}, "preprocessing is missing"),
    ],
)
def test_descriptions_that_lie(fields: Any, words: str, tmp_path: Path) -> None:
    path = _write(tmp_path / "x.safetensors", fields)
    with pytest.raises(UserError, match=rf"x\.safetensors: (?s:.*){words}"):
        load_model(path)
