"""The network: folding, losses, files, and that it learns."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from persons_drawn import DrawnPictures
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from avadet.convert import detectron2 as tables
from avadet.errors import UserError
from avadet.persons import weights
from avadet.persons.base import create_detector
from avadet.persons.faster_rcnn import (
    DEFAULT_PIXELS,
    PERSON_MODELS,
    TINY_PIXELS,
    DetectorDescription,
    FasterRCNN,
)
from avadet.persons.native import NativeDetector
from avadet.persons.pictures import PersonBatch, TrainingPictures
from avadet.persons.resnet2d import ConvNorm, FrozenBatchNorm2d
from avadet.persons.task import PersonDetectionTask, detect_all

TINY = DetectorDescription("faster_rcnn_tiny", {}, TINY_PIXELS, notes="a test")


def _shaken(model: FasterRCNN) -> FasterRCNN:
    """Statistics as after training, so that folding has something to fold."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    return model.eval()


def test_folding_changes_nothing() -> None:
    model = _shaken(weights.create(TINY))
    x = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        before = model.features(x)
        after = model.fold().features(x)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in model.modules())
    for level in before:
        torch.testing.assert_close(after[level], before[level], atol=1e-4, rtol=1e-4)


def test_frozen_norm_is_batch_norm_in_evaluation() -> None:
    frozen, batch = FrozenBatchNorm2d(5), torch.nn.BatchNorm2d(5).eval()
    state = {name: torch.rand(5) + 0.5 for name in frozen.state_dict()}
    frozen.load_state_dict(state)
    batch.load_state_dict({**state, "num_batches_tracked": torch.tensor(0)})
    x = torch.randn(2, 5, 3, 3)
    torch.testing.assert_close(frozen(x), batch(x))
    layer = ConvNorm(5, 5, 3)
    layer.fold()
    layer.fold()
    assert layer.conv.bias is not None


def test_losses_of_pictures_with_and_without_people() -> None:
    model = weights.create(TINY).train()
    images = torch.randn(2, 3, 96, 128)
    sizes = [(96, 128), (90, 100)]
    truth = [torch.tensor([[20.0, 10.0, 60.0, 90.0]]), torch.zeros(0, 4)]
    for boxes in (truth, [torch.zeros(0, 4)] * 2):
        losses = model(images, sizes, boxes)
        assert set(losses) == {"rpn_class", "rpn_box", "box_class", "box_box"}
        total = torch.stack(list(losses.values())).sum()
        assert torch.isfinite(total)
        model.zero_grad()
        total.backward()
        # Other processes wait for every gradient, also where nothing was to be learnt.
        assert all(p.grad is not None for p in model.parameters())


def test_diverged_proposals_stop_the_training() -> None:
    model = weights.create(TINY).train()
    with torch.no_grad():
        model.proposals.deltas.bias.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="diverged"):
        model(torch.randn(1, 3, 96, 128), [(96, 128)], [torch.zeros(0, 4)])


@pytest.mark.parametrize("name", PERSON_MODELS.names())
def test_every_detector_builds_and_has_detectron2_names(name: str) -> None:
    with torch.device("meta"):
        state = PERSON_MODELS.get(name)().state_dict()
    if name == "faster_rcnn_tiny":
        assert sum(v.numel() for v in state.values()) < 3_000_000
        return
    theirs = tables.original_names(state)
    assert len(set(theirs.values())) == len(state)
    assert all(tables.rename(other) == own for own, other in theirs.items())
    assert tables.architecture(state) == name
    assert DEFAULT_PIXELS.get(name, TINY_PIXELS) is not None


def test_freezing_leaves_out_stem_and_res2() -> None:
    with torch.device("meta"):
        model = PERSON_MODELS.get("faster_rcnn_r50_fpn")(num_classes=1, freeze_at=2)
    fixed = {n.split(".")[1] for n, p in model.named_parameters() if not p.requires_grad}
    assert fixed == {"stem", "res2"}


