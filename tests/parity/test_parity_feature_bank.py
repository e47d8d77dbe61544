"""MMAction2's checkpoints with a long-term feature bank, through ``load_model``.

Keys and shapes are those of its configs (slowonly-lfb-{nl,max} on AVA 2.1): the SlowOnly detector,
a classifier of 81 rows over the person's features beside the operator's, and the operator's own
tensors, whose answers a golden holds.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import golden_checkpoints as files
import numpy as np
import pytest
import torch
from golden_recipe import fill_state, make_mixed_input

from avadet.convert import architectures, load_model, recognise, zoo
from avadet.convert.export import export
from avadet.errors import UserError

BASE = "ava21_slowonly_r50_4x16"
CLASSIFIER = "roi_head.bbox_head.fc_cls"
NAMES = {
    operator: f"slowonly-lfb-{operator}_kinetics400-pretrained-r50_8xb12-4x16x1-20e_ava21-rgb"
    for operator in ("nl", "max", "avg")
}
SHARED = {
    "type": "FBOHead",
    "lfb_cfg": {
        "lfb_prefix_path": "data/ava/lfb_half",
        "max_num_sampled_feat": 5,
        "window_size": 60,
        "lfb_channels": 2048,
        "dataset_modes": ["train", "val"],
        "device": "gpu",
    },
    "fbo_cfg": {
        "type": "non_local",
        "st_feat_channels": 2048,
        "lt_feat_channels": 2048,
        "latent_channels": 512,
        "num_st_feat": 1,
        "num_lt_feat": 300,
        "num_non_local_layers": 2,
        "st_feat_dropout_ratio": 0.2,
        "lt_feat_dropout_ratio": 0.2,
        "pre_activate": True,
    },
}
TYPES = {"nl": "non_local", "max": "max", "avg": "avg"}


def weights(operator: str) -> dict[str, torch.Tensor]:
    """A state dict; the operator's tensors are those of its golden."""
    state = files.state("mmaction2", BASE)
    width = 2048 + (512 if operator == "nl" else 2048)
    state |= fill_state({f"{CLASSIFIER}.weight": (81, width), f"{CLASSIFIER}.bias": (81,)})
    if operator == "nl":
        bank = files.state("mmaction2", "fbo_non_local")
        state |= {f"roi_head.shared_head.fbo.{key}": value for key, value in bank.items()}
    return {key: torch.from_numpy(np.asarray(value)) for key, value in state.items()}


def settings(operator: str, **changes: object) -> str:
    """The config inside a checkpoint."""
    shared = {**SHARED, "fbo_cfg": {**SHARED["fbo_cfg"], "type": TYPES[operator]}, **changes}
    start = "'roi_head': {"
    text = files.mmaction2_config(BASE, 4, 16)
    assert text.count(start) == 1
    return text.replace(start, f"{start}'shared_head': {shared!r}, ")


def write(path: Path, operator: str, **meta: object) -> Path:
    torch.save({"meta": {"epoch": 20, **meta}, "state_dict": weights(operator)}, path)
    return path


def naive(operator: str, state: dict[str, torch.Tensor], persons: torch.Tensor, bank: torch.Tensor):
    """Logits of the published head, written down anew: (N,2048), (N,300,2048) -> (N,80)."""
    if operator == "max":
        seen = bank.max(1).values
    elif operator == "avg":
        seen = bank.sum(1) / bank.shape[1]
    else:

        def linear(name: str, x: torch.Tensor) -> torch.Tensor:
            key = f"roi_head.shared_head.fbo.{name}"
            return x @ state[f"{key}.weight"].flatten(1).T + state[f"{key}.bias"]

        seen, entries = linear("st_feat_conv", persons), linear("lt_feat_conv", bank)
        for layer in ("non_local_layer_1", "non_local_layer_2"):
            query = linear(f"{layer}.st_feat_conv.conv", seen)
            key = linear(f"{layer}.lt_feat_conv.conv", entries)
            value = linear(f"{layer}.global_conv.conv", entries)
            share = torch.softmax((key @ query[..., None])[..., 0] / 512**0.5, 1)
            mixed = (share[..., None] * value).sum(1)
            centred = mixed - mixed.mean(1, keepdim=True)
            normed = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
            norm = f"roi_head.shared_head.fbo.{layer}.ln"
            scaled = normed * state[f"{norm}.weight"].flatten() + state[f"{norm}.bias"].flatten()
            seen = seen + linear(f"{layer}.out_conv.conv", scaled.clamp(min=0))
    both = torch.cat([persons, seen], 1)
    return (both @ state[f"{CLASSIFIER}.weight"].T + state[f"{CLASSIFIER}.bias"])[:, 1:]


