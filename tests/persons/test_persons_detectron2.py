"""The detectron2 engine; needs the library for all but the first tests."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from persons_drawn import DrawnPictures, picture
from PIL import Image

from avadet import build
from avadet.commands.bench_persons import draw_weights
from avadet.commands.tasks import train
from avadet.config import load_config
from avadet.errors import UserError
from avadet.persons import base
from avadet.persons import weights as person_weights
from avadet.persons.base import choose_engine, create_detector
from avadet.persons.pictures import PersonBatch


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
    assert choose_engine("detectron2", "model.safetensors") == "detectron2"


def test_training_with_the_library_needs_the_library(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "detectron2_is_here", lambda: False)
    config = load_config(root / "configs/persons/ava_r50_fpn_detectron2.yaml")
    assert config.persons.engine == "detectron2"
    with torch.device("meta"):
        model = build.build_person_detector(config)
    with pytest.raises(UserError, match="not installed; see the README"):
        build.build_person_task(config, model, None)


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


def _native(folder: Path, name: str = "faster_rcnn_r50_fpn", num_classes: int | None = None):
    """A detector of drawn weights that finds many people on small pictures."""
    model = person_weights.load(draw_weights(name, folder / f"{name}.pth"), num_classes=num_classes)
    assert model.description is not None
    pixels = replace(model.description.preprocessing, short_side=224, max_side=400)
    model.description = replace(model.description, preprocessing=pixels)
    return model


@pytest.mark.slow
@pytest.mark.detectron2
@pytest.mark.parametrize("name", ["faster_rcnn_r50_fpn", "faster_rcnn_r50_c4"])
def test_a_native_file_in_the_library_gives_the_same_boxes(
    library, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "native.safetensors"
    person_weights.save(path, _native(tmp_path, name))
    y, x = np.mgrid[0:240, 0:320].astype(np.float32)
    waves = np.stack([np.sin(x / (9 + 4 * c) + y / (31 - 5 * c) + c) for c in range(3)], axis=-1)
    frame = ((waves + 1) * 127.5).astype(np.uint8)
    common = {"weights": path, "device": "cpu", "score_threshold": 0.05}
    [ours] = create_detector("native", **common).detect([frame])
    [theirs] = create_detector("detectron2", **common).detect([frame])
    assert len(ours) == len(theirs) > 0
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)
    np.testing.assert_allclose(ours.boxes_px, theirs.boxes_px, atol=0.01)


@pytest.mark.slow
@pytest.mark.detectron2
def test_both_engines_have_the_same_losses_but_for_what_they_draw(library, tmp_path: Path) -> None:
    """Which anchors and proposals count is drawn anew each time; the means agree."""
    from avadet.persons.detectron2_task import Detectron2Task
    from avadet.persons.pictures import PersonSample
    from avadet.persons.task import PersonDetectionTask

    native = _native(tmp_path, num_classes=1)
    ours, theirs = PersonDetectionTask(native.train()), Detectron2Task(native)
    theirs.model.train()
    source = DrawnPictures(2)
    samples = []
    for i in range(2):
        frame, boxes = source.picture(i)
        samples.append(PersonSample(source.keyframes[i], frame, torch.from_numpy(boxes)))
    batch = PersonBatch.collate(samples)
    means = []
    for task in (ours, theirs):
        torch.manual_seed(0)
        means.append(np.mean([float(task.loss(batch).detach()) for _ in range(4)]))
    assert means[0] == pytest.approx(means[1], rel=0.1)


@pytest.mark.slow
@pytest.mark.detectron2
def test_the_library_trains_and_goes_on_from_one_command(
    library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from avadet.persons.detectron2_task import Detectron2Task

    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(4):
        frame, boxes = picture(rng, 1)
        Image.fromarray(frame).save(tmp_path / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": 96, "width": 128})
        for x1, y1, x2, y2 in boxes.tolist():
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": 1, "iscrowd": 0,
                 "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
            )  # fmt: skip
    truth = tmp_path / "people.json"
    categories = [{"id": 1, "name": "person"}]
    truth.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    path = Path(__file__).parents[2] / "configs/persons/ava_r50_fpn_detectron2.yaml"
    run = tmp_path / "run"
    start = draw_weights("faster_rcnn_r50_fpn", tmp_path / "coco.pth")
    settings = [
        "model.init.source=file", f"model.init.path={start}",
        f"out={run}", f"data.movies={tmp_path}", f"data.train_groundtruth={truth}",
        f"data.val_groundtruth={truth}", "data.workers=0", "data.train_short_side=[64,96]",
        "data.test_short_side=96", "train.epochs=2", "train.batch_size=2", "device=cpu",
        "train.precision=fp32", "train.schedule=constant", "train.steps=[]", "train.factors=[]",
        "train.lr=0.002", "train.warmup_epochs=0",
    ]  # fmt: skip
    result = train(load_config(path, settings), resume=False)
    assert result.finished
    assert result.progress.step == 4
    assert set(result.progress.metrics) == {"AP50", "AP"}
    file = run / "model.safetensors"
    frame, _ = picture(np.random.default_rng(5), 1)
    found = [
        create_detector(engine, weights=file, device="cpu", score_threshold=0.01).detect([frame])[0]
        for engine in ("native", "detectron2")
    ]
    assert len(found[0]) == len(found[1]) > 0
    np.testing.assert_allclose(found[0].scores, found[1].scores, atol=1e-4)
    np.testing.assert_allclose(found[0].boxes_px, found[1].boxes_px, atol=0.01)

    # Interrupted in the third of four steps, and taken up again.
    halves = load_config(path, [*settings, f"out={tmp_path / 'halves'}"])
    losses, calls = Detectron2Task.losses, iter(range(100))

    def interrupted(task: Detectron2Task, batch: PersonBatch) -> dict[str, torch.Tensor]:
        if next(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return losses(task, batch)

    monkeypatch.setattr(Detectron2Task, "losses", interrupted)
    stopped = train(halves, resume=False)
    assert (stopped.finished, stopped.progress.step) == (False, 3)
    assert train(halves, resume=True).progress.step == 4
    straight, resumed = (
        person_weights.load(folder / "model.safetensors").state_dict()
        for folder in (run, tmp_path / "halves")
    )
    for name, value in straight.items():
        assert torch.equal(value, resumed[name]), name
