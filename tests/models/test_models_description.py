"""Descriptions and the weights files that carry them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from avadet.errors import UserError
from avadet.models.action import ActionClassifier, ActionDetector
from avadet.models.description import (
    ModelDescription,
    create,
    load_backbone,
    load_weights,
    read_description,
    save_weights,
)
from avadet.models.preprocess import Preprocessing

DETECTOR = ModelDescription(
    name="test",
    task="detection",
    backbone="slowfast_tiny",
    backbone_args={"output_stride": 8},
    head="roi",
    head_args={"resolution": 5, "context": True},
    num_classes=3,
    class_names=("stand", "sit", "wave ünïcode"),
    class_ids=(12, 11, 69),
    preprocessing=Preprocessing(16, 2, 112),
    activation="sigmoid",
)
CLASSIFIER = replace(
    DETECTOR,
    task="classification",
    backbone_args={},
    head="pool",
    head_args={"window": 4},
    activation="softmax",
)


def answer(model: torch.nn.Module) -> torch.Tensor:
    clip = torch.randn(1, 3, 16, 32, 32, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        if isinstance(model, ActionDetector):
            return model(clip, [torch.tensor([[2.0, 3.0, 30.0, 31.0]])])
        return model(clip)


def test_json_and_back() -> None:
    for description in (DETECTOR, CLASSIFIER):
        assert ModelDescription.from_json(description.to_json()) == description


def test_create_makes_what_is_described() -> None:
    detector = create(DETECTOR)
    assert isinstance(detector, ActionDetector)
    assert detector.head.resolution == 5
    assert detector.head.stride == (8, 8)
    assert detector.description is DETECTOR
    classifier = create(CLASSIFIER)
    assert isinstance(classifier, ActionClassifier)
    assert classifier.head.window == 4


@pytest.mark.parametrize("description", [DETECTOR, CLASSIFIER], ids=lambda d: d.task)
def test_weights_file_round_trip(tmp_path: Path, description: ModelDescription) -> None:
    model = create(description).to(memory_format=torch.channels_last_3d)
    model.train().backbone(torch.randn(1, 3, 16, 32, 32))  # running statistics worth keeping
    path = tmp_path / "model.safetensors"
    save_weights(path, model)
    loaded = load_weights(path)
    assert loaded.description == description
    assert read_description(path) == description
    assert not loaded.training
    assert torch.equal(
        answer(loaded), answer(model.eval().to(memory_format=torch.contiguous_format))
    )
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["avadet"])["backbone"] == "slowfast_tiny"


def test_loading_into_a_model_of_other_classes_names_the_layer(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(path, create(DETECTOR))
    other = create(replace(DETECTOR, num_classes=7, class_names=None, class_ids=None))
    with pytest.raises(UserError, match=r"head\.projection\.weight.*num_classes") as raised:
        load_weights(path, other)
    assert "model.safetensors" in str(raised.value)


def test_backbone_of_a_classifier_fits_a_detector(tmp_path: Path) -> None:
    classifier = create(CLASSIFIER)
    path = tmp_path / "model.safetensors"
    save_weights(path, classifier)
    detector = create(replace(DETECTOR, num_classes=7, class_names=None, class_ids=None))
    head = detector.head.projection.weight.clone()
    assert load_backbone(path, detector) == CLASSIFIER
    for key, value in classifier.backbone.state_dict().items():
        assert torch.equal(detector.backbone.state_dict()[key], value), key
    assert torch.equal(detector.head.projection.weight, head)
    csn = create(replace(DETECTOR, backbone="ir_csn_tiny", backbone_args={}))
    with pytest.raises(UserError, match=r"missing: stem\.conv\.weight.*not wanted: .*fast\."):
        load_backbone(path, csn)


def test_foreign_files_are_refused_with_the_way_out(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.safetensors"
    save_file({"blocks.0.conv.weight": torch.zeros(2)}, foreign)
    with pytest.raises(UserError, match=r"blocks\.0\.conv\.weight.*avadet convert"):
        load_weights(foreign)
    checkpoint = tmp_path / "checkpoint.pyth"
    torch.save({"model_state": {}}, checkpoint)
    with pytest.raises(UserError, match=r"checkpoint\.pyth.*avadet convert"):
        load_weights(checkpoint)
    with pytest.raises(UserError, match="no such file"):
        load_weights(tmp_path / "nothing.safetensors")


def test_a_torn_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(path, create(DETECTOR))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"model\.safetensors"):
        load_weights(path)


def test_a_model_without_description_is_not_saved(tmp_path: Path) -> None:
    model = create(DETECTOR)
    model.description = None
    with pytest.raises(UserError, match="description"):
        save_weights(tmp_path / "model.safetensors", model)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"task": "tracking"}, "task"),
        ({"activation": "relu"}, "activation"),
        ({"num_classes": 0}, "num_classes"),
        ({"class_names": ("a",)}, "class_names"),
        ({"class_ids": (1, 2)}, "class_ids"),
        ({"backbone": "slowfast_r5O"}, "slowfast_r50"),
        ({"backbone_args": {"alfa": 4}}, "alfa"),
        ({"head": "rio"}, "roi"),
        ({"head_args": {"dropuot": 0.5}}, "dropuot"),
    ],
)
def test_bad_descriptions_are_named(change: dict[str, Any], word: str) -> None:
    with pytest.raises(UserError, match=word):
        create(replace(DETECTOR, **change))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{", "JSON"),
        ("[]", "object"),
        ("{}", "preprocessing"),
        ('{"extra": 1}', "extra"),
        ('{"preprocessing": {"num_frames": 8, "frame_stride": 8}}', "name"),
    ],
)
def test_bad_json_is_named(text: str, word: str) -> None:
    with pytest.raises(UserError, match=word):
        ModelDescription.from_json(text)
