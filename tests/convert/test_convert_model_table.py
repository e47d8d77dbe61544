"""The table of networks: complete, counted right, and printed fast."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from avadet.cli import main
from avadet.convert import architectures, model_table, zoo
from avadet.models.backbones import BACKBONES

HOW = "run `python -m avadet.convert.model_table > new.json`, then move it over costs.json"


def test_every_network_has_a_row_and_written_costs() -> None:
    names = model_table.names()
    assert len(set(names)) == len(names)
    assert set(names) == {*architectures.architecture_names(), *BACKBONES.names()}
    assert set(model_table._written()) == set(names), HOW


def test_some_written_costs_are_what_the_counters_say() -> None:
    for name in (
        "slowfast_r50_8x8_k400",
        "slow_r50_4x16_ava22",
        "x3d_m_16x5_k400",
        "vit_b_16x4_videomae_k400",
        "vit_g",
        "c3d",
        "r2d_18",
        "slowfast_tiny",
    ):
        assert model_table.count(name) == model_table.costs(name), f"{name}: {HOW}"


@pytest.mark.slow
def test_all_written_costs_are_what_the_counters_say() -> None:
    different = [n for n in model_table.names() if model_table.count(n) != model_table.costs(n)]
    assert different == [], HOW


def test_costs_that_are_not_written_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    written = model_table.costs("c2d_tiny")
    monkeypatch.setattr(model_table, "_written", dict)
    assert model_table.costs("c2d_tiny") == written


def test_published_costs_of_the_rows_that_people_quote() -> None:
    """GFLOPs and millions of parameters as printed in papers and model tables, within 1%.

    The common table counts batch norms as 5 an element (see test_models_costs); these rows are
    those that do not.
    """
    for name, gflops, millions in (
        ("slow_r50_8x8_k400", 54.52, 32.45),
        ("slowfast_r50_8x8_k400", 65.71, 34.57),
        ("mvit_v1_b_16x4_k400", 70.80, 36.61),
        ("mvit_v1_b_32x3_k400", 170.37, 36.61),
        ("vit_b_16x4_videomae_k400", 180.0, 87.0),
        ("vit_l_16x4_videomae_k400", 597.0, 305.0),
        ("vit_h_16x4_videomae_k400", 1192.0, 633.0),
    ):
        params, macs = model_table.costs(name)
        assert macs / 1e9 == pytest.approx(gflops, rel=0.01), name
        assert params / 1e6 == pytest.approx(millions, rel=0.01), name


def test_weights_and_licences_are_told() -> None:
    (row,) = model_table.rows("slowfast_r101_8x8_nl_ava22")
    assert row["task"] == "detection"
    assert row["published"][0]["numbers"] == {"map": 29.1}
    assert row["published"][0]["weights"] in zoo.rows()
    (row,) = model_table.rows("vit_b_16x4_videomae_ava22")
    assert {each["licence"] for each in row["published"]} == {"CC BY-NC 4.0"}
    assert sorted(each["numbers"]["map"] for each in row["published"]) == [26.7, 31.8]
    (row,) = model_table.rows("mc3_34")
    assert (row["task"], row["classes"], row["published"]) == ("backbone", None, [])


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "slowfast_r50_8x8*", "--json", str(tmp_path / "t.json")]) == 0
    printed = capsys.readouterr().out
    rows = json.loads((tmp_path / "t.json").read_text())
    assert [row["name"] for row in rows] == model_table.names("slowfast_r50_8x8*")
    line = next(line for line in printed.splitlines() if line.startswith("slowfast_r50_8x8_ava22 "))
    for word in ("detection", "80", "33.83", "32x256x256", "map 24.67 (pytorchvideo)"):
        assert word in line, line
    assert main(["models", "alexnet*"]) == 2
    assert "no network matches" in capsys.readouterr().err


@pytest.mark.slow
def test_the_whole_table_comes_at_once() -> None:
    """In a few seconds of computing; counting everything takes more than a minute."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    command = [sys.executable, "-m", "avadet", "models"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.count("\n") > len(model_table.names())
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 25
