"""Mini-AVA and Mini-Kinetics on disk: formats, determinism, resuming."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import av
import pytest

from avadet.cli import main
from avadet.errors import UserError
from avadet.synthetic import mini_ava, mini_kinetics
from avadet.synthetic.deck import Deck
from avadet.synthetic.settings import MINI_AVA_PRESETS

ROW = re.compile(r"[a-z]+_\d{4},\d{4}(,[01]\.\d{3}){4},\d{1,2},\d+\n")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mini_ava.generate(
        tmp_path_factory.mktemp("mini"), "tiny", 7, seconds=14, workers=1, progress=False
    )


def _official_label_map(path: Path) -> dict[int, str]:
    """Reads as the official evaluator does: lines that begin with two blanks and a key."""
    classes, name = {}, ""
    for line in path.read_text().splitlines():
        if line.startswith("  name:"):
            name = line.split('"')[1]
        elif line.startswith("  id:"):
            classes[int(line.strip().split(" ")[-1])] = name
    return classes


def test_files_are_those_of_ava(tiny: Path) -> None:
    listed = (tiny / "annotations/ava_file_names_train.txt").read_text()
    assert listed == "train_0000.mp4\ntrain_0001.mp4\n"
    classes = _official_label_map(tiny / "annotations/ava_action_list.pbtxt")
    assert classes[12] == "stand"
    assert sorted(classes) == [10, 11, 12, 14, 36, 47, 67, 69]
    for split in ("train", "val"):
        text = (tiny / f"annotations/ava_{split}.csv").read_text()
        assert text
        excluded_text = (tiny / f"annotations/ava_{split}_excluded_timestamps.csv").read_text()
        excluded = {tuple(row) for row in csv.reader(excluded_text.splitlines())}
        assert excluded
        for line in text.splitlines(keepends=True):
            assert ROW.fullmatch(line), line
            video, second, *box, action, _ = line.strip().split(",")
            x1, y1, x2, y2 = map(float, box)
            assert x1 < x2
            assert y1 < y2
            assert int(action) in classes
            assert 1 <= int(second) <= 13
            assert (video, second) not in excluded


def test_other_readers_of_the_project_agree(tiny: Path) -> None:
    ava_csv = pytest.importorskip("avadet.data.ava_csv")
    label_map = ava_csv.read_label_map(tiny / "annotations/ava_action_list.pbtxt")
    table = ava_csv.read_groundtruth([tiny / "annotations/ava_val.csv"], label_map)
    assert len(table) > 0
    files = ava_csv.read_file_names(tiny / "annotations/ava_file_names_val.txt")
    assert len(files) == 1
    assert len(ava_csv.read_excluded([tiny / "annotations/ava_val_excluded_timestamps.csv"])) >= 2


def test_movies_are_h264_of_the_asked_length_and_size(tiny: Path) -> None:
    about = json.loads((tiny / "mini_ava.json").read_text())
    assert (about["fps"], about["first_second"], about["last_second"]) == (30, 1, 13)
    assert [c["id"] for c in about["classes"]] == [10, 11, 12, 14, 36, 47, 67, 69]
    with av.open(str(tiny / "movies/val_0000.mp4")) as movie:
        stream = movie.streams.video[0]
        assert (stream.width, stream.height) == (96, 80)
        assert stream.average_rate == 30
        packets = [p for p in movie.demux(stream) if p.size]
    assert len(packets) == 14 * 30
    assert sum(p.is_keyframe for p in packets) <= 5  # cuts and the long GOP only
    assert [p.pts for p in packets] != sorted(p.pts for p in packets)  # B-frames


def test_all_actions_last_around_every_key_frame_that_counts(tiny: Path) -> None:
    for note in (tiny / "notes").iterdir():
        excluded = json.loads(note.read_text())["excluded"]
        changes = [second + 0.5 for second in excluded[::2]]
        assert excluded == [s for c in changes for s in (int(c - 0.5), int(c + 0.5))]
        kept = set(range(1, 14)) - set(excluded)
        assert all(abs(second - change) >= 1.5 for second in kept for change in changes)


def test_same_seed_same_bytes_whatever_the_workers(tiny: Path, tmp_path: Path) -> None:
    mini_ava.generate(tmp_path, "tiny", 7, seconds=14, workers=2, progress=False)
    names = sorted(p.relative_to(tiny) for p in tiny.rglob("*") if p.is_file())
    assert names == sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    for name in names:
        assert (tiny / name).read_bytes() == (tmp_path / name).read_bytes(), name


def test_another_seed_and_another_split_differ(tiny: Path, tmp_path: Path) -> None:
    mini_ava.generate(
        tmp_path, "tiny", 8, movies=1, val_movies=0, seconds=14, workers=1, progress=False
    )
    one = (tmp_path / "movies/train_0000.mp4").read_bytes()
    assert one != (tiny / "movies/train_0000.mp4").read_bytes()
    names = ("train_0000", "train_0001", "val_0000")
    assert len({(tiny / f"movies/{n}.mp4").read_bytes() for n in names}) == 3


def test_finished_movies_are_kept_and_others_redone(tmp_path: Path) -> None:
    def make(**overrides: object) -> dict[str, int]:
        mini_ava.generate(
            tmp_path, "tiny", 1, val_movies=0, seconds=4, workers=1, progress=False, **overrides
        )
        return {p.name: p.stat().st_mtime_ns for p in (tmp_path / "movies").iterdir()}

    first = make(movies=1)
    grown = make(movies=2)
    assert grown["train_0000.mp4"] == first["train_0000.mp4"]
    rows = (tmp_path / "annotations/ava_train.csv").read_text()
    broken = tmp_path / "movies/train_0001.mp4"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:100])
    (tmp_path / "notes/train_0000.json").write_text("{")
    mended = make(movies=2)
    assert broken.read_bytes() == whole
    assert mended["train_0000.mp4"] != first["train_0000.mp4"]
    assert (tmp_path / "annotations/ava_train.csv").read_text() == rows
    assert make(movies=2, tempo=1.1)["train_0001.mp4"] != mended["train_0001.mp4"]


def test_wrong_settings_are_named(tmp_path: Path) -> None:
    for message, overrides in {
        "movies": {"movis": 3},
        "seconds=1": {"seconds": 1},
        "preset": {"preset": "huge"},
        "workers=0": {"workers": 0, "movies": 1},
        "people": {"people": (3, 2)},
    }.items():
        with pytest.raises(UserError, match=message):
            mini_ava.generate(tmp_path, overrides.pop("preset", "tiny"), 0, **overrides)
    with pytest.raises(UserError, match="two people"):
        mini_kinetics.generate(tmp_path, "tiny", 0, classes=(12, 70))
    assert not list(tmp_path.iterdir())


def test_actions_are_dealt_evenly_across_movies() -> None:
    cards = [Deck((3, 0), 4 * movie) for movie in range(10)]
    dealt = [deck.deal(1, "abcdefgh") for deck in cards for _ in range(4)]
    assert {dealt.count(letter) for letter in "abcdefgh"} == {5}
    assert dealt[:8] != dealt[8:16]


def test_changes_leave_no_short_act() -> None:
    import numpy as np

    settings = MINI_AVA_PRESETS["small"]
    for seconds in range(2, 60):
        changes = mini_ava.change_seconds(np.random.default_rng(seconds), settings, seconds)
        acts = np.diff([0.0, *changes, seconds])
        assert all(c % 1 == 0.5 for c in changes)
        assert acts.min() >= min(seconds, settings.act_seconds[0] - 0.5)


def test_mini_kinetics_lists_clips_and_labels(tmp_path: Path) -> None:
    classes = (12, 14, 69)
    mini_kinetics.generate(tmp_path, "tiny", 2, classes=classes, workers=1, progress=False)
    names = (tmp_path / "annotations/classes.txt").read_text().splitlines()
    assert names == ["stand", "walk", "hand wave"]
    with open(tmp_path / "annotations/train.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert [int(label) for _, label in rows] == [0, 0, 1, 1, 2, 2]
    for path, _ in rows:
        with av.open(str(tmp_path / path)) as movie:
            assert sum(1 for p in movie.demux(video=0) if p.size) == 90
    assert len((tmp_path / "annotations/val.csv").read_text().splitlines()) == 3


def test_a_seed_below_0_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("mini-ava", "mini-kinetics"):
        assert main(["prepare", kind, "--out", str(tmp_path), "--seed", "-1"]) == 2
        assert "--seed -1: must be 0 or more" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_set_without_movies_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--out", str(tmp_path), "--movies", "0", "--val-movies", "0"]
    for kind in ("mini-ava", "mini-kinetics"):
        assert main(["prepare", kind, *words]) == 2
        assert "val_movies=0: out of range" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_prepare_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["prepare", "mini-ava", "--out", str(tmp_path / "a"), "--preset", "tiny"]
    words += ["--movies", "1", "--val-movies", "1", "--seconds", "3", "--size", "64x48"]
    words += [
        "--people",
        "1",
        "--act-seconds",
        "4-5",
        "--workers",
        "1",
        "--contact-sheet",
        str(tmp_path / "s.png"),
    ]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "train: 2 key frames, 2 people" in out
    assert (tmp_path / "s.png").stat().st_size > 1000
    words = ["prepare", "mini-kinetics", "--out", str(tmp_path / "k"), "--preset", "tiny"]
    words += ["--movies", "1", "--val-movies", "0", "--classes", "10,12", "--workers", "1"]
    assert main(words) == 0
    assert "train: 2 clips" in capsys.readouterr().out
    assert main([*words, "--crf", "99"]) == 2
    assert "crf=99" in capsys.readouterr().err
