"""The command line as a person meets it."""

from __future__ import annotations

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
