"""The native Faster R-CNN against the answers of Detectron2 (tests/persons/goldens)."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2_recipe import draw_picture, draw_state, read_golden, write_checkpoint

from avadet.persons import images, weights
from avadet.persons.base import create_detector
from avadet.persons.faster_rcnn import FasterRCNN
from avadet.persons.native import NativeDetector

CASES = [
    "faster_rcnn_R_50_FPN_3x",
    pytest.param("faster_rcnn_R_50_DC5_3x", marks=pytest.mark.slow),
    pytest.param("faster_rcnn_R_50_C4_3x", marks=pytest.mark.slow),
    pytest.param("faster_rcnn_X_101_32x8d_FPN_3x", marks=pytest.mark.slow),
    pytest.param("keypoint_rcnn_X_101_32x8d_FPN_3x", marks=pytest.mark.slow),
]


def _picture() -> np.ndarray:
    return np.ascontiguousarray(draw_picture(7, 240, 320)[..., ::-1])


def _check_proposals(boxes: np.ndarray, logits: np.ndarray, golden: dict[str, np.ndarray]) -> None:
    """Same logits in order; every box has its like among those of nearly the same logit."""
    expected, expected_boxes = golden["proposal_logits"], golden["proposal_boxes"]
    np.testing.assert_allclose(logits[: len(expected)], expected, atol=1e-4)
    for index, box in enumerate(expected_boxes):
        near = np.abs(logits - expected[index]) < 1e-4
        assert np.abs(boxes[near] - box).max(axis=1).min() < 0.01, f"proposal {index}"


@pytest.mark.parametrize("name", CASES)
def test_the_same_boxes_as_detectron2(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest, golden = read_golden(name)
    with caplog.at_level(logging.WARNING):
        model = weights.load(write_checkpoint(tmp_path / "model_final.pkl", manifest))
    assert ("keypoint head" in caplog.text) == name.startswith("keypoint")
    pixels = model.description.preprocessing
    assert pixels.mean == tuple(manifest["pixel_mean"])
    assert pixels.std == tuple(manifest["pixel_std"])
    assert pixels.short_side == manifest["default_min_size_test"]
    assert pixels.divisor == manifest["size_divisibility"]
    _check_model(name, model, golden)


def _check_model(name: str, model: FasterRCNN, golden: dict[str, np.ndarray]) -> None:
    pixels = replace(model.description.preprocessing, short_side=400)
    picture = _picture()
    resized = images.resize(picture, 400, 533)
    np.testing.assert_array_equal(resized[:8, :8, ::-1], golden["resized_corner"])
    batch, sizes = images.to_batch([picture], pixels, "cpu")
    assert sizes == [(400, 533)]
    with torch.inference_mode():
        maps = model.features(batch)
        for probed in (n for n in golden if n.startswith("feature_")):
            level = maps[int(probed[-1])]
            steps = [max(1, side // 6) for side in level.shape[2:]]
            probe = level[0, :4, :: steps[0], :: steps[1]].numpy()
            largest = np.abs(golden[probed]).max()
            np.testing.assert_allclose(probe, golden[probed], rtol=0, atol=1e-4 * largest)
        [(boxes, logits)] = model.propose(maps, sizes)
        _check_proposals(boxes.numpy(), logits.numpy(), golden)
        [(found, scores, classes)] = model.box_head.detect(
            maps, [boxes], sizes, score_threshold=0.05
        )
    found = found.numpy() * np.tile([320 / 533, 240 / 400], 2)
    np.testing.assert_array_equal(classes.numpy(), golden["classes"])
    np.testing.assert_allclose(found, golden["boxes"], rtol=0, atol=0.01)
    np.testing.assert_allclose(scores.numpy(), golden["scores"], rtol=0, atol=1e-4)
    if not name.endswith("R_50_FPN_3x"):
        return
    # The engine folds normalisations, uses channels last and picks one class.
    wanted = int(np.bincount(golden["classes"]).argmax())
    model.description = replace(model.description, person_class=wanted)
    detector = NativeDetector(model, device="cpu", short_side=400)
    [people] = detector.detect([picture])
    mine = golden["classes"] == wanted
    np.testing.assert_allclose(people.boxes_px, golden["boxes"][mine], rtol=0, atol=0.01)
    np.testing.assert_allclose(people.scores, golden["scores"][mine], rtol=0, atol=1e-4)


@pytest.mark.detectron2
def test_both_engines_answer_alike_on_a_real_picture(shared: Path, tmp_path: Path) -> None:
    pytest.importorskip("detectron2", reason="the detectron2 library is not installed")
    from avadet.video.reader import open_video

    manifest, _ = read_golden("faster_rcnn_R_50_FPN_3x")
    state = draw_state(manifest)
    # The drawn classifier sees no people; this makes it see many.
    state["roi_heads.box_predictor.cls_score.bias"][0] += 6.0
    path = tmp_path / "model_final.pth"
    torch.save({"model": {name: torch.from_numpy(value) for name, value in state.items()}}, path)
    with open_video(shared / "data/clips/intel_one-by-one-person-detection.mp4") as reader:
        frames = list(reader.read([20.0], short_side=240).frames)
    answers = []
    for engine in ("native", "detectron2"):
        detector = create_detector(engine, weights=path, device="cpu", short_side=320)
        answers.append(detector.detect(frames))
    for native, library in zip(*answers):
        assert len(native) == len(library) > 0
        np.testing.assert_allclose(native.boxes_px, library.boxes_px, rtol=0, atol=0.01)
        np.testing.assert_allclose(native.scores, library.scores, rtol=0, atol=1e-4)
