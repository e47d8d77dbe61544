"""The bench of feature banks: its table by hand, what a clip can tell at best, one small run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from avadet.cli import main
from avadet.commands import bench_memory_bank
from avadet.commands.bench_memory_bank import HEADS, clip_ceiling, make_table
from avadet.data.feature_bank import FeatureBank
from avadet.synthetic import mini_ava
from avadet.synthetic.context import HIDDEN_NAMES


def row(head: str, seed: int, shown: float, hidden: float) -> dict:
    names = dict.fromkeys(HIDDEN_NAMES.values(), hidden)
    return {
        "head": head,
        "seed": seed,
        "AP": {"stand": shown, "sit": shown, **names},
        "params": 1_230_000,
    }


def test_the_table_by_hand() -> None:
    rows = [row("no bank", 0, 1.0, 0.2), row("no bank", 1, 0.8, 0.4), row("maximum", 0, 0.9, 0.9)]
    table = make_table(rows, {"all": 0.5, "shown": 1.0, "hidden": 1 / 3})
    assert table.splitlines()[2:] == [
        "| best of a clip | 50.0 | 100.0 | 33.3 | |",
        "| no bank | 45.0 ± 5.0 | 90.0 ± 10.0 | 30.0 ± 10.0 | 1.23 |",
        "| maximum | 90.0 ± 0.0 | 90.0 ± 0.0 | 90.0 ± 0.0 | 1.23 |",
    ]


@pytest.mark.slow
def test_a_clip_tells_what_is_seen_and_of_the_rest_one_in_three(tmp_path: Path) -> None:
    data = mini_ava.generate(
        tmp_path / "data", "long_context", 0, movies=6, val_movies=6, progress=False
    )
    ceiling = clip_ceiling(data)
    assert ceiling["shown"] == 1
    assert ceiling["hidden"] == pytest.approx(1 / 3, abs=0.08)
    shown, hidden = 7, 6
    mean = (shown * ceiling["shown"] + hidden * ceiling["hidden"]) / (shown + hidden)
    assert ceiling["all"] == pytest.approx(mean)


@pytest.mark.slow
def test_a_small_run_and_its_continuation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    some = {name: HEADS[name] for name in ("no bank", "non-local, 2 layers")}
    monkeypatch.setattr(bench_memory_bank, "HEADS", some)
    words = ["bench", "memory-bank", "--out", str(tmp_path), "--movies", "2", "--val-movies", "1"]
    words += ["--seeds", "0", "--epochs", "1", "--set", "train.batch_size=4"]
    assert main(words) == 0
    table = capsys.readouterr().out
    assert all(f"| {name} | " in table for name in some)
    assert FeatureBank(tmp_path / "bank_0").videos == ["train_0000", "train_0001", "val_0000"]
    rows = json.loads((tmp_path / "result.json").read_text())
    assert [each["head"] for each in rows] == list(some)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert len(stamps) >= len(some)
    assert main(words) == 0
    assert capsys.readouterr().out == table
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
