"""A backbone from outside the package: one file and one YAML, trained and scored by name."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from avadet import registry
from avadet.cli import main
from avadet.errors import UserError
from avadet.models.description import ModelDescription, load_weights, read_description
from avadet.models.preprocess import Preprocessing
from avadet.video.writer import VideoWriter

# What a person writes, as docs/design.md shows it.
DESIGN = Path(__file__).resolve().parents[2] / "docs" / "design.md"
NETWORK = re.findall(r"```python\n(# my_network\.py.*?)```", DESIGN.read_text(), re.DOTALL)[0]
CONFIG = """task: ava
out: runs/mine
model:
  backbone: {name: "my_network:TwoLayers", width: 6}
  head: {name: roi, resolution: 7}
data:
  movies: movies
  label_map: classes.pbtxt
  train_groundtruth: truth.csv
  val_groundtruth: truth.csv
  first_second: 1
  last_second: 3
  num_frames: 8
  frame_stride: 2
  train_short_side: [64, 64]
  crop: 64
  test_short_side: 64
  workers: 0
train: {epochs: 1, batch_size: 2, lr: 0.01, schedule: constant, max_steps: 1, eval_every: 0}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds nothing of avadet, with one movie of three keyframes."""
    (tmp_path / "my_network.py").write_text(NETWORK)
    (tmp_path / "mine.yaml").write_text(CONFIG)
    rng = np.random.default_rng(0)
    with VideoWriter(tmp_path / "movies" / "m.mp4", 96, 64, 15) as writer:
        for _ in range(60):
            writer.write(rng.integers(0, 256, (64, 96, 3)).astype(np.uint8))
    rows = [f"m,{second},0.1,0.1,0.6,0.9,{1 + second % 2},0" for second in (1, 2, 3)]
    (tmp_path / "truth.csv").write_text("\n".join(rows) + "\n")
    items = [f'item {{\n  name: "{name}"\n  id: {i}\n}}\n' for i, name in ((1, "a"), (2, "b"))]
    (tmp_path / "classes.pbtxt").write_text("".join(items))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "my_network", raising=False)
    monkeypatch.setattr(registry, "_used", set())
    return tmp_path


def test_it_is_trained_and_scored_by_its_name(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["train", "mine.yaml"]) == 0
    weights = Path("runs/mine/model.safetensors")
    description = read_description(weights)
    assert description.backbone == "my_network:TwoLayers"
    assert description.backbone_args == {"width": 6}
    assert main(["eval", "mine.yaml"]) == 0
    assert "frame-mAP" in capsys.readouterr().out
    assert len(Path("runs/mine/detections.csv").read_text().splitlines()) == 3 * 2
    model = load_weights(weights)
    assert type(model.backbone).__name__ == "TwoLayers"
    assert model.head.in_channels == 24


def test_its_arguments_are_checked_as_any_others(folder: Path, capsys) -> None:
    assert main(["train", "mine.yaml", "model.backbone.widht=4"]) == 2
    assert "model.backbone.widht" in capsys.readouterr().err
    assert main(["train", "mine.yaml", "model.backbone={name: 'my_network:ThreeLayers'}"]) == 2
    assert "my_network has no 'ThreeLayers'" in capsys.readouterr().err
    assert main(["train", "mine.yaml", "model.backbone={name: 'no_such_file:Net'}"]) == 2
    assert "cannot import no_such_file" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_weights_run_no_code_of_their_own_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file may name any function of any module; none is called because a file says so."""
    path, victim = tmp_path / "bad.safetensors", tmp_path / "victim"
    description = ModelDescription(
        name="bad",
        task="detection",
        backbone="os:system",
        num_classes=2,
        preprocessing=Preprocessing(4, 1),
        activation="sigmoid",
        backbone_args={"command": f"touch {victim}"},
    )
    save_file({"a": torch.zeros(1)}, path, metadata={"avadet": description.to_json()})
    assert main(["convert", "--inspect", str(path)]) == 2
    with pytest.raises(UserError, match=r"os:system.*AVADET_TRUST"):
        load_weights(path)
    monkeypatch.setenv("AVADET_TRUST", "os:path")
    with pytest.raises(UserError, match="AVADET_TRUST"):
        load_weights(path)
    assert not victim.exists()


def test_who_asks_for_a_function_trusts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_used", set())
    with pytest.raises(UserError, match="a file: it names 'math:sqrt'"):
        registry.refuse_code({"deep": ["inside", ("math:sqrt",)]}, "a file")
    registry.Registry("thing").get("math:sqrt")
    registry.refuse_code({"deep": ["inside", ("math:sqrt",)]}, "a file")
    monkeypatch.setenv("AVADET_TRUST", "math:cos,math:sin")
    registry.refuse_code("math:sin", "a file")
    endless: list[object] = ["inside"]
    endless.append(endless)
    registry.refuse_code(endless, "a file")
    with pytest.raises(UserError, match="math:tan"):
        registry.refuse_code([endless, "math:tan"], "a file")
