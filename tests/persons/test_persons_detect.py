"""``avadet detect``: which keyframes, resuming, sharing out, broken movies, the command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
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
    nan, inf = float("nan"), float("inf")
    for bad in (
        {"rate": 0.0}, {"rate": nan}, {"rate": inf}, {"rate": 1e9}, {"movie_start": nan},
        {"last_second": inf}, {"first_second": 5.0, "last_second": 4.0},
    ):  # fmt: skip
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
        (["m.mp4", "--weights", "none.pkl", "--device", "tpu"], "device 'tpu'"),
        (["m.mp4", "--weights", "none.pkl", "--batch-size", "0"], "batch_size 0"),
        (["m.mp4", "--weights", "none.pkl", "--short-side", "-4"], "short_side -4"),
        (["m.mp4", "--weights", "none.pkl", "--scales", "0"], "scales 0"),
        (["m.mp4", "--weights", "none.pkl", "--score", "nan"], "score nan"),
        (["m.mp4", "--weights", "none.pkl", "--nms", "2"], "nms 2"),
        (["m.mp4", "--weights", "none.pkl", "--rate", "nan"], "rate nan"),
        (["m.mp4", "--iou", "0"], "--iou 0"),
        (["m.mp4", "--weights", "none.pkl", "--out", "folder.csv"], "folder.csv: is a folder"),
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
    if "m.mp4" in words:
        Path("m.mp4").touch()
    Path("folder.csv").mkdir()
    assert main(["detect", "--out", "boxes.csv", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_rank_outside_the_group_is_refused(
    movies: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    words = ["detect", str(movies["short"]), "--out", "boxes.csv", "--weights", "none.pkl"]
    for rank, size in (("3", "2"), ("-1", "2"), ("0", "0")):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", size)
        assert main(words) == 2
        assert f"RANK={rank} is not one of WORLD_SIZE={size}" in capsys.readouterr().err


def test_movies_that_hold_no_picture(
    tmp_path: Path, tiny_weights: Path, capsys: pytest.CaptureFixture
) -> None:
    """Empty, sound only, cut short: told by name; and nothing is written where all are broken."""
    whole = write_movie(tmp_path / "whole.mp4", 2)
    cut, empty, sound = (tmp_path / f"{name}.mp4" for name in ("cut", "empty", "sound"))
    cut.write_bytes(whole.read_bytes()[:1500])
    empty.touch()
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 16000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    out = tmp_path / "boxes.csv"
    for movie in (cut, empty, sound):
        words = ["detect", str(movie), "--out", str(out), "--weights", str(tiny_weights)]
        assert main([*words, "--device", "cpu", "--skip-unreadable"]) == 2
        assert movie.name in capsys.readouterr().err
        assert not out.exists()


def test_the_three_formats_agree(
    movies: dict[str, Path], tmp_path: Path, tiny_weights: Path
) -> None:
    found = {}
    for suffix in ("csv", "npz", "json"):
        out = tmp_path / f"boxes.{suffix}"
        words = ["detect", str(movies["short"]), "--out", str(out), "--weights", str(tiny_weights)]
        assert main([*words, "--score", "0", "--device", "cpu"]) == 0
        if suffix != "json":
            found[suffix] = proposals.read(out)
    rows, dictionary = found["csv"], found["npz"]
    content = json.loads((tmp_path / "boxes.json").read_text())
    assert len(content["images"]) == 2
    assert rows.num_boxes == dictionary.num_boxes == len(content["annotations"]) > 0
    for keyframe, boxes in dictionary.boxes_norm.items():
        np.testing.assert_allclose(rows.boxes_norm[keyframe], boxes, atol=5.1e-5)
        np.testing.assert_allclose(rows.scores[keyframe], dictionary.scores[keyframe], atol=1e-6)
    flat = np.concatenate([dictionary.boxes_norm[k] for k in sorted(dictionary.boxes_norm)])
    boxes_px = np.array([a["bbox"] for a in content["annotations"]])
    boxes_px[:, 2:] += boxes_px[:, :2]
    np.testing.assert_allclose(boxes_px / [64, 48, 64, 48], flat, atol=1e-4)


def test_two_movies_of_one_name_are_refused(movies: dict[str, Path], tmp_path: Path) -> None:
    other = write_movie(tmp_path / "long.mp4", 1)
    with pytest.raises(UserError, match="two movies are called 'long'"):
        list_movies([movies["long"], other])
    # One file by two spellings is one movie.
    aside = movies["long"].parent / ".." / "movies" / "long.mp4"
    assert len(list_movies([movies["long"], aside])) == 1


def test_broken_parts_are_made_again(movies: dict[str, Path], tmp_path: Path) -> None:
    parts = PartFolder(tmp_path / "boxes.csv", {"rate": 1})
    detect_movies(CountingDetector(), movies, parts, Schedule())
    whole = (parts.path / "long.npz").read_bytes()
    (parts.path / "long.npz").write_bytes(whole[:200])
    (parts.path / "short.npz").write_bytes(b"")
    assert detect_movies(CountingDetector(), movies, parts, Schedule()) == ["long", "short"]
    assert (parts.path / "long.npz").read_bytes() == whole
    for text in ("{", "[1]"):
        (parts.path / "settings.json").write_text(text)
        with pytest.raises(UserError, match=r"settings\.json: damaged; give --restart"):
            PartFolder(tmp_path / "boxes.csv", {"rate": 1})
    # However young they are, a lone process forgets all parts.
    fresh = PartFolder(tmp_path / "boxes.csv", {"rate": 2}, restart=True)
    assert [path.name for path in fresh.path.iterdir()] == ["settings.json"]


def test_failures_noted_before_the_first_process_began_do_not_block_it(
    movies: dict[str, Path], tmp_path: Path
) -> None:
    """A quicker process may give a movie up while the first one still loads its weights."""
    out = tmp_path / "boxes.csv"
    movies["short"].write_bytes(b"no movie at all")
    other = PartFolder(out, {}, alone=False)
    detect_movies(CountingDetector(), movies, other, Schedule())
    note = other.path / "short.failed"
    os.utime(note, (note.stat().st_mtime - 20,) * 2)
    first = PartFolder(out, {}, alone=False)
    assert first.failure("short") is None

    def retry(some: dict[str, Path]) -> None:
        detect_movies(CountingDetector(), some, first, Schedule())

    assert list(wait_for_all(movies, first, retry=retry)) == ["short"]
    os.utime(note, (note.stat().st_mtime - 20,) * 2)
    write_movie(movies["short"], 2)
    assert wait_for_all(movies, first, retry=retry) == {}
    assert first.join(list(movies)).num_boxes == 10


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
