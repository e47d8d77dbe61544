"""The detectron2 engine; needs the library for all but the first tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from avadet.errors import UserError
from avadet.persons import base
from avadet.persons.base import choose_engine, create_detector


def test_auto_says_which(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(base, "detectron2_is_here", lambda: False)
    assert choose_engine("auto", "model.pkl") == "native"
    assert "native engine (the detectron2 library is not here)" in caplog.text
    with pytest.raises(UserError, match="not installed"):
        choose_engine("detectron2", "model.pkl")
    monkeypatch.setattr(base, "detectron2_is_here", lambda: True)
    assert choose_engine("auto", "model.pkl") == "detectron2"
    assert choose_engine("auto", "model.safetensors") == "native"
    assert choose_engine("detectron2", "model.pkl") == "detectron2"
    with pytest.raises(UserError, match="use engine 'native'"):
        choose_engine("detectron2", "model.safetensors")


@pytest.fixture
def library():
    """The module of the engine, where the library is installed."""
    pytest.importorskip("detectron2", reason="the detectron2 library is not installed")
    from avadet.persons import detectron2

    return detectron2


@pytest.mark.detectron2
def test_configurations_are_found_without_model_zoo(library, tmp_path: Path) -> None:
    import sys

    for name in library.CONFIGS.values():
        assert library.config_path(name).is_file()
    assert library.config_path("COCO-Detection/faster_rcnn_R_50_C4_1x").is_file()
    with pytest.raises(UserError, match="faster_rcnn_R_50_FPN_3x"):
        library.config_path("COCO-Detection/faster_rcnn_R_51")
    assert "detectron2.model_zoo" not in sys.modules


@pytest.mark.detectron2
def test_a_users_own_yaml(library, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(
        f"_BASE_: {library.config_path('COCO-Detection/faster_rcnn_R_50_FPN_3x')}\n"
        "MODEL: {DEVICE: cpu, ROI_HEADS: {NUM_CLASSES: 1}, WEIGHTS: ''}\n"
        "INPUT: {MIN_SIZE_TEST: 96, MAX_SIZE_TEST: 160}\n"
    )
    model, _ = library.build(own, None)
    path = tmp_path / "model_final.pth"
    torch.save({"model": model.state_dict()}, path)
    detector = create_detector(
        "detectron2", weights=path, config=str(own), device="cpu", score_threshold=0.0, flip=True
    )
    frame = torch.randint(0, 255, (48, 64, 3), dtype=torch.uint8).numpy()
    [found] = detector.detect([frame])
    assert (found.boxes_px[:, 2] <= 64).all()
    own.write_text("MODEL: {NO_SUCH_KEY: 1}\nVERSION: 2\n")
    with pytest.raises(UserError, match="refuses this configuration"):
        library.build(own, None)
    with pytest.raises(UserError, match="do not fit COCO-Detection/faster_rcnn_R_101"):
        create_detector(
            "detectron2", weights=path, config="COCO-Detection/faster_rcnn_R_101_FPN_3x.yaml"
        )
    with pytest.raises(UserError, match="no such weights file"):
        create_detector("detectron2", weights=tmp_path / "none.pkl")