@torch.inference_mode()
@pytest.mark.parametrize("operator", ["nl", pytest.param("max", marks=pytest.mark.slow)])
def test_box_logits_given_a_bank(operator: str, tmp_path: Path) -> None:
    path = write(tmp_path / "epoch_20.pth", operator, cfg=settings(operator))
    model = load_model(path)
    assert model.description.name == f"slow_r50_4x16_lfb_{operator}_ava21_mmaction2"
    assert (model.head.bank_window.steps, model.head.bank_window.size) == (60, 300)
    golden = files.manifest("mmaction2", BASE)
    (clip,) = golden["inputs"]
    video = torch.from_numpy(make_mixed_input(clip["seed"], clip["shape"]))
    table = torch.tensor(golden["boxes"])
    boxes = [table[table[:, 0] == clip, 1:] for clip in range(len(video))]
    entries = torch.from_numpy(make_mixed_input(72, (len(video), 2048, 300, 1, 1)))
    bank = entries.flatten(2).transpose(1, 2)
    bank[:, ::3] = 0  # places of nobody, which these weights see
    mask = torch.ones(bank.shape[:2], dtype=torch.bool)
    mask[:, ::3] = False
    logits = model(video, boxes, bank, mask)
    # The person's features are those whose classification another golden checks.
    persons = model.head.features(model.backbone(video), boxes)
    owner = table[:, 0].long()
    want = naive(operator, weights(operator), persons, bank[owner])
    assert logits.shape == (len(table), 80)
    torch.testing.assert_close(logits, want, rtol=1e-4, atol=1e-4 * float(want.abs().max()))


@torch.inference_mode()
def test_the_operators_golden_inside_the_whole_model(tmp_path: Path) -> None:
    """By the published file's name; the operator answers as MMAction2's did."""
    model = load_model(write(tmp_path / f"{NAMES['nl']}_20220906-4c5b9f25.pth", "nl"))
    manifest = files.manifest("mmaction2", "fbo_non_local")
    persons, entries = (
        torch.from_numpy(make_mixed_input(each["seed"], each["shape"])).flatten(2)
        for each in manifest["inputs"]
    )
    answer = model.head.operator(persons[..., 0], entries.transpose(1, 2))
    expected = files.answers("mmaction2", "fbo_non_local")["out"].reshape(3, 512)
    scale = float(np.abs(expected).max())
    np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-4 * scale)
    with pytest.raises(UserError, match="avadet features"):
        model(torch.zeros(1, 3, 4, 32, 32), [torch.tensor([[0.0, 0.0, 32.0, 32.0]])])


def _recognise(monkeypatch: pytest.MonkeyPatch, operator: str, file: str, **meta: object):
    state = {key: torch.empty(v.shape, device="meta") for key, v in weights(operator).items()}
    content = {"state_dict": state, "meta": meta}
    monkeypatch.setattr(recognise, "read_checkpoint", lambda _: (content, "torch-zip"))
    return recognise.recognise(file).description


@pytest.mark.parametrize("operator", ["nl", "max", "avg"])
def test_told_by_file_name_and_by_settings(monkeypatch: pytest.MonkeyPatch, operator: str) -> None:
    by_name = _recognise(monkeypatch, operator, f"{NAMES[operator]}.pth")
    by_settings = _recognise(monkeypatch, operator, "epoch_20.pth", cfg=settings(operator))
    assert by_name.name == by_settings.name == f"slow_r50_4x16_lfb_{operator}_ava21_mmaction2"
    assert recognise.differences(by_name, by_settings) == ""


def test_pooled_banks_and_context_are_told_apart_or_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their tensors have the same shapes."""
    with pytest.raises(UserError, match=r"lfb_max.*--arch"):
        _recognise(monkeypatch, "max", "epoch_20.pth")
    alone = _recognise(monkeypatch, "nl", "epoch_20.pth")
    assert alone.name == "slow_r50_4x16_lfb_nl_ava21_mmaction2"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"spatial_pool_type": "avg"}, "pools persons"),
        ({"fbo_cfg": {**SHARED["fbo_cfg"], "pre_activate": False}}, "activates after"),
        ({"fbo_cfg": {"type": "os:abort"}}, "code outside avadet"),
    ],
)
def test_what_another_operator_would_compute_is_refused(
    monkeypatch: pytest.MonkeyPatch, changes: dict, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        _recognise(monkeypatch, "nl", "epoch_20.pth", cfg=settings("nl", **changes))


@pytest.mark.parametrize("operator", ["nl", "max"])
def test_the_zoo_loads_them(operator: str) -> None:
    row = zoo.rows()[f"slow_r50_4x16_lfb_{operator}_ava21_mmaction2"]
    assert row.arch in architectures.architectures()
    assert architectures.find(row.note.removeprefix("config "))[0].name == row.arch


def test_written_for_mmaction2_and_back(tmp_path: Path) -> None:
    model = load_model(write(tmp_path / f"{NAMES['nl']}.pth", "nl"))
    export(model, tmp_path / "back.pth", "mmaction2")
    again = load_model(tmp_path / "back.pth")
    assert recognise.differences(model.description, again.description) == ""
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
    wide = model.description.head_args | {"include_own": False}
    model.description = replace(model.description, head_args=wide)
    with pytest.raises(UserError, match="include_own"):
        export(model, tmp_path / "no.pth", "mmaction2")
    assert not (tmp_path / "no.pth").exists()
