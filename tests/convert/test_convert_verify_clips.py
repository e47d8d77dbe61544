"""``avadet verify`` of classifiers on drawn clips: numbers, views, and every reason it can find."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from avadet.cli import main
from avadet.convert import zoo
from avadet.convert.zoo import ZooRow
from avadet.models.description import ModelDescription, create, save_weights
from avadet.models.preprocess import Preprocessing
from avadet.video.writer import VideoWriter

NAMES = ("red", "green", "blue")


def _draw(path: Path, colour: int, seconds: int = 2) -> None:
    with VideoWriter(path, 48, 40, 30) as writer:
        frame = np.full((40, 48, 3), 20, np.uint8)
        frame[..., colour] = 230
        for _ in range(30 * seconds):
            writer.write(frame)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips of one colour each, one more that is missing, and Charades' form of the same."""
    folder = tmp_path_factory.mktemp("clips")
    rows = []
    for i, name in enumerate(NAMES):
        _draw(folder / f"{name}.mp4", i)
        rows.append(f"{name}.mp4,{i}")
    (folder / "val.csv").write_text("\n".join([*rows, "gone.mp4,1"]) + "\n")
    (folder / "classes.txt").write_text("\n".join(NAMES) + "\n")
    header = (
        "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length"
    )
    lines = [f"{n},S,Hall,5,6,Yes,x,y,z,c00{i} 0.00 2.00,2.00" for i, n in enumerate(NAMES)]
    (folder / "charades.csv").write_text("\n".join([header, *lines]) + "\n")
    (folder / "charades.txt").write_text("c000 Red\nc001 Green\nc002 Blue\n")
    return folder


def _weights(path: Path, activation: str) -> Path:
    description = ModelDescription(
        name="tiny",
        task="classification",
        backbone="c2d_tiny",
        num_classes=3,
        preprocessing=Preprocessing(8, 2, 32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        activation=activation,
        head="pool",
        class_names=NAMES,
    )
    model = create(description)
    # Always the second class: one clip in three is right.
    model.head.projection.weight.data.zero_()
    model.head.projection.bias.data.copy_(torch.tensor([0.0, 1.0, 0.0]))
    save_weights(path, model)
    return path


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def row(name: str, published: dict[str, float], protocol: str) -> ZooRow:
        return ZooRow(name, "", "vmz", f"https://example.org/{name}", "x", published, protocol)

    table = [
        row("tiny_k400", {"top1": 33.0}, "2 clips x 3 crops of 32, scores averaged"),
        row("odd_k400", {"top1": 33.0}, "as its model card states"),
        row("tiny_charades", {"map": 40.0}, "2 clips x 1 crop of 32, maximum of sigmoid scores"),
    ]
    monkeypatch.setattr(zoo, "rows", lambda: {each.name: each for each in table})


def _words(name: str, data: Path, weights: Path, out: Path, truth: str) -> list[str]:
    words = ["verify", name, "--movies", str(data), "--groundtruth", str(data / truth)]
    words += ["--weights", str(weights), "--out", str(out), "--device", "cpu", "--workers", "0"]
    return words


@pytest.mark.usefixtures("rows")
def test_kinetics(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    weights = _weights(tmp_path / "w.safetensors", "softmax")
    words = _words("tiny_k400", data, weights, tmp_path / "out", "val.csv")
    assert main([*words, "--tolerance", "100"]) == 0
    text = capsys.readouterr().out
    assert "top1 33.33, published 33 (2 clips x 3 crops of 32" in text
    assert "within the tolerance of 100" in text
    assert "3 clips are scored; the validation set was published with about 150" in text
    assert "1 listed clips are missing or cannot be read" in text
    report = json.loads((tmp_path / "out" / "verify.json").read_text())
    assert report["views"] == 6
    assert report["measured"]["top1"] == pytest.approx(100 / 3)
    assert main([*words, "--tolerance", "0.1"]) == 1


@pytest.mark.usefixtures("rows")
def test_other_views_and_classes_are_named(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    weights = _weights(tmp_path / "w.safetensors", "softmax")
    shuffled = tmp_path / "classes.txt"
    shuffled.write_text("green\nred\nBlue\n")
    words = _words("tiny_k400", data, weights, tmp_path / "out", "val.csv")
    words += ["--classes", str(shuffled), "--views", "1x1", "--tolerance", "100"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "1 clips x 1 crops; the published test has 2 x 3" in text
    assert "2 classes have another name than the weights' (first: number 0, 'green'" in text
    words = _words("odd_k400", data, weights, tmp_path / "odd", "val.csv")
    assert main([*words, "--tolerance", "100"]) == 0
    assert "the views of the published test are not known" in capsys.readouterr().out
    assert main([*words, "--views", "ten"]) == 2
    assert "such as 10x3" in capsys.readouterr().err
    shuffled.write_text("a\nb\n")
    assert main([*words, "--classes", str(shuffled)]) == 2
    assert "2 classes" in capsys.readouterr().err


@pytest.mark.usefixtures("rows")
def test_charades(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    weights = _weights(tmp_path / "w.safetensors", "sigmoid")
    words = _words("tiny_charades", data, weights, tmp_path / "out", "charades.csv")
    words += ["--classes", str(data / "charades.txt"), "--tolerance", "100"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "tiny_charades: map" in text
    assert "published 40" in text
    assert "3 videos are annotated; Charades' test set has 1863" in text
    report = json.loads((tmp_path / "out" / "verify.json").read_text())
    assert set(report["protocols"]) >= {"official"}
