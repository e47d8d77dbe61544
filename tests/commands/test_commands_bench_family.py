"""`avadet bench family` on two networks: one row each, kept, and nothing trained twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from avadet.cli import main
from avadet.commands import bench_family, mini_ava_runs
from avadet.models.backbones import BACKBONES


def test_every_tiny_network_has_an_idea_and_fits_the_clip() -> None:
    names = bench_family.networks()
    assert set(BACKBONES.names("*_tiny")) < set(names)
    for name in names:
        assert bench_family.kind(name) != "other", name
        component = bench_family.backbone(name)
        made = BACKBONES.get(component.pop("name"))(**component)
        assert set(made.strides) == {16}, name


def test_table_and_plot_put_the_best_first_and_average_seeds() -> None:
    rows = [
        {"model": name, "kind": "2D", "seed": seed, "mAP": score, "params": 2e6, "macs": 3e8}
        | {"cpu_ms": 12.0 + seed}
        for name, scores in {"a_tiny": (0.2, 0.3), "b_tiny": (0.5, None)}.items()
        for seed, score in enumerate(scores)
    ]
    lines = bench_family.make_table(rows).splitlines()
    assert lines[2] == "| a_tiny | 2D | 25.0 ± 5.0 | 2.00 | 0.30 | 12 |"
    assert lines[3].startswith("| b_tiny | 2D | 25.0 ± 25.0 |")
    assert ">a<" in bench_family.make_plot(rows)


@pytest.mark.slow
def test_a_bench_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "family", "--out", str(tmp_path), "--preset", "tiny", "--movies", "2"]
    words += ["--val-movies", "1", "--epochs", "1", "--models"]
    assert main([*words, "c2d_tiny"]) == 0
    trained: list[str] = []
    real = mini_ava_runs.train_and_score

    def watched(config: str, overrides: list[str], folder: Path) -> dict:
        if not (folder / "row.json").is_file():
            trained.append(folder.name)
        return real(config, overrides, folder)

    monkeypatch.setattr(mini_ava_runs, "train_and_score", watched)
    assert main([*words, "c2d_tiny", "vit_tiny"]) == 0
    assert trained == ["vit_tiny_0"]
    rows = json.loads((tmp_path / "result.json").read_text())
    assert [row["model"] for row in rows] == ["c2d_tiny", "vit_tiny"]
    assert all(0 <= row["mAP"] <= 1 and row["cpu_ms"] > 0 for row in rows)
    assert (tmp_path / "family.svg").read_text().startswith("<svg")
    capsys.readouterr()
    assert main([*words, "c2d_tiny", "--set", "train.lr=1e-4"]) == 2
    assert "other settings" in capsys.readouterr().err
    assert main([*words, "c2d_tinny"]) == 2
    assert "--models c2d_tinny: not one of" in capsys.readouterr().err
