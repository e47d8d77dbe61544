"""``avadet eval`` on one and on two processes: the same file, no keyframe counted twice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from avadet import build
from avadet.config import load_config
from avadet.models.description import save_weights
from avadet.synthetic import mini_ava

CONFIG = "configs/mini_ava/slowfast_tiny.yaml"


@pytest.mark.slow
def test_the_same_result_on_one_and_two_processes(tmp_path: Path) -> None:
    data = mini_ava.generate(tmp_path / "data", "tiny", 0, movies=1, val_movies=3, progress=False)
    annotations = data / "annotations"
    overrides = [
        f"data.movies={data / 'movies'}",
        f"data.label_map={annotations / 'ava_action_list.pbtxt'}",
        f"eval.label_map={annotations / 'ava_action_list.pbtxt'}",
        f"data.val_groundtruth={annotations / 'ava_val.csv'}",
        f"data.val_excluded={annotations / 'ava_val_excluded_timestamps.csv'}",
        "data.last_second=4",
        "data.cache=false",
        f"checkpoint={tmp_path / 'model.safetensors'}",
    ]
    config = load_config(CONFIG, overrides)
    torch.manual_seed(1)
    model = build.build_model(config, build.read_classes(config))
    # A fresh head gives all boxes nearly the same scores.
    torch.nn.init.normal_(model.head.projection.weight, std=0.5)
    save_weights(tmp_path / "model.safetensors", model)

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = ["-m", "avadet", "eval", CONFIG, *overrides, "eval.batch_size=1", "--out"]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    starts = {"one": [sys.executable], "two": [sys.executable, *torchrun]}
    printed = {}
    for name, start in starts.items():
        done = subprocess.run(
            [*start, *words, str(tmp_path / name)], capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stderr
        printed[name] = done.stdout.split("\n", 1)[1]
    files = {name: (tmp_path / name / "detections.csv").read_bytes() for name in starts}
    assert files["one"] == files["two"]
    assert printed["one"] == printed["two"]
    rows = files["one"].decode().splitlines()
    assert len(rows) == len(set(rows)) > 0
    assert "frame-mAP at IoU 0.5" in printed["one"]
