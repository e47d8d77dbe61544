"""What a wheel must carry."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")


def test_every_folder_of_configs_travels() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    carried = project["tool"]["setuptools"]["data-files"]
    folders = {path.parent.relative_to(ROOT).as_posix() for path in ROOT.glob("configs/**/*.yaml")}
    for folder in folders:
        assert carried.get(f"share/avadet/{folder}") == [f"{folder}/*.yaml"], folder


def test_the_package_data_patterns_catch_every_data_file() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["avadet"]
    suffixes = {Path(pattern).suffix or Path(pattern).name for pattern in patterns}
    for path in (ROOT / "avadet").rglob("*"):
        known = path.suffix in {".py", ".pyc", ".md"} or path.name == "py.typed"
        if path.is_file() and not known:
            assert path.suffix in suffixes, path
