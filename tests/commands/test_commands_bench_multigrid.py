"""The bench of multigrid training: cost of a run by hand, one small run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from avadet.cli import main
from avadet.commands.bench_multigrid import run_cost
from avadet.data.draws import ClipShape
from avadet.data.multigrid import plan

SCHEDULE = {"epochs": 57, "steps": [0, 41, 49], "factors": [1, 0.1, 0.01]}


def test_the_cost_of_a_run_by_hand() -> None:
    made = plan(ClipShape(64, 2, 224), **SCHEDULE)
    grids = {grid for phase in made.phases for grid in phase.grids}
    # Clips that all cost the same: one unit for each epoch.
    assert run_cost(made, dict.fromkeys(grids, 1.0)) == pytest.approx(86)
    # Steps that all cost the same: 37 epochs in batches of 32/3 on average, 19 of 16/3, 16 of
    # 14/3, and 14 of 7/3 (test_data_multigrid has the schedule).
    steps = run_cost(made, {grid: 1 / grid.batch for grid in grids})
    assert steps == pytest.approx(37 * 3 / 32 + 19 * 3 / 16 + 16 * 3 / 14 + 14 * 3 / 7)
    assert 3.4 < 57 / steps < 3.5


@pytest.mark.slow
def test_a_small_run(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = "bench multigrid --frames 32 --side 32 --epochs 8 --steps 0 4 6 --repeat 1 --clips 2"
    words += f" --train {tmp_path / 'runs'} --train-epochs 4 --json {tmp_path / 'm.json'}"
    assert main(words.split()) == 0
    printed = capsys.readouterr().out
    assert "| 1 x 32 x 32 (baseline) |" in printed
    assert "multigrid sees 12 epochs (1.5 x)" in printed
    found = json.loads((tmp_path / "m.json").read_text())
    assert found["totals"]["speed-up, 1.5 x epochs, cpu_seconds"] > 1
    plain, equal, longer = found["trained"]
    assert (plain["epochs"], equal["epochs"], longer["epochs"]) == (4, 4, 6)
    assert plain["steps"] > longer["steps"] > equal["steps"]
    assert all(0 <= each["top1"] <= 1 for each in found["trained"])
