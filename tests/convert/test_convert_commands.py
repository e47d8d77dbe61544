"""``avadet convert`` and ``avadet zoo`` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import avadet
from avadet.cli import main
from avadet.convert.export import export
from avadet.models.description import ModelDescription, create, read_description
from avadet.models.preprocess import Preprocessing


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A PySlowFast file of a tiny network."""
    description = ModelDescription(
        name="tiny",
        task="classification",
        backbone="slow_r50",
        num_classes=3,
        preprocessing=Preprocessing(8, 8),
        activation="softmax",
        backbone_args={"width": 8},
        head="pool",
        head_args={"window": 7},
    )
    path = tmp_path / "tiny.pyth"
    export(create(description), path, "pyslowfast")
    return path


def test_convert_and_back(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.pyth"
    assert main(["convert", str(source), str(ours)]) == 0
    assert "3 classes" in capsys.readouterr().out
    assert read_description(ours).backbone_args == {"width": 8}
    assert main(["convert", str(ours), str(theirs), "--to", "pyslowfast"]) == 0
    before = torch.load(source, weights_only=True)["model_state"]
    after = torch.load(theirs, weights_only=True)["model_state"]
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_names_of_classes_from_the_users_file(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    names, ours = tmp_path / "classes.txt", tmp_path / "ours.safetensors"
    names.write_text("c000 Sitting still\nc001 Jumping\nc002 Turning\n")
    assert main(["convert", str(source), str(ours), "--classes", str(names)]) == 0
    expected = ("c000 Sitting still", "c001 Jumping", "c002 Turning")
    assert read_description(ours).class_names == expected
    assert avadet.load_model(source, class_names=["a", "b", "c"]).description.class_names == tuple(
        "abc"
    )
    names.write_text("c000 Sitting still\n")
    capsys.readouterr()
    assert main(["convert", str(source), str(tmp_path / "n.safetensors"), "--classes", str(names)])
    assert "tiny.pyth: class_names: 1 entries for 3 classes" in capsys.readouterr().err
    assert not (tmp_path / "n.safetensors").exists()


def test_inspect(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["convert", "--inspect", str(source)]) == 0
    text = capsys.readouterr().out
    for word in (
        "torch-zip file",
        "source: pyslowfast",
        "by the settings inside the file",
        "3 classes",
        "8 frames, stride 8",
        "every tensor has its place",
    ):
        assert word in text
    assert main(["convert", str(source), str(tmp_path / "x.safetensors")]) == 0
    capsys.readouterr()
    assert main(["convert", "--inspect", str(tmp_path / "x.safetensors")]) == 0
    assert "avadet's own" in capsys.readouterr().out


def test_inspect_says_what_would_not_fit(source: Path, capsys: pytest.CaptureFixture) -> None:
    content = torch.load(source, weights_only=True)
    content["model_state"]["extra.weight"] = torch.ones(2)
    torch.save(content, source)
    assert main(["convert", "--inspect", str(source)]) == 1
    text = capsys.readouterr().out
    assert "does not fit" in text
    assert "extra.weight" in text


def test_errors_are_one_line_and_exit_code_2(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "bad.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    assert main(["convert", str(tmp_path / "bad.pkl"), str(tmp_path / "x")]) == 2
    assert "os.system" in capsys.readouterr().err
    assert main(["convert", str(source)]) == 2
    assert "second argument" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "none.pkl"), "x"]) == 2
    assert "no such file" in capsys.readouterr().err


def test_zoo_list(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["zoo", "list", "*r101*ava2*", "--json", str(tmp_path / "rows.json")]) == 0
    text = capsys.readouterr().out
    assert "slowfast_r101_8x8_nl_ava22" in text
    assert "map 29.1" in text
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert {row["name"] for row in rows} >= {"slowfast_r101_8x8_nl_ava21"}
    assert main(["zoo", "list", "nothing*"]) == 2
