"""The command line as a person meets it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from avadet.cli import VERBS, main


def avadet(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "avadet", *words], capture_output=True, text=True, **options
    )  # type: ignore[call-overload]


def test_help_is_light() -> None:
    code = (
        "import sys; from avadet.cli import main; main(['--help']);"
        "heavy = {'torch', 'numpy', 'pandas', 'av', 'pydantic', 'yaml'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for verb in VERBS:
        assert f"\n  {verb}" in done.stdout


def test_importing_the_package_is_light() -> None:
    code = "import sys, avadet; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_answers_help(verb: str) -> None:
    done = avadet(verb, "--help")
    assert done.returncode == 0, done.stderr
    assert f"usage: avadet {verb}" in done.stdout


def test_a_wrong_verb_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert "Did you mean 'train'" in capsys.readouterr().err


def test_no_verb_shows_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: avadet" in capsys.readouterr().out


def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    done = avadet("train", str(tmp_path / "nothing.yaml"))
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1
    assert "nothing.yaml: no such config" in lines[0]


def test_overrides_stand_before_and_after_options(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["configs/mini_kinetics/slowfast_tiny.yaml", "seed=3", "--dump", "train.epochs=7"]
    assert main(["train", *words]) == 0
    shown = capsys.readouterr().out
    assert "seed: 3" in shown
    assert "epochs: 7" in shown


def test_a_refused_start_leaves_the_run_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step_000000001.pt").touch()
    (tmp_path / "config.yaml").write_text("of the run before")
    words = ["configs/mini_kinetics/slowfast_tiny.yaml", f"out={tmp_path}"]
    assert main(["train", *words]) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert (tmp_path / "config.yaml").read_text() == "of the run before"


def test_too_little_memory_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def allocate(args: object) -> int:
        raise MemoryError("unable to allocate 1 TiB")

    monkeypatch.setattr("avadet.commands.models.run", allocate)
    assert main(["models"]) == 2
    assert capsys.readouterr().err == "avadet models: not enough memory: unable to allocate 1 TiB\n"


@pytest.mark.parametrize(("processes", "ending"), [("1", "torn down"), ("2", "")])
def test_one_of_several_processes_ends_without_tearing_down(
    tmp_path: Path, processes: str, ending: str
) -> None:
    # What runs at exit runs first of all when the interpreter is torn down.
    hook = "import atexit; atexit.register(print, 'torn down', end='')"
    (tmp_path / "sitecustomize.py").write_text(hook)
    package = str(Path(__file__).parents[1])
    paths = os.pathsep.join([str(tmp_path), package])
    environment = {**os.environ, "PYTHONPATH": paths, "WORLD_SIZE": processes, "RANK": "0"}
    done = avadet("train", "nothing.yaml", env=environment)
    assert (done.returncode, done.stdout) == (2, ending)
    assert "nothing.yaml: no such config" in done.stderr
    assert avadet("--version", env=environment).stdout.startswith("avadet ")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["--help"], ["models"], ["zoo", "list"]])
def test_a_reader_that_has_seen_enough(words: list[str], unbuffered: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "avadet", *words],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_no_room_for_what_is_printed(unbuffered: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "avadet", "models"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "the disk is full" in done.stderr
