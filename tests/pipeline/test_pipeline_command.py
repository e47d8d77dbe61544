"""``avadet demo`` from the command line: what it writes and what it says when it cannot."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from pipeline_movies import NAMES, tiny_model, write_movie

from avadet.cli import main
from avadet.commands.demo import seconds
from avadet.models.description import save_weights
from avadet.persons import weights as person_weights
from avadet.persons.faster_rcnn import DetectorDescription


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of both networks, where the quickstart puts them."""
    folder = tmp_path_factory.mktemp("run")
    save_weights(folder / "action" / "model.safetensors", tiny_model())
    torch.manual_seed(0)
    detector = person_weights.create(DetectorDescription("faster_rcnn_tiny"))
    person_weights.save(folder / "persons" / "model.safetensors", detector)
    return folder


@pytest.fixture(scope="module")
def square(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short movie with boxes in AVA's format beside it."""
    folder = tmp_path_factory.mktemp("movies")
    rows = [f"square,{k},0.1,0.2,0.5,0.9,,0.9" for k in range(3)]
    (folder / "boxes.csv").write_text("\n".join(rows) + "\n")
    return write_movie(folder / "square.mp4")


def test_with_the_weights_of_a_run(
    run_folder: Path, square: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out, table = tmp_path / "o.mp4", tmp_path / "o.json"
    words = ["demo", str(square), "--run", str(run_folder), "--out", str(out)]
    # An untrained detector is sure of nothing.
    words += ["--json", str(table), "--person-threshold", "0", "--top-k", "2", "--device", "cpu"]
    assert main(words) == 0
    assert out.stat().st_size > 1000
    assert [c["name"] for c in json.loads(table.read_text())["classes"]] == list(NAMES)
    captured = capfd.readouterr()
    assert captured.out.splitlines() == [str(out), str(table)]
    assert "3 keyframes" in captured.err


def test_with_given_boxes_and_weights(run_folder: Path, square: Path, tmp_path: Path) -> None:
    table = tmp_path / "o.csv"
    weights = run_folder / "action" / "model.safetensors"
    words = ["demo", str(square), "--weights", str(weights), "--csv", str(table)]
    words += ["--boxes", str(square.parent / "boxes.csv"), "--device", "cpu"]
    assert main(words) == 0
    rows = [line.split(",") for line in table.read_text().splitlines()]
    assert [row[1] for row in rows] == ["0000"] * 3 + ["0001"] * 3 + ["0002"] * 3
    assert main([*words[:-6], *words[-6:-4], *words[-4:], "--people-only"]) == 0
    assert len(table.read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "nothing to write"),
        (["--out", "o.avi"], "name it so"),
        (["--out", "o.mp4"], "make quickstart"),
        (["--out", "o.mp4", "--people-only"], "--persons WEIGHTS"),
        (["--out", "o.mp4", "--weights", "none.safetensors", "--boxes", "b.csv"], "none.safetens"),
        (["--out", "o.mp4", "--run", "nowhere"], "no such folder"),
        (["--out", "o.mp4", "--start", "9", "--end", "2"], "must lie after"),
        (["--out", "o.mp4", "--start", "1:00"], "lies after its end"),
        (["--csv", "o.txt", "--json", "./o.txt"], "--json o.txt: is written by --csv already"),
        (["--csv", "."], "--csv .: is a folder"),
        (["--out", "o.mp4", "--people-only", "--persons", "native"], "which weights"),
    ],
)
def test_what_is_missing_is_said(
    square: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", str(square), *words]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_movie_that_is_none(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, content in (("text.mp4", b"words" * 99), ("gone.mp4", None)):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        words = ["demo", str(tmp_path / name), "--run", str(run_folder), "--out"]
        assert main([*words, str(tmp_path / "o.mp4")]) == 2
        assert name in capsys.readouterr().err
        assert not (tmp_path / "o.mp4").exists()


def test_the_movie_itself_is_not_overwritten(
    square: Path, run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = square.read_bytes()
    other_name = tmp_path / "link.mp4"
    other_name.hardlink_to(square)
    for out in (square, other_name):
        assert main(["demo", str(square), "--run", str(run_folder), "--out", str(out)]) == 2
        assert f"--out {out}: is an input and would be lost" in capsys.readouterr().err
    assert square.read_bytes() == before


def test_no_input_is_overwritten(
    square: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    boxes = tmp_path / "boxes.csv"
    boxes.write_bytes((square.parent / "boxes.csv").read_bytes())
    before = boxes.read_bytes(), square.read_bytes()
    words = ["demo", str(square), "--boxes", str(boxes), "--people-only"]
    for option, path in (("--csv", boxes), ("--json", boxes), ("--csv", square)):
        assert main([*words, option, str(path)]) == 2
        assert f"{option} {path}: is an input and would be lost" in capsys.readouterr().err
    assert (boxes.read_bytes(), square.read_bytes()) == before


@pytest.mark.parametrize("text", ["nan", "inf", "1:nan", "-1", "1:2:3:4", ""])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no time"):
        seconds(text)


def test_times() -> None:
    assert [seconds(t) for t in ("90", "1:30", "0:01:30.5")] == [90, 90, 90.5]


@pytest.mark.slow
def test_ctrl_c_leaves_a_movie_that_plays(run_folder: Path, root: Path, tmp_path: Path) -> None:
    movie = write_movie(tmp_path / "long.mp4", frames=1200)
    out = tmp_path / "o.mp4"
    words = [sys.executable, str(root / "demo" / "demo.py"), str(movie), "--out", str(out)]
    words += ["--run", str(run_folder), "--rate", "10", "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment)
    waiting = time.monotonic() + 60
    while not list(tmp_path.glob(".o-*.mp4")) and time.monotonic() < waiting:
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "kept" in said
    import av

    with av.open(str(out)) as container:
        count = sum(1 for _ in container.decode(video=0))
    assert 1 <= count < 1200


@pytest.mark.slow
def test_the_bench_compares_all_arrangements(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "bench demo --seconds 2 --repeat 1 --persons none --short-side 32 --width 96"
    words += f" --height 80 --batch-size 2 --device cpu --json {tmp_path / 'b.json'}"
    assert main(words.split()) == 0
    rows = json.loads((tmp_path / "b.json").read_text())["rows"]
    assert rows[0]["name"] == "one after another, fp32"
    assert len(rows) == 5
    # The order of work never changes a bit; folding the normalisations does, a little.
    assert rows[1]["score difference"] == rows[2]["score difference"] < 1e-5
    assert rows[0]["score difference"] == 0
    # One pass over the movie for clips, keyframes and drawing.
    assert all(row["frames"] < 1.05 for row in rows[1:])
    assert rows[0]["frames"] > 2.5
    told = capsys.readouterr().out
    assert "| one after another, fp32 (baseline) |" in told
    assert "| side by side, fp32 |" in told
