"""What the README and the docs tell people to type is understood by the programs."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from avadet.cli import VERBS
from avadet.config import find_config

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    path
    for path in (*ROOT.glob("*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("docs/*.md"))
    if ".venv" not in path.parts
]


def commands(page: Path) -> list[str]:
    """Lines of the code blocks of a page, continued lines joined."""
    found = []
    for block in re.findall(r"^```(?:sh|bash|)\n(.*?)^```", page.read_text(), re.M | re.S):
        found += block.replace("\\\n", " ").splitlines()
    return [line.strip() for line in found]


AVADET = sorted(
    {
        line.split("-m avadet ", 1)[-1].removeprefix("avadet ")
        for page in PAGES
        for line in commands(page)
        if re.match(r"(avadet|torchrun .* -m avadet|python -m avadet) ", line)
    }
)


def test_there_are_commands() -> None:
    assert len(AVADET) > 5


@pytest.mark.parametrize("line", AVADET)
def test_avadet_commands_parse(line: str) -> None:
    verb, *words = shlex.split(line, comments=True)
    if verb.startswith("-"):
        assert verb in ("--help", "--version")
        return
    if verb == "<verb>":
        return
    assert verb in VERBS
    module = importlib.import_module(f"avadet.commands.{verb}")
    if words == ["--help"]:
        return
    parser = argparse.ArgumentParser(exit_on_error=False)
    module.add_arguments(parser)
    parsed = parser.parse_args(words)
    if verb == "bench":
        inner = importlib.import_module(f"avadet.commands.bench_{parsed.what.replace('-', '_')}")
        parser = argparse.ArgumentParser(exit_on_error=False)
        inner.add_arguments(parser)
        parser.parse_args(parsed.rest)
    if verb in ("train", "eval"):
        find_config(parsed.config)


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for page in PAGES:
        for line in commands(page):
            if line.startswith("make "):
                assert set(line.split()[1:2]) <= targets, f"{page}: {line}"


def test_linked_files_exist() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


@pytest.mark.parametrize("tool", sorted(path.name for path in (ROOT / "tools").glob("*.py")))
def test_tools_answer_help(tool: str) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / tool, "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"usage: avadet {tool.removesuffix('.py')}" in done.stdout
