"""Settings inside checkpoints are read for their literals, and never run."""

from __future__ import annotations

from pathlib import Path

import pytest

from avadet.convert.config_text import find_all, lookup, read_python_settings, read_yaml_settings

_BLOCK = """
# a comment
AVA:
  BGR: false
  LISTS:
  - a.csv
  - b.csv
DATA:
  MEAN:
  - 0.45
  - 0.45
  NUM_FRAMES: 32   # trailing
  PATH: ''
NONLOCAL:
  POOL:
  - - - 2
      - 2
      - 2
    - - 1
      - 2
      - 2
  EMPTY: []
SOLVER: {BASE_LR: 1e-3, STEPS: [0, 10,
    15], NOTHING: null}
"""


def test_block_and_flow_yaml() -> None:
    settings = read_yaml_settings(_BLOCK)
    assert settings["AVA"] == {"BGR": False, "LISTS": ["a.csv", "b.csv"]}
    assert settings["DATA"] == {"MEAN": [0.45, 0.45], "NUM_FRAMES": 32, "PATH": ""}
    assert settings["NONLOCAL"] == {"POOL": [[[2, 2, 2], [1, 2, 2]]], "EMPTY": []}
    assert settings["SOLVER"] == {"BASE_LR": 1e-3, "STEPS": [0, 10, 15], "NOTHING": None}


@pytest.mark.parametrize("flow", [None, False, True])
def test_equal_to_a_yaml_library(flow: bool | None) -> None:
    yaml = pytest.importorskip("yaml")
    value = {
        "MODEL": {"ARCH": "slowfast", "DROPOUT_RATE": 0.5, "FLAGS": [True, False]},
        "RESNET": {"SPATIAL_STRIDES": [[1, 1], [2, 2]], "NAMES": ["x y", "z"]},
        "TEXT": "plain words",
    }
    assert read_yaml_settings(yaml.safe_dump(value, default_flow_style=flow)) == value


@pytest.mark.parametrize(
    "text", ["", "just words", "- 1\n- 2", "{", "a: [", ":\n:\n", "a:\n  - {b", "\x00", "[" * 9999]
)
def test_nonsense_gives_nothing(text: str) -> None:
    assert isinstance(read_yaml_settings(text), dict)


def test_python_settings_are_not_run(tmp_path: Path) -> None:
    text = f"""
_base_ = ['x.py']
model = dict(type='FastRCNN', head=dict(size=(8, -1.5), flag=True), made=open('{tmp_path}/x', 'w'))
other = {{'a': [1, 2], 'b': None}}
__import__('os').system('touch {tmp_path}/x')
"""
    settings = read_python_settings(text)
    assert settings["model"]["head"] == {"size": [8, -1.5], "flag": True}
    assert settings["model"]["made"] is None
    assert settings["other"] == {"a": [1, 2], "b": None}
    assert not list(tmp_path.iterdir())
    assert read_python_settings("model = dict(") == {}


def test_lookup_and_search() -> None:
    tree = {"a": {"b": [{"clip_len": 8}, {"c": {"clip_len": 32}}]}}
    assert lookup(tree, "a.b")[0] == {"clip_len": 8}
    assert lookup(tree, "a.x.y", 5) == 5
    assert list(find_all(tree, "clip_len")) == [8, 32]
