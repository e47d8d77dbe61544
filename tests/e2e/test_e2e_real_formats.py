"""The real AVA files through the real config: trained and scored on drawn movies of those names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from avadet.cli import main
from avadet.synthetic.mini_ava import render_movie
from avadet.synthetic.settings import MINI_AVA_PRESETS

VIDEOS = ("1j20qq1JyX4", "2PpxiG0WU18")


@pytest.fixture(scope="module")
def movies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two movies of AVA's validation set as 15-minute cuts would be, six seconds of each."""
    folder = tmp_path_factory.mktemp("ava") / "movies"
    folder.mkdir()
    for number, video in enumerate(VIDEOS):
        render_movie(folder / f"{video}.mp4", MINI_AVA_PRESETS["tiny"], (number,), 6)
    return folder


@pytest.mark.slow
def test_an_epoch_on_the_real_annotation_files(
    shared: Path, movies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotations = shared / "data" / "ava"
    truth = annotations / "ava_val_v2.1_head27163.csv"
    rows = [line.split(",") for line in truth.read_text().splitlines()]
    rows = [row for row in rows if row[0] in VIDEOS and 902 <= float(row[1]) <= 904]
    assert len({(row[0], row[1]) for row in rows}) >= 4
    overrides = [
        f"out={tmp_path / 'run'}",
        f"data.movies={movies}",
        f"data.label_map={annotations / 'ava_action_list_v2.0.csv'}",
        f"data.train_groundtruth={truth}",
        f"data.val_groundtruth={truth}",
        f"data.train_excluded={annotations / 'ava_train_excluded_timestamps_v2.1.csv'}",
        f"data.val_excluded={annotations / 'ava_val_excluded_timestamps_v2.2.csv'}",
        "data.train_proposals=null",
        "data.val_proposals=null",
        f"eval.label_map={annotations / 'ava_action_list_v2.2_for_activitynet_2019.pbtxt'}",
        "data.movie_start=900",
        "data.last_second=904",
        "data.missing_movies=skip",
        "data.train_short_side=[64, 80]",
        "data.crop=64",
        "data.test_short_side=64",
        "data.workers=0",
        "model.init.source=none",
    ]
    config = "configs/ava/slowfast_r50_8x8.yaml"
    training = ["train.epochs=1", "train.batch_size=2", "train.warmup_epochs=0", "train.lr=0.01"]
    assert main(["train", config, *overrides, *training]) == 0
    assert main(["eval", config, *overrides]) == 0
    printed = capsys.readouterr().out
    assert "frame-mAP at IoU 0.5, protocol official" in printed

    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert len(result["per_class"]) == 60
    assert 0 < result["mAP"] <= 1
    # One row for each true box and each of the 80 classes.
    boxes = {(row[0], row[1], *row[2:6]) for row in rows}
    detections = (tmp_path / "run" / "detections.csv").read_text().splitlines()
    assert len(detections) == 80 * len(boxes)
