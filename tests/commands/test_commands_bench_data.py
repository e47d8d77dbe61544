"""The benches of the data side run, in small, and say what they should."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from avadet.cli import main
from avadet.commands import bench_startup, bench_table
from avadet.data.ava_csv import read_groundtruth, read_proposals
from avadet.errors import UserError


def rows_of(path) -> dict[str, dict]:
    return {row["name"]: row for row in json.loads(path.read_text())["rows"]}


@pytest.mark.slow
def test_clips_from_movies_proxies_and_frames(tmp_path, capsys):
    words = "bench data --seconds 8 --width 96 --height 72 --clips 3 --repeat 1"
    assert main([*words.split(), "--json", str(tmp_path / "b.json")]) == 0
    rows = rows_of(tmp_path / "b.json")
    alone, passing = rows["movie, clip by clip"], rows["movie, in its order"]
    assert alone["frames decoded"] > 2 * passing["frames decoded"] > 0
    assert rows["proxy, clip by clip"]["frames decoded"] < alone["frames decoded"]
    assert all(row["clips/CPU s"] > 0 for row in rows.values())
    steps = json.loads((tmp_path / "b.json").read_text())["steps"]
    assert set(steps) == {"movie", "proxy"}
    assert steps["movie"]["decode"] > 0
    assert "clips/CPU s" in capsys.readouterr().out
    assert main([*words.split(), "--lengths", "--json", str(tmp_path / "l.json")]) == 0
    rows = rows_of(tmp_path / "l.json")
    assert rows["movie, 8 s, 1 keyframes/s"]["clips"] == 8
    assert rows["movie, 8 s, 4 keyframes/s"]["clips"] == 32
    # The decoding grows with the movie, not with the clips cut from it.
    assert (
        rows["movie, 8 s, 4 keyframes/s"]["frames decoded"]
        <= 1.3 * rows["movie, 8 s, 1 keyframes/s"]["frames decoded"]
    )


@pytest.mark.slow
def test_starting_on_generated_lists(tmp_path, capsys, monkeypatch):
    words = "bench startup --movies 1 --rows 1000 --repeat 1"
    words += " --config configs/ava/slow_r50_4x16.yaml"
    assert main([*words.split(), "--json", str(tmp_path / "b.json")]) == 0
    rows = rows_of(tmp_path / "b.json")
    row = rows["1 movies, 1,000 rows"]
    assert 100 < row["keyframes"] <= 897
    assert row["peak MB"] > 100
    assert 0 < row["lists and model s"] < row["seconds"]


def test_generated_lists_are_of_the_size_asked_for(tmp_path):
    bench_startup.write_lists(tmp_path, movies=3, val_movies=2, rows=3000)
    truth = read_groundtruth(tmp_path / "train.csv")
    assert len(truth.labels) == pytest.approx(3000, abs=4)
    assert len(truth.videos) == 3
    found = read_proposals(tmp_path / "train_boxes.csv")
    assert len(found) == pytest.approx(1200, rel=0.1)
    assert not found.labelled
    assert len(list((tmp_path / "movies").iterdir())) == 5


def test_a_measured_process_answers_for_itself_alone():
    block = np.ones(2**25)  # 256 MB that are the test's
    found = bench_table.run_child([sys.executable, "-c", "print(sum(range(10**6))); print('b')"])
    assert found.output == "499999500000\nb"
    assert 10e6 < found.peak < block.nbytes
    assert 0 < found.cpu < 30
    with pytest.raises(UserError, match="code 3"):
        bench_table.run_child([sys.executable, "-c", "raise SystemExit(3)"])
