"""The quickstart on its tiniest data: every step, twice, and what a person finds afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from avadet.cli import main
from avadet.video.reader import VideoReader

STEPS = ("data", "persons", "proposals", "action", "scores", "demo")


@pytest.mark.slow
def test_quickstart_and_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "quick start"
    words = ["quickstart", "--out", str(out), "--preset", "tiny", "--epochs", "40"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    for step in STEPS:
        assert f"== {step}: avadet" in printed
    assert "frame-mAP at IoU 0.5" in printed
    assert "person AP at IoU 0.5" in printed

    summary = json.loads((out / "summary.json").read_text())
    # Two training movies do not teach much, but memory of people and poses carries over.
    assert summary["person_AP50"] > 0.3
    assert summary["frame_mAP_groundtruth"] > 0.2
    with (
        VideoReader(out / "data" / "movies" / "val_0000.mp4") as movie,
        VideoReader(out / "demo.mp4") as demo,
    ):
        assert demo.duration == pytest.approx(movie.duration, abs=0.05)
        assert demo.height >= 480

    weights = out / "action" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    assert main(words) == 0
    printed = capsys.readouterr().out
    for step in STEPS:
        assert f"== {step}: done before" in printed
    assert weights.stat().st_mtime_ns == before


def test_a_step_asked_for_by_other_commands_starts_anew(tmp_path: Path) -> None:
    from avadet.commands.quickstart import Steps

    def demo(preset: str) -> Steps:
        steps = Steps.of(tmp_path)
        folder = tmp_path / "data"
        sizes = ["--movies", "1", "--val-movies", "1", "--seconds", "2", "--size", "64x48"]
        steps.run(
            "data",
            [["prepare", "mini-ava", "--out", f"{folder}", "--preset", preset, *sizes]],
            folder=folder,
            results=[folder / "mini_ava.json"],
        )
        return steps

    demo("tiny")
    stale = tmp_path / "data" / "left over"
    stale.write_text("")
    demo("tiny")
    assert stale.exists()
    demo("small")
    assert not stale.exists()
    assert (tmp_path / "data" / "mini_ava.json").exists()


def test_a_stopped_run_says_how_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from avadet.commands import quickstart

    ran: list[str] = []

    def stopped(words: list[str]) -> None:
        ran.append(words[0])
        raise KeyboardInterrupt

    monkeypatch.setattr(quickstart, "invoke", stopped)
    for times in (1, 2):
        assert main(["quickstart", "--out", str(tmp_path)]) == 130
        assert ran == times * ["prepare"]
        assert capsys.readouterr().err == (
            "avadet quickstart: stopped; the same command goes on where it stopped\n"
        )


def test_folders_of_somebody_else_are_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from avadet.commands.quickstart import Steps
    from avadet.errors import UserError

    own = tmp_path / "persons" / "paper.txt"
    own.parent.mkdir()
    own.write_text("mine")
    with pytest.raises(UserError, match="persons: is not of a quickstart; choose another --out"):
        Steps.of(tmp_path).run("persons", [["models"]], folder=own.parent, results=[own])
    assert own.read_text() == "mine"
    assert not (tmp_path / "steps.json").exists()
    for notes in ("[1]", '{"data": 3}', "{"):
        (tmp_path / "steps.json").write_text(notes)
        assert main(["quickstart", "--out", str(tmp_path)]) == 2
        assert "steps.json: " in capsys.readouterr().err
