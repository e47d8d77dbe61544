"""Classes of whole videos: the test protocol's answer for any classifier, from the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pipeline_movies import tiny_model, write_movie

from avadet.cli import main
from avadet.data.kinetics import ClipDataset
from avadet.engine.precision import resolve
from avadet.errors import UserError
from avadet.models.description import ModelDescription, create, save_weights
from avadet.models.preprocess import Preprocessing, normalize
from avadet.pipeline.classify import VideoClassifier, ranking
from avadet.video.reader import open_video

NAMES = tuple(f"act {k}" for k in range(7))


@pytest.fixture
def model() -> torch.nn.Module:
    torch.manual_seed(1)
    description = ModelDescription(
        name="tiny",
        task="classification",
        backbone="slow_tiny",
        head="pool",
        num_classes=len(NAMES),
        class_names=NAMES,
        preprocessing=Preprocessing(num_frames=8, frame_stride=3, test_short_side=48),
        activation="softmax",
    )
    model = create(description)
    torch.nn.init.normal_(model.head.projection.weight, std=0.3)
    return model.eval()


@pytest.mark.parametrize(("views", "crops"), [(10, 3), (1, 1), (2, 3)])
def test_the_scores_are_those_of_the_data_sets_views(
    tmp_path: Path, model: torch.nn.Module, views: int, crops: int
) -> None:
    write_movie(tmp_path / "a.mp4", fps=25, frames=70)
    (tmp_path / "list.csv").write_text("a.mp4,0\n")
    dataset = ClipDataset(
        tmp_path / "list.csv",
        num_frames=8,
        frame_stride=3,
        temporal_views=views,
        spatial_crops=crops,
        test_short_side=48,
    )
    assert len(dataset) == views * crops
    with torch.no_grad():
        want = [
            model(normalize(dataset[k].video[None], model.description.preprocessing)).softmax(1)[0]
            for k in range(len(dataset))
        ]
    classifier = VideoClassifier(model, resolve("fp32", "cpu"))
    done: list[int] = []
    with open_video(tmp_path / "a.mp4") as reader:
        got = classifier.scores(
            reader, "a", temporal_views=views, crops=crops, batch_size=4, after_batch=done.append
        )
    np.testing.assert_allclose(got, torch.stack(want).double().mean(0).numpy(), atol=1e-6)
    assert sum(done) == views * crops


def test_one_crop_is_cut_from_frames_scaled_as_in_training(
    tmp_path: Path, model: torch.nn.Module
) -> None:
    write_movie(tmp_path / "a.mp4", fps=25, frames=70)
    (tmp_path / "list.csv").write_text("a.mp4,0\n")
    shape = replace(model.description.preprocessing, one_crop_side=60)
    model.description = replace(model.description, preprocessing=shape)
    assert (shape.test_scale(1), shape.test_scale(3)) == (60, 48)
    dataset = ClipDataset(
        tmp_path / "list.csv",
        num_frames=8,
        frame_stride=3,
        temporal_views=1,
        spatial_crops=1,
        test_short_side=48,
        test_scale=60,
    )
    with torch.no_grad():
        want = model(normalize(dataset[0].video[None], shape)).softmax(1)[0]
    classifier = VideoClassifier(model, resolve("fp32", "cpu"))
    with open_video(tmp_path / "a.mp4") as reader:
        got = classifier.scores(reader, "a", temporal_views=1, crops=1)
    np.testing.assert_allclose(got, want.numpy(), atol=1e-6)
    with pytest.raises(UserError, match="one_crop_side: 40 must be an integer that leaves room"):
        replace(shape, one_crop_side=40)


def test_the_command_tells_the_best_classes_and_what_could_not_be_read(
    tmp_path: Path, model: torch.nn.Module, capsys: pytest.CaptureFixture[str]
) -> None:
    save_weights(tmp_path / "w.safetensors", model)
    write_movie(tmp_path / "good.mp4", frames=40)
    write_movie(tmp_path / "short.mp4", frames=2)
    (tmp_path / "bad.mp4").write_text("<html>not found</html>")
    words = ["classify", *(str(tmp_path / name) for name in ("good.mp4", "bad.mp4", "short.mp4"))]
    words += ["--weights", str(tmp_path / "w.safetensors"), "--precision", "fp32", "--top", "3"]
    assert main([*words, "--json", str(tmp_path / "out.json")]) == 2
    told = capsys.readouterr()
    assert "1 of 3 videos could not be read" in told.err
    assert f"not read: {tmp_path / 'bad.mp4'}" in told.out
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["views"] == "5x1"
    good, bad, short = found["videos"]
    assert "error" in bad
    scores = [each["score"] for each in good["top"]]
    assert len(scores) == len(short["top"]) == 3
    assert scores == sorted(scores, reverse=True)
    assert good["top"][0]["name"] == NAMES[good["top"][0]["class"]]
    assert f"{100 * scores[0]:6.2f}  {good['top'][0]['name']}" in told.out
    # All fine: 0.
    assert main([words[0], words[1], *words[4:]]) == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--top", "0"], "--top 0"),
        (["--views", "5x2"], "crops are 1 or 3"),
        (["--views", "x"], "x"),
        (["--json", "a.mp4"], "--json a.mp4: is an input and would be lost"),
        (["--json", "./w"], "--json w: is an input and would be lost"),
    ],
)
def test_wrong_options(tmp_path: Path, options: list[str], words: str, capsys) -> None:
    try:
        code = main(["classify", "a.mp4", "--weights", "w", *options])
    except SystemExit as stop:
        code = int(str(stop.code))
    assert code == 2
    assert words in capsys.readouterr().err


def test_a_detector_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_weights(tmp_path / "d.safetensors", tiny_model())
    assert main(["classify", "a.mp4", "--weights", str(tmp_path / "d.safetensors")]) == 2
    assert "run it with `avadet demo`" in capsys.readouterr().err


def test_equal_scores_rank_by_number() -> None:
    assert ranking(np.asarray([0.1, 0.4, 0.4, 0.1]), 3) == [1, 2, 0]