def test_own_file_brings_everything_back(tmp_path: Path) -> None:
    pixels = replace(TINY_PIXELS, short_side=96)
    model = _shaken(weights.create(replace(TINY, args={"width": 16}, preprocessing=pixels)))
    path = tmp_path / "persons.safetensors"
    weights.save(path, model)
    again = weights.load(path)
    assert again.description == model.description
    assert not again.training
    frames = [picture for picture, _ in DrawnPictures(3).drawn]
    first = NativeDetector(model, score_threshold=0.0, device="cpu").detect(frames)
    second = create_detector("auto", weights=path, score_threshold=0.0, device="cpu")
    for one, other in zip(first, second.detect(frames)):
        np.testing.assert_array_equal(one.boxes_px, other.boxes_px)
    assert len(first[0]) > 0


def test_a_batch_answers_as_each_frame_alone() -> None:
    model = _shaken(weights.create(TINY))
    detector = NativeDetector(model, score_threshold=0.0, device="cpu", batch_size=3)
    frames = [picture for picture, _ in DrawnPictures(4).drawn]
    for frame, together in zip(frames, detector.detect(frames)):
        [alone] = detector.detect([frame])
        np.testing.assert_allclose(together.boxes_px, alone.boxes_px, atol=1e-2)
        np.testing.assert_allclose(together.scores, alone.scores, atol=1e-4)
    assert detector.detect([]) == []


def test_wrong_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such weights file.*MODEL_ZOO"):
        weights.load(tmp_path / "none.pkl")
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(1)}, foreign)
    with pytest.raises(UserError, match="without avadet's description"):
        weights.load(foreign)
    other = tmp_path / "resnet.pth"
    torch.save({"conv1.weight": torch.zeros(1)}, other)
    with pytest.raises(UserError, match="neither"):
        weights.load(other)
    with pytest.raises(UserError, match="must be one of"):
        create_detector("fast", weights=other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "detection"}, "holds a detection model, not a person detector"),
        ({"person_class": 1}, "person_class 1 is not one of its 1 classes"),
        ({"person_class": -1}, "person_class -1 is not one of"),
        ({"args": {"num_classes": 5}}, "does not fit .* of another shape"),
        ({"args": {"width": -1}}, "makes no detector"),
        ({"args": [1]}, "makes no detector"),
        ({"name": "faster_rcnn_r1"}, "makes no detector"),
        ({"preprocessing": {"std": [0, 0, 0]}}, "std must be above 0"),
        ({"preprocessing": {"mean": [1, 2]}}, "mean must be 3 finite numbers"),
        ({"preprocessing": {"mean": "abc"}}, "description is damaged"),
        ({"preprocessing": {"max_side": 0}}, "no picture fits"),
    ],
)
def test_own_files_that_lie_are_named(tmp_path: Path, change: dict, message: str) -> None:
    path = tmp_path / "persons.safetensors"
    weights.save(path, weights.create(TINY))
    with safe_open(path, framework="pt") as file:
        description = json.loads(file.metadata()["avadet"])
    if "preprocessing" in change:
        change = {"preprocessing": {**description["preprocessing"], **change["preprocessing"]}}
    save_file(load_file(path), path, metadata={"avadet": json.dumps({**description, **change})})
    with pytest.raises(UserError, match=message):
        weights.load(path)


def test_missing_and_diverged_tensors_are_named(tmp_path: Path) -> None:
    path = tmp_path / "persons.safetensors"
    weights.save(path, weights.create(TINY))
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    state = load_file(path)
    name = "box_head.classifier.bias"
    save_file({k: v for k, v in state.items() if k != name}, path, metadata=metadata)
    with pytest.raises(UserError, match=f"1 tensors missing, 0 .*'{name}'"):
        weights.load(path)
    save_file({**state, name: state[name] + float("nan")}, path, metadata=metadata)
    with pytest.raises(UserError, match=f"'{name}' holds NaN"):
        weights.load(path)


