"""The bench of pre-training: its table by hand, and one small run with its continuation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from avadet.cli import main
from avadet.commands.bench_pretraining import make_table


def test_the_table_by_hand() -> None:
    rows = [
        {"start": "from scratch", "seed": 0, "mAP": 0.5},
        {"start": "from scratch", "seed": 1, "mAP": 0.6},
        {"start": "fine-tuned", "seed": 0, "mAP": 0.8},
    ]
    assert make_table(rows, {0: 0.9, 1: 0.955}).splitlines() == [
        "| start | frame-mAP, mean | seed 0 | seed 1 |",
        "|---|---:|---:|---:|",
        "| from scratch | 55.0 | 50.0 | 60.0 |",
        "| fine-tuned | 80.0 | 80.0 | - |",
        "",
        "Top-1 on Mini-Kinetics, by seed: 90.0, 95.5.",
    ]


@pytest.mark.slow
def test_a_small_run_and_its_continuation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "pretraining", "--out", str(tmp_path), "--clips", "2", "--val-clips", "1"]
    words += ["--movies", "2", "--val-movies", "1", "--seeds", "0"]
    words += ["--clip-epochs", "1", "--epochs", "1"]
    assert main(words) == 0
    table = capsys.readouterr().out
    assert "| linear probe |" in table
    result = json.loads((tmp_path / "result.json").read_text())
    assert [row["start"] for row in result["rows"]] == [
        "from scratch",
        "linear probe",
        "fine-tuned",
    ]
    weights = tmp_path / "fine-tuned_0" / "model.safetensors"
    changed = weights.stat().st_mtime_ns
    assert main(words) == 0
    assert capsys.readouterr().out == table
    assert weights.stat().st_mtime_ns == changed
    assert main([*words[:-1], "2"]) == 2
    assert "by other settings" in capsys.readouterr().err
