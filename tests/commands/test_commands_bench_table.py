"""The table that all benches share."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from avadet.commands import bench_table
from avadet.commands.bench_table import Timing


def timings() -> list[Timing]:
    return [
        Timing("plain", wall=[4.0, 2.0, 8.0], cpu=[4.0, 4.0, 4.0]),
        # Per item half as long in each of the rounds but the last.
        Timing("ours", wall=[4.0, 2.0, 4.0], cpu=[1.0, 2.0, 8.0], items=2.0, facts={"error": 1e-7}),
    ]


def test_ratios_are_those_of_the_rounds() -> None:
    plain, ours = bench_table.rows(timings(), "plain")
    assert plain["ratio"] == plain["cpu_ratio"] == 1.0
    assert (plain["seconds"], plain["lowest"], plain["highest"]) == (4.0, 2.0, 8.0)
    assert (ours["seconds"], ours["lowest"], ours["highest"]) == (2.0, 1.0, 2.0)
    assert ours["ratio"] == 2.0  # median of 2, 2, 4
    assert ours["cpu_ratio"] == 4.0  # median of 8, 4, 1
    assert ours["error"] == 1e-7


def test_a_baseline_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="theirs"):
        bench_table.rows(timings(), "theirs")


def test_cases_take_turns_and_warm_up() -> None:
    order: list[str] = []
    cases = {name: lambda name=name: order.append(name) or name for name in "ab"}
    waits: list[int] = []
    found = bench_table.interleave(cases, rounds=2, wait=lambda: waits.append(len(order)))
    assert order == ["a", "b"] * 3
    assert [len(timing.wall) for timing in found] == [2, 2]
    assert [timing.result for timing in found] == ["a", "b"]
    assert waits == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6]


def test_markdown() -> None:
    text = bench_table.markdown(bench_table.rows(timings(), "plain"), baseline="plain", unit="s")
    assert text.splitlines() == [
        "| case | s, median | lowest-highest | ratio | CPU s | CPU ratio | error |",
        "|---|---:|---:|---:|---:|---:|---:|",
        "| plain (baseline) | 4 | 2-8 | 1.00 | 4 | 1.00 | - |",
        "| ours | 2 | 1-2 | 2.00 | 1 | 4.00 | 1.00e-07 |",
    ]


def test_report_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    bench_table.add_arguments(parser, repeat=3)
    args = parser.parse_args(["--json", str(tmp_path / "out.json")])
    found = bench_table.rows(timings(), "plain")
    bench_table.report("A title", found, baseline="plain", args=args, notes=["not run: x"])
    shown = capsys.readouterr().out
    assert "A title" in shown
    assert "| ours |" in shown
    assert "not run: x" in shown
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["rows"] == found
    assert written["baseline"] == "plain"
    assert written["machine"]["cores"] >= 1


@pytest.mark.parametrize("text", ["0", "-1", "x", "1.5"])
def test_counts_must_be_positive(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="at least 1"):
        bench_table.positive(text)