def test_tensors_without_a_rule_are_an_error() -> None:
    base = {"roi_heads.box_predictor.cls_score.bias": np.zeros(2, np.float32)}
    with pytest.raises(UserError, match=r"no rule for 1 tensors, such as 'head\.cls\.weight'"):
        tables.convert({"model": {**base, "head.cls.weight": np.zeros(1)}})
    with pytest.raises(UserError, match="blocks in res4"):
        tables.convert({"model": base})
    with pytest.raises(UserError, match=r"'roi_heads.box_predictor.cls_score.bias' .* no numbers"):
        tables.convert({"model": dict.fromkeys(base, "hello")})
    with pytest.raises(UserError, match="a tensor is called 5"):
        tables.convert({"model": {**base, 5: np.zeros(1)}})
    flat = {f"backbone.bottom_up.res4.{n}.conv1.weight": np.zeros(1) for n in range(6)}
    flat |= {f"backbone.bottom_up.res2.0.conv{n}.weight": np.zeros(1) for n in (2, 3)}
    with pytest.raises(UserError, match=r"res2\.0\.conv2 has the shape \[1\]"):
        tables.convert({"model": base | flat})


@pytest.mark.slow
def test_old_files_without_statistics_and_reduction_to_the_person(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = PERSON_MODELS.get("faster_rcnn_r50_fpn")(num_classes=3)
    theirs = tables.original_names(model.state_dict())
    state = {theirs[n]: v for n, v in model.state_dict().items() if "running" not in n}
    state["roi_heads.mask_head.mask_fcn1.weight"] = torch.zeros(1)
    state["pixel_mean"] = torch.tensor([123.0, 117.0, 104.0]).view(3, 1, 1)
    path = tmp_path / "old.pth"
    torch.save({"model": state, "iteration": 9}, path)
    with caplog.at_level(logging.WARNING):
        loaded = weights.load(path, num_classes=1)
    assert "106 normalisation statistics" in caplog.text
    assert "mask head (1 tensors)" in caplog.text
    assert loaded.box_head.num_classes == 1
    assert loaded.description.preprocessing.mean == (123.0, 117.0, 104.0)
    torch.testing.assert_close(
        loaded.box_head.classifier.weight, model.box_head.classifier.weight[[0, 3]]
    )
    torch.testing.assert_close(loaded.box_head.deltas.bias, model.box_head.deltas.bias[:4])
    start = weights.create(
        DetectorDescription("faster_rcnn_r50_fpn", {"num_classes": 1, "freeze_at": 2})
    )
    weights.initialise(start, path)
    assert start.description.preprocessing.mean == (123.0, 117.0, 104.0)
    tiny = weights.create(TINY)
    with pytest.raises(UserError, match="the config asks for faster_rcnn_tiny"):
        weights.initialise(tiny, path)


@pytest.mark.slow
def test_a_tiny_detector_learns_drawn_people(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = weights.create(replace(TINY, args={"width": 16, "pyramid_channels": 32}))
    task = PersonDetectionTask(model, DrawnPictures(24, seed=1))
    data = TrainingPictures(DrawnPictures(64), short_sides=(96,), max_side=160, brightness=0.1)
    loader = torch.utils.data.DataLoader(data, 8, shuffle=True, collate_fn=PersonBatch.collate)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for epoch in range(10):
        data.set_epoch(epoch)
        for batch in loader:
            loss = task.loss(batch.to("cpu"))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert task.describe(batch)[0].startswith("drawn@")
    assert task.weight(batch) == 8.0
    metrics = task.evaluate(model.eval())
    assert metrics["AP50"] > 0.9, metrics
    task.export(tmp_path / "model.safetensors", model)
    again = NativeDetector.from_file(tmp_path / "model.safetensors", device="cpu")
    found, truth = detect_all(again, DrawnPictures(4, seed=2))
    assert len(found) == len(truth) == 4
