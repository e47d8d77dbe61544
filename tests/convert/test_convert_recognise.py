"""Source and architecture from content; nothing is guessed; nothing is loaded by half."""

from __future__ import annotations

import logging
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avadet.convert import architectures, load_model, recognise
from avadet.convert.export import export
from avadet.errors import UserError
from avadet.models.description import ModelDescription, create
from avadet.models.preprocess import Preprocessing

SWITCHES = {"aligned": False}


def _description(**changes: Any) -> ModelDescription:
    values: dict[str, Any] = {
        "name": "tiny",
        "task": "detection",
        "backbone": "slowfast_r50",
        "num_classes": 5,
        "preprocessing": Preprocessing(16, 2, 224),
        "activation": "sigmoid",
        "backbone_args": {
            "width": 8,
            "alpha": 4,
            "fusion_kernel": 5,
            "output_stride": 16,
            "res4_temporal_blocks": 1,
        },
        "head_args": dict(SWITCHES),
    }
    return ModelDescription(**(values | changes))


def _model(description: ModelDescription | None = None) -> torch.nn.Module:
    torch.manual_seed(1)
    model = create(description or _description())
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) * 0.1 + ("running_var" in name))
    return model.eval()


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A PySlowFast file of a tiny detector with custom classes, settings inside."""
    path = tmp_path / "checkpoint_epoch_00020.pyth"
    export(_model(), path, "pyslowfast")
    return path


def _rewrite(path: Path, change: Any) -> None:
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def test_settings_inside_the_file_decide(tiny: Path) -> None:
    model = load_model(tiny)
    description = model.description
    assert description.backbone_args == _description().backbone_args
    assert description.head_args == SWITCHES
    assert description.preprocessing == _description().preprocessing
    assert description.num_classes == 5
    assert description.class_names is None
    assert description.source == "pyslowfast"
    assert not model.training
    original = _model().state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(value, original[name]), name


def test_the_suffix_plays_no_part_and_wrappers_are_taken_off(tiny: Path) -> None:
    def wrap(content: dict) -> None:
        content["model_state"] = {f"module.{k}": v for k, v in content["model_state"].items()}

    _rewrite(tiny, wrap)
    other = tiny.rename(tiny.with_suffix(".pkl"))
    assert load_model(other).description.num_classes == 5


@pytest.mark.parametrize("kind", ["missing", "surplus", "shape", "several"])
def test_what_does_not_fit_is_one_error_that_lists_all(tiny: Path, kind: str) -> None:
    key = "s3.pathway0_res0.branch2.b.weight"
    words = []

    def change(content: dict) -> None:
        state = content["model_state"]
        if kind in ("missing", "several"):
            del state[key]
            words.append("backbone.slow.res3.blocks.0.b.conv.weight")
        if kind in ("surplus", "several"):
            state["extra.weight"] = torch.ones(3)
            words.append("extra.weight")
        if kind in ("shape", "several"):
            state["head.projection.bias"] = torch.ones(7)
            words.append("head.projection.bias [7]")

    _rewrite(tiny, change)
    with pytest.raises(UserError, match="does not fit") as caught:
        load_model(tiny)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "setting",
    ["NUM_FRAMES: abc", "MEAN: 3", "MEAN: [grey, 0, 0]", "TEST_CROP_SIZE: {a: 1}"],
)
def test_settings_that_make_no_sense_are_an_error_that_names_the_way_out(
    tiny: Path, setting: str
) -> None:
    key = setting.split(":")[0]

    def change(content: dict) -> None:
        content["cfg"], count = re.subn(rf"(?m)^  {key}: .*$", f"  {setting}", content["cfg"])
        assert count == 1

    _rewrite(tiny, change)
    with pytest.raises(UserError, match=r"settings inside the file make no sense .*--arch"):
        load_model(tiny)


def test_settings_beyond_what_there_is_name_the_file(tiny: Path) -> None:
    def change(content: dict) -> None:
        content["cfg"] = re.sub(r"(?m)^  NUM_FRAMES: .*$", "  NUM_FRAMES: 0", content["cfg"])

    _rewrite(tiny, change)
    words = rf"{re.escape(str(tiny))}: by the settings inside the file: .*num_frames: 0 .*--arch"
    with pytest.raises(UserError, match=words):
        load_model(tiny)


def test_a_wrong_switch_never_passes_for_the_right_network(tiny: Path) -> None:
    """The config says R50 of other blocks than the file holds."""

    def change(content: dict) -> None:
        content["model_state"] = {
            name: value
            for name, value in content["model_state"].items()
            if "s4.pathway0_res1" not in name
        }

    _rewrite(tiny, change)
    with pytest.raises(UserError):
        load_model(tiny)


def _pretend(monkeypatch: pytest.MonkeyPatch, name: str, source: str = "pyslowfast") -> None:
    """Any file is now a checkpoint of this architecture, weights unseen, settings absent."""
    with torch.device("meta"):
        model = create(architectures.get(name).description)
    layout = next(
        each
        for each in recognise.LAYOUTS
        if each.source == source
        and each.task in (None, model.description.task)
        and _writes(each, model.state_dict())
    )
    state = layout.table.write(model.state_dict())
    monkeypatch.setattr(
        recognise, "read_checkpoint", lambda _: ({"model_state": state}, "torch-zip")
    )


def _writes(layout: Any, state: dict) -> bool:
    try:
        return layout.recognises(layout.table.write(state))
    except UserError:
        return False


def test_ambiguous_files_ask_for_the_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, "slowfast_r50_8x8_ava22")
    with pytest.raises(UserError, match="--arch") as caught:
        recognise.recognise("model.pyth")
    message = str(caught.value)
    assert "head_args.aligned: False or True" in message
    assert "slowfast_r50_8x8_ava22," in message
    assert "slowfast_r50_8x8_ava22_short" in message
    assert "k400" not in message


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("SLOWFAST_32x2_R50_SHORT.pkl", "slowfast_r50_8x8_ava22_short"),
        ("slowfast_32x2_r50.pyth", "slowfast_r50_8x8_ava22"),
    ],
)
def test_the_published_file_name_decides(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, file: str, expected: str
) -> None:
    _pretend(monkeypatch, "slowfast_r50_8x8_ava22")
    caplog.set_level(logging.INFO)
    found = recognise.recognise(file)
    assert found.description.name == expected
    assert f"{expected}, by the name of the file" in caplog.text


def test_one_file_name_of_two_networks_is_told_by_its_tensors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The zoo's AVA Slow network is called C2D_8x8_R50.pkl."""
    _pretend(monkeypatch, "slow_r50_4x16_ava22")
    assert recognise.recognise("C2D_8x8_R50.pkl").description.name == "slow_r50_4x16_ava22"
    _pretend(monkeypatch, "c2d_r50_8x8_k400")
    assert recognise.recognise("C2D_8x8_R50.pkl").description.name == "c2d_r50_8x8_k400"


