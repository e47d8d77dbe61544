"""The rooms of the house: who may import whom, what stays behind fences, how long files may be."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "avadet"
SOURCES = sorted(PACKAGE.rglob("*.py"))

LEVELS = {
    "errors": 0,
    "machine": 0,
    "files": 0,
    "structures": 0,
    "boxes": 0,
    "registry": 0,
    "config": 0,
    "evaluation": 0,
    "models": 1,
    "video": 1,
    "convert": 1,
    "visualize": 1,
    "data": 2,
    "synthetic": 2,
    "persons": 2,
    "tracking": 2,
    "build": 3,
    "engine": 4,
    "pipeline": 4,
    "report": 4,
    "commands": 5,
    "cli": 5,
    "__main__": 5,
}
# Rooms of one level that may look at each other, in one direction only.
SIDEWAYS = {
    ("files", "errors"),
    ("boxes", "structures"),
    ("registry", "errors"),
    ("config", "errors"),
    ("config", "registry"),
    ("evaluation", "errors"),
    ("evaluation", "files"),
    ("convert", "models"),
    ("pipeline", "engine"),
    ("cli", "commands"),
    ("__main__", "cli"),
}
FENCES = {
    "av": {"video"},
    "detectron2": {"persons/detectron2.py"},
    "pycocotools": {"persons/coco.py", "evaluation/persons.py"},
    "yaml": {"config/load.py"},
    "torch.distributed": {"engine/distributed.py"},
    "pickle": {"convert/unpickle.py"},
    "cv2": {"data/flow.py"},
}
NO_TORCH_AT_IMPORT = ("commands", "evaluation", "config", "cli.py", "errors.py", "files.py")


def room(path: Path) -> str:
    """The room a file lies in: its folder or module right below the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imports(path: Path, *, only_top: bool = False) -> list[str]:
    """Full names of all modules that a file imports, ``from a import b`` as ``a.b``."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if only_top else list(ast.walk(tree))
    found = []
    for node in nodes:
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def violations(path: Path) -> list[str]:
    """Imports of ``path`` that go up or sideways."""
    here = room(path)
    if here == "__init__":
        return [name for name in imports(path, only_top=True) if name.startswith("avadet.")]
    bad = []
    for name in imports(path):
        if not name.startswith("avadet."):
            continue
        there = name.split(".")[1]
        if there == "__version__" or there == here:
            continue
        assert there in LEVELS, f"{path}: imports {name}, a room without a level"
        down = LEVELS[there] < LEVELS[here]
        if not down and (here, there) not in SIDEWAYS:
            bad.append(f"{path.relative_to(ROOT)}: {here} imports {there}")
    return bad


def test_every_room_has_a_level() -> None:
    assert {room(path) for path in SOURCES} - {"__init__"} <= set(LEVELS)


def test_imports_go_down_only() -> None:
    assert [line for path in SOURCES for line in violations(path)] == []


def test_an_import_that_goes_up_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path / "avadet")
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    bad = tmp_path / "avadet" / "models" / "bad.py"
    bad.parent.mkdir(parents=True)
    bad.write_text("from avadet.engine import train\n")
    assert violations(bad) == ["avadet/models/bad.py: models imports engine"]


def test_evaluation_stands_alone() -> None:
    allowed = ("avadet.errors", "avadet.files", "avadet.evaluation")
    for path in (PACKAGE / "evaluation").rglob("*.py"):
        for name in imports(path):
            assert not name.startswith("torch"), f"{path}: {name}"
            if name.startswith("avadet"):
                assert name.startswith(allowed), f"{path}: {name}"


@pytest.mark.parametrize("library", FENCES)
def test_fences(library: str) -> None:
    for path in SOURCES:
        relative = path.relative_to(PACKAGE).as_posix()
        if any(relative == place or relative.startswith(f"{place}/") for place in FENCES[library]):
            continue
        for name in imports(path):
            assert not f"{name}.".startswith(f"{library}."), f"{relative}: {name}"


def test_light_rooms_import_no_torch() -> None:
    for path in SOURCES:
        relative = path.relative_to(PACKAGE).as_posix()
        if relative.startswith(NO_TORCH_AT_IMPORT):
            for name in imports(path, only_top=True):
                assert name.split(".")[0] not in {"torch", "torchvision"}, f"{relative}: {name}"


def test_torchvision_is_imported_where_it_is_used() -> None:
    """It brings the compiler's modules: seconds and 170 MB at every start."""
    for path in SOURCES:
        found = [name for name in imports(path, only_top=True) if name.startswith("torchvision")]
        assert found == [], path


def test_models_never_see_config() -> None:
    for path in (PACKAGE / "models").rglob("*.py"):
        assert not any(name.startswith("avadet.config") for name in imports(path)), path


def test_file_length() -> None:
    files = [*SOURCES, *(ROOT / "tests").rglob("*.py")]
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {path.name: lines for path, lines in lengths.items() if lines > 400} == {}


def test_names_say_what_files_hold() -> None:
    assert [path for path in SOURCES if path.stem in {"utils", "helpers", "misc", "common"}] == []


def test_tools_hold_no_logic() -> None:
    tools = ROOT / "tools"
    assert not (tools / "__init__.py").exists()
    for path in tools.glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 8, path
