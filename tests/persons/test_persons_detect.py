"""``avadet detect``: which keyframes, resuming, sharing out, broken movies, the command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from persons_drawn import CountingDetector, write_movie

from avadet.cli import main
from avadet.errors import UserError
from avadet.persons import proposals, weights
from avadet.persons.faster_rcnn import TINY_PIXELS, DetectorDescription
from avadet.persons.movies import (
    PartFolder,
    Schedule,
    detect_movie,
    detect_movies,
    list_movies,
    wait_for_all,
)
from avadet.structures import Keyframe


@pytest.fixture
def movies(tmp_path: Path) -> dict[str, Path]:
    """Three movies of 5, 3 and 2 seconds."""
    folder = tmp_path / "movies"
    folder.mkdir()
    for name, seconds in (("long", 5), ("middle", 3), ("short", 2)):
        write_movie(folder / f"{name}.mp4", seconds)
    return list_movies([folder])


@pytest.fixture
def tiny_weights(tmp_path: Path) -> Path:
    """An untrained detector with few weights."""
    path = tmp_path / "tiny.safetensors"
    args = {"width": 8, "pyramid_channels": 8, "hidden": 16}
    weights.save(path, weights.create(DetectorDescription("faster_rcnn_tiny", args, TINY_PIXELS)))
    return path


def test_keyframes_are_multiples_of_the_rate_within_the_file() -> None:
    assert Schedule().seconds(3.0).tolist() == [0, 1, 2]
    assert Schedule(rate=2).seconds(1.2).tolist() == [0, 0.5, 1.0]
    ava = Schedule(first_second=902, last_second=1798, movie_start=900)
    seconds = ava.seconds(901.0)
    assert (len(seconds), seconds[0], seconds[-1]) == (897, 902, 1798)
    # What lies beyond the end of the file is not looked at.
    assert ava.seconds(10.0).tolist() == [902, 903, 904, 905, 906, 907, 908, 909]
    assert Schedule(first_second=0.3).seconds(2.5).tolist() == [1, 2]
    for bad in ({"rate": 0.0}, {"first_second": 5.0, "last_second": 4.0}):
        with pytest.raises(UserError):
            Schedule(**bad)


def test_each_keyframe_gets_its_own_frame(movies: dict[str, Path]) -> None:
    schedule = Schedule(rate=2, first_second=101, movie_start=100)
    seconds, found, size = detect_movie(CountingDetector(), movies["middle"], schedule, 2)
    assert size == (48, 64)
    assert seconds == [101, 101.5, 102, 102.5]
    brightness = [round(float(boxes[0, 2]) * 64 * 10) for boxes, _ in found]
    np.testing.assert_allclose(brightness, [30, 30, 40, 40], atol=3)


def test_a_killed_run_continues_after_the_last_finished_movie(
    movies: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "boxes.csv"
    parts = PartFolder(out, {"rate": 1})
    with pytest.raises(KeyboardInterrupt):
        detect_movies(CountingDetector(fail_after=6), movies, parts, Schedule(), batch_size=1)
    again = CountingDetector()
    made = detect_movies(again, movies, PartFolder(out, {"rate": 1}), Schedule())
    assert made == ["middle", "short"]
    assert again.frames == 5
    assert wait_for_all(movies, parts) == {}
    joined = parts.join(list(movies))
    assert joined.num_boxes == 10
    assert joined.sizes["long"] == (48, 64)
    with pytest.raises(UserError, match=r"other settings \(rate\); give --restart"):
        PartFolder(out, {"rate": 2})
    # A movie that was exchanged is looked at again.
    write_movie(movies["short"], 4)
    assert detect_movies(CountingDetector(), movies, parts, Schedule()) == ["short"]


def test_processes_share_the_movies_without_duplicates(
    movies: dict[str, Path], tmp_path: Path
) -> None:
    made = []
    for rank in range(2):
        parts = PartFolder(tmp_path / "boxes.csv", {})
        made += detect_movies(
            CountingDetector(), movies, parts, Schedule(), rank=rank, world_size=2
        )
    assert sorted(made) == ["long", "middle", "short"]
    assert wait_for_all(movies, parts) == {}


def test_broken_movies_are_told_and_the_others_kept(
    movies: dict[str, Path], tmp_path: Path, tiny_weights: Path, capsys: pytest.CaptureFixture
) -> None:
    movies["short"].write_bytes(b"no movie at all")
    out = tmp_path / "boxes.csv"
    words = ["detect", str(movies["short"].parent), "--out", str(out), "--score", "0"]
    words += ["--weights", str(tiny_weights), "--device", "cpu"]
    assert main(words) == 2
    assert "1 of 3 movies cannot be read" in capsys.readouterr().err
    assert not out.exists()
    assert main([*words, "--skip-unreadable"]) == 0
    found = proposals.read(out)
    assert {keyframe.video for keyframe in found.boxes_norm} == {"long", "middle"}
    write_movie(movies["short"], 2)
    assert main(words) == 0
    assert Keyframe("short", 1.0) in proposals.read(out).boxes_norm


def test_convert_and_label_without_detecting(tmp_path: Path) -> None:
    source, truth, out = tmp_path / "a.csv", tmp_path / "gt.csv", tmp_path / "b.csv"
    source.write_text("m,0001,0.1,0.1,0.5,0.9,,0.9\nm,0001,0.6,0.1,0.9,0.9,,0.8\n")
    truth.write_text("m,0001,0.1,0.1,0.5,0.9,12,0\nm,0001,0.1,0.1,0.5,0.9,17,0\n")
    words = ["detect", "--proposals", str(source)]
    assert main([*words, "--out", str(out), "--assign-labels", str(truth)]) == 0
    assert [row.split(",")[6] for row in out.read_text().splitlines()] == ["12", "17", "-1"]
    assert main([*words, "--out", str(tmp_path / "c.npz")]) == 0
    assert proposals.read(tmp_path / "c.npz").num_boxes == 2
    assert main([*words, "--out", str(tmp_path / "c.npz"), "--assign-labels", str(truth)]) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give movies, or --proposals"),
        (["nowhere.mp4"], "--weights is missing"),
        (["nowhere.mp4", "--weights", "none.pkl"], "nowhere.mp4: no such movie"),
        ([".", "--weights", "none.pkl"], "a folder without movies"),
    ],
)
def test_bad_calls_are_answered(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["detect", *words, "--out", "boxes.csv"]) == 2
    assert message in capsys.readouterr().err


def test_two_movies_of_one_name_are_refused(movies: dict[str, Path], tmp_path: Path) -> None:
    other = write_movie(tmp_path / "long.mp4", 1)
    with pytest.raises(UserError, match="two movies are called 'long'"):
        list_movies([movies["long"], other])


def _command(movies: dict[str, Path], out: Path, tiny_weights: Path) -> list[str]:
    command = [sys.executable, "-m", "avadet", "detect", *map(str, movies.values())]
    command += ["--out", str(out), "--weights", str(tiny_weights), "--score", "0"]
    return [*command, "--device", "cpu", "--rate", "5"]


@pytest.mark.slow
def test_two_processes_and_a_kill(
    movies: dict[str, Path], tmp_path: Path, tiny_weights: Path
) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    alone = tmp_path / "alone.csv"
    subprocess.run(_command(movies, alone, tiny_weights), check=True, env=environment)
    killed = tmp_path / "killed.csv"
    process = subprocess.Popen(_command(movies, killed, tiny_weights), env=environment)
    parts = killed.with_name("killed.csv.parts")
    deadline = time.monotonic() + 120
    while not list(parts.glob("*.npz")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    shared_out = tmp_path / "shared.csv"
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = _command(movies, shared_out, tiny_weights)
    subprocess.run([words[0], *launcher, *words[1:]], check=True, env=environment)
    subprocess.run(_command(movies, killed, tiny_weights), check=True, env=environment)
    text = alone.read_text()
    assert len(text.splitlines()) > 10
    assert shared_out.read_text() == text
    assert killed.read_text() == text