def test_arch_decides_and_keeps_the_files_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, "slow_r50_4x16_ava22")
    found = recognise.recognise("x.pth", arch="slow_r50_4x16_ava22_short")
    assert found.description.head_args == {"aligned": True}
    assert found.assumed == ["architecture slow_r50_4x16_ava22_short, as asked"]
    with pytest.raises(UserError, match="Did you mean 'slow_r50_4x16_ava22'"):
        recognise.recognise("x.pth", arch="slow_r50_4x16_ava2")


def test_a_structure_nobody_published_asks_too(monkeypatch: pytest.MonkeyPatch, tiny: Path) -> None:
    _rewrite(tiny, lambda content: content.pop("cfg"))
    with pytest.raises(UserError, match="no published architecture has"):
        load_model(tiny)


def test_mmaction2_settings_and_dates_in_file_names(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "slowfast_kinetics400-pretrained-r50-temporal-max_8xb6-8x8x1-cosine-10e_ava22-rgb"
    _pretend(monkeypatch, "slowfast_r50_8x8_tmax_ava22_mmaction2", "mmaction2")
    found = recognise.recognise(f"{name}_20220906-13a9078e.pth")
    assert found.description.head_args["temporal_pool"] == "max"
    assert found.structure.num_classes == 80
    with pytest.raises(UserError, match=r"temporal_pool: default or max"):
        recognise.recognise("epoch_10.pth")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"a": 1}, "no tensors"),
        ({"encoder.weight": torch.ones(2)}, "named as in no network"),
        ({"model": {"proposal_generator.x": np.ones(2)}}, "person detector"),
    ],
)
def test_files_of_others(tmp_path: Path, content: dict, words: str) -> None:
    path = tmp_path / "x.pkl"
    if "model" in content:
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    with pytest.raises(UserError, match=words):
        load_model(path)


def test_a_backbone_alone_is_said_to_be_one(tiny: Path) -> None:
    def change(content: dict) -> None:
        for name in list(content["model_state"]):
            if name.startswith("head."):
                del content["model_state"][name]

    _rewrite(tiny, change)
    with pytest.raises(UserError, match="the classifier is missing"):
        load_model(tiny)


