"""``avadet verify`` on drawn movies: it measures, compares, and names every reason it finds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from avadet.cli import main
from avadet.commands import verify
from avadet.convert import zoo
from avadet.convert.zoo import ZooRow
from avadet.models.description import ModelDescription, create, load_weights, save_weights
from avadet.models.preprocess import Preprocessing


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn movies with AVA annotations."""
    from avadet.synthetic import mini_ava

    return mini_ava.generate(
        tmp_path_factory.mktemp("mini"), "tiny", seed=5, workers=1, progress=False
    )


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny detector, and a zoo whose only row claims to be its source."""
    row = ZooRow(
        name="tiny_ava22",
        arch="",
        source="mmaction2",
        url="https://example.org/tiny.pth",
        licence="Apache-2.0",
        published={"map": 60.0},
        protocol="MMAction2",
        sha256_prefix="00000000",
    )
    other = ZooRow("start_k400", "", "vmz", "https://example.org/k.pth", "x", {}, "y")
    monkeypatch.setattr(zoo, "rows", lambda: {row.name: row, other.name: other})
    description = ModelDescription(
        name="tiny",
        task="detection",
        backbone="slow_r50",
        num_classes=80,
        preprocessing=Preprocessing(4, 2, 64),
        activation="sigmoid",
        backbone_args={"depths": [1, 1, 1, 1], "width": 8, "output_stride": 16},
        head_args={"aligned": True},
    )
    # The drawn movies are short: all their seconds count.
    monkeypatch.setattr(verify, "KEYFRAMES", (None, None))
    path = tmp_path / "tiny.safetensors"
    save_weights(path, create(description))
    return path


def _words(data: Path, weights: Path, out: Path) -> list[str]:
    return [
        "verify",
        "tiny_ava22",
        "--movies",
        str(data / "movies"),
        "--groundtruth",
        str(data / "annotations" / "ava_val.csv"),
        "--label-map",
        str(data / "annotations" / "ava_action_list.pbtxt"),
        "--weights",
        str(weights),
        "--out",
        str(out),
        "--device",
        "cpu",
        "--workers",
        "0",
    ]


def test_verify_names_the_reasons(
    data: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out"
    assert main(_words(data, weights, out)) == 1
    text = capsys.readouterr().out
    assert "published 60" in text
    assert "outside the tolerance" in text
    for reason in (
        "not the published 00000000",
        "ground-truth boxes are scored",
        "no list of excluded timestamps",
        "AVA's val set has 64",
        "movies end before second 1799",
    ):
        assert reason in text
    result = json.loads((out / "verify.json").read_text())
    assert result["published"] == 60.0
    assert not result["within"]
    assert (out / "detections.csv").is_file()


def test_missing_movies_cuts_and_protocols_are_named(
    data: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    truth = tmp_path / "ava_val_v2.1.csv"
    gone = ",".join(["gone", *_rows(data)[0].split(",")[1:]])
    truth.write_text("\n".join([*_rows(data), gone]) + "\n")
    proposals = tmp_path / "boxes.csv"
    lines = [",".join([*line.split(",")[:6], "", "0.95"]) for line in _rows(data)]
    proposals.write_text("\n".join(lines) + "\n")
    words = _words(data, weights, tmp_path / "out")
    words[words.index("--groundtruth") + 1] = str(truth)
    words += ["--proposals", str(proposals), "--score-threshold", "0.5"]
    words += ["--protocol", "official", "--tolerance", "100"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "1 of 2 annotated movies are missing or have no boxes: gone" in text
    assert "annotations of AVA v2.1; the published number is on v2.2" in text
    assert "proposals of score >= 0.5; the published test cuts at 0.9" in text
    assert "protocol official; the published number is by mmaction2" in text
    assert "within the tolerance" in text


def _rows(data: Path) -> list[str]:
    return (data / "annotations" / "ava_val.csv").read_text().splitlines()


def test_what_verify_cannot_do_is_said(
    data: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    words = _words(data, weights, tmp_path)
    words[1] = "start_k400"
    assert main(words) == 2
    assert "no number of AVA, Kinetics or Charades" in capsys.readouterr().err
    words[1] = "tiny_ava2"
    assert main(words) == 2
    assert "Did you mean 'tiny_ava22'? `avadet zoo list` shows all" in capsys.readouterr().err
    words[1] = "tiny_ava22"
    words[words.index("--groundtruth") + 1] = str(tmp_path / "none.csv")
    assert main(words) == 2
    assert "there is no such file" in capsys.readouterr().err


def test_weights_with_a_memory_ask_for_their_bank(
    data: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = load_weights(weights).description
    head = {"operator": "max", "window_seconds": 4, "max_persons": 2}
    model = create(replace(plain, head="feature_bank", head_args=head))
    save_weights(weights, model)
    words = _words(data, weights, tmp_path / "out")
    assert main(words) == 2
    assert "--bank: tiny asks a long-term feature bank" in capsys.readouterr().err
    boxes = tmp_path / "boxes.csv"
    rows = (data / "annotations/ava_val.csv").read_text().splitlines()
    boxes.write_text("".join(f"{','.join(row.split(',')[:6])},,1\n" for row in rows))
    save_weights(tmp_path / "base.safetensors", create(plain))
    fill = ["features", "--movies", str(data / "movies"), "--boxes", str(boxes)]
    fill += ["--weights", str(tmp_path / "base.safetensors"), "--bank", str(tmp_path / "bank")]
    assert main(fill) == 0
    assert main([*words, "--bank", str(tmp_path / "bank")]) in (0, 1)
    assert "frame-mAP" in capsys.readouterr().out