def test_names_that_are_neither_file_nor_zoo() -> None:
    with pytest.raises(UserError, match="there is no such file"):
        load_model("weights/none.pyth")
    with pytest.raises(UserError, match="Did you mean 'slow_r50_8x8_k400'"):
        load_model("slow_r50_8x8_k40")
    with pytest.raises(UserError, match="without public weights"):
        load_model("slow_r50_8x8_nl_k400")


def test_avadets_own_files_load(tmp_path: Path) -> None:
    export(_model(), tmp_path / "own.safetensors")
    model = load_model(tmp_path / "own.safetensors")
    assert model.description == _description()
    assert not model.training


# ------------------------------------------------------------------------------- architectures


def test_names_and_aliases_of_architectures() -> None:
    table = architectures.architectures()
    assert len(table) > 75
    for name, each in table.items():
        assert name == each.name == each.description.name
        assert architectures.get(name) is each
        assert each.sources
    assert architectures.get("SLOWFAST_64x2_R101_50_50").name == "slowfast_r101_16x8_nl_ava22"
    with pytest.raises(UserError, match="the name of several"):
        architectures.get("SLOW_8x8_R50")


def test_the_switches_of_the_best_known_networks() -> None:
    deep = architectures.get("slowfast_r101_8x8_nl_ava22").description
    assert deep.backbone_args["fusion_kernel"] == 5
    assert deep.backbone_args["res4_temporal_blocks"] == 6
    assert deep.backbone_args["non_local"]["pool"] == [2, 2, 2]
    assert deep.head_args == {"aligned": False}
    assert deep.class_ids == tuple(range(1, 81))
    assert deep.class_names[79] == "watch (a person)"
    assert deep.preprocessing == Preprocessing(32, 2, 256)
    other = architectures.get("slowfast_r50_8x8_ava22_mmaction2").description
    assert other.backbone_args["lateral_norm"] is False
    assert other.backbone_args["slow_sampling"] == "stride"
    assert other.backbone_args["dilate"] is False
    assert other.head_args == {"resolution": 8, "aligned": True}
    assert other.preprocessing.mean == (0.485, 0.456, 0.406)
    csn = architectures.get("csn_r101").description
    assert csn.backbone_args["norm_eps"] == 1e-5
    charades = architectures.get("slowfast_r50_16x8_charades").description
    assert charades.class_names[:2] == ("c000", "c001")
    assert charades.class_ids == tuple(range(157))
    assert charades.preprocessing == Preprocessing(64, 2, 256, fps=24.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", architectures.architecture_names())
def test_every_architecture_builds_and_is_recognised_as_itself(name: str) -> None:
    """Its shapes give, to the reader of its family, the structure that its description says."""
    from avadet.convert.structure_families import READERS

    description = architectures.get(name).description
    with torch.device("meta"):
        model = create(description)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    agreeing = []
    for read in READERS.values():
        try:
            structure = read(shapes)
        except (UserError, KeyError, IndexError, StopIteration):
            continue  # of another family
        if structure.agrees(
            description.backbone,
            description.backbone_args,
            description.head_args,
            description.head,
        ):
            agreeing.append(structure)
    assert [structure.num_classes for structure in agreeing] == [description.num_classes]


def test_values_that_are_not_finite_are_said(tiny: Path, caplog: pytest.LogCaptureFixture) -> None:
    def spoil(content: dict[str, Any]) -> None:
        content["model_state"]["head.projection.bias"][0] = float("nan")

    _rewrite(tiny, spoil)
    load_model(tiny)
    assert "NaN or infinite values in:\n  head.projection.bias" in caplog.text


@pytest.mark.parametrize("number", ["7" * 5000, "99999"])
def test_absurd_block_numbers_are_no_blocks(tiny: Path, number: str) -> None:
    def add(content: dict[str, Any]) -> None:
        state = content["model_state"]
        state[f"s3.pathway0_res{number}.branch2.a.weight"] = torch.ones(8, 8, 1, 1, 1)

    _rewrite(tiny, add)
    with pytest.raises(UserError, match=r"block 4 of res3 is missing|have no place"):
        load_model(tiny)


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("head.projection.weight", ()),
        ("head.projection.weight", (5,)),
        ("s1.pathway0_stem.conv.weight", ()),
        ("s1_fuse.conv_f2s.weight", (64,)),
        ("s4.pathway0_res0.branch2.b.weight", (1,)),
    ],
)
def test_tensors_with_too_few_axes_are_named(tiny: Path, key: str, shape: tuple[int, ...]) -> None:
    def flatten(content: dict[str, Any]) -> None:
        content["model_state"][key] = torch.ones(shape)

    _rewrite(tiny, flatten)
    with pytest.raises(UserError, match=re.escape(f"{key} ")) as caught:
        load_model(tiny)
    assert str(list(shape)) in str(caught.value)
