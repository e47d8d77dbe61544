"""The head with a long-term feature bank: by a second way, with empty windows, and in a model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from avadet.errors import UserError
from avadet.models.action import ActionDetector
from avadet.models.bank_head import FeatureBankHead
from avadet.models.description import (
    ModelDescription,
    create,
    fingerprint,
    load_weights,
    save_weights,
)
from avadet.models.feature_bank import BANK_OPERATORS
from avadet.models.heads import HEADS, RoIHead
from avadet.models.preprocess import Preprocessing
from avadet.structures import BankWindow

MAPS = (torch.randn(2, 6, 3, 5, 6), torch.randn(2, 2, 6, 5, 6))
BOXES = [
    torch.tensor([[0.0, 0.0, 48.0, 48.0], [16.0, 8.0, 90.0, 70.0]]),
    torch.tensor([[8.0, 8.0, 80.0, 60.0]]),
]


def make(operator: str, **more) -> FeatureBankHead:
    if operator == "non_local":
        more = {"layers": 2, "latent": 4, "zero_init": False, **more}
    head = FeatureBankHead((6, 2), 3, operator=operator, bank_channels=7, **more).eval()
    nn.init.normal_(head.projection.weight)
    return head


@pytest.mark.parametrize("operator", BANK_OPERATORS.names())
def test_person_and_what_the_bank_says_are_classified_together(operator: str) -> None:
    head = make(operator, resolution=3)
    plain = RoIHead((6, 2), 3, resolution=3).eval()
    bank, mask = torch.randn(2, 5, 7), torch.tensor([[1, 0, 1, 1, 0], [0, 0, 0, 1, 0]]).bool()
    answer = head(MAPS, BOXES, bank, mask)
    persons = plain.features(MAPS, BOXES)
    rows = []
    for person, clip in enumerate((0, 0, 1)):
        entries = bank[clip][mask[clip]]
        seen = head.operator(persons[person : person + 1], entries[None])[0]
        rows.append(head.projection(torch.cat([persons[person], seen])))
    torch.testing.assert_close(answer, torch.stack(rows))


def test_unmasked_zeros_count_as_the_public_weights_learnt_it() -> None:
    bank = torch.tensor([[[-3.0] * 7, [0.0] * 7]] * 2)
    mask = torch.tensor([[True, False]] * 2)
    masked, plain = make("max"), make("max", masked=False)
    plain.load_state_dict(masked.state_dict())
    assert not torch.allclose(masked(MAPS, BOXES, bank, mask), plain(MAPS, BOXES, bank, mask))
    torch.testing.assert_close(plain(MAPS, BOXES, bank, mask), plain(MAPS, BOXES, bank))


@pytest.mark.parametrize("operator", BANK_OPERATORS.names())
def test_an_empty_bank_and_nobody_in_the_picture(operator: str) -> None:
    head = make(operator)
    nothing = torch.zeros(2, 4, 7)
    answer = head(MAPS, BOXES, nothing, torch.zeros(2, 4, dtype=torch.bool))
    assert torch.isfinite(answer).all()
    none = [torch.empty(0, 4)] * 2
    assert head(MAPS, none, nothing, torch.ones(2, 4, dtype=torch.bool)).shape == (0, 3)
    head.train()
    head(MAPS, BOXES, nothing, torch.zeros(2, 4, dtype=torch.bool)).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters() if p.grad is not None)


def test_the_published_head_is_the_default() -> None:
    head = FeatureBankHead(2048, 80)
    assert head.bank_window == BankWindow(60, 1, 5, include_own=True)
    assert head.bank_channels == 2048
    assert len(head.operator.layers) == 2
    assert head.projection.in_features == 2560
    assert not head.operator.layers[0].out.weight.any()
    assert FeatureBankHead(2048, 80, operator="max").projection.in_features == 4096
    assert HEADS.get("feature_bank") is FeatureBankHead


def test_a_missing_bank_says_how_to_make_one() -> None:
    with pytest.raises(UserError, match="avadet features"):
        make("avg")(MAPS, BOXES)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"operator": "mean"}, "bank operator"),
        ({"operator": "max", "layers": 3}, "no layers"),
        ({"operator": "avg", "latent": 8}, "no latent"),
        ({"window_seconds": 0}, "window"),
        ({"max_persons": -1}, "max_persons"),
        ({"window_seconds": 0.1}, "no step"),
        ({"layers": -1}, "at least one"),
    ],
)
def test_arguments_that_make_no_head_are_refused(args: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        FeatureBankHead(8, 3, **args)


def test_banks_of_another_shape_are_refused() -> None:
    head = make("max")
    for bank in (torch.zeros(3, 4, 7), torch.zeros(2, 4, 6), torch.zeros(4, 7)):
        with pytest.raises(ValueError, match="bank of shape"):
            head(MAPS, BOXES, bank)


DESCRIPTION = ModelDescription(
    name="remembers",
    task="detection",
    backbone="slow_tiny",
    head="feature_bank",
    head_args={"layers": 3, "latent": 8, "window_seconds": 10},
    num_classes=3,
    preprocessing=Preprocessing(16, 4, 64),
    activation="sigmoid",
)


def test_a_whole_model_asks_its_bank_and_travels(tmp_path: Path) -> None:
    model = create(DESCRIPTION)
    assert isinstance(model, ActionDetector)
    assert model.needs_bank
    nn.init.normal_(model.head.projection.weight)
    save_weights(tmp_path / "m.safetensors", model)
    loaded = load_weights(tmp_path / "m.safetensors")
    assert fingerprint(loaded) == fingerprint(model)
    video, boxes = torch.randn(1, 3, 16, 64, 64), [torch.tensor([[4.0, 4.0, 60.0, 60.0]])]
    window = loaded.head.bank_window
    bank = torch.randn(1, window.size, loaded.head.bank_channels)
    with torch.no_grad():
        one = loaded(video, boxes, bank)
        other = loaded(video, boxes, -bank, torch.ones(1, window.size, dtype=torch.bool))
    assert one.shape == (1, 3)
    torch.testing.assert_close(one, other)  # zero_init: nothing is seen yet
    nn.init.normal_(loaded.head.operator.layers[2].out.weight)
    with torch.no_grad():
        assert not torch.allclose(loaded(video, boxes, bank), loaded(video, boxes, -bank))


def test_fingerprints_tell_networks_apart() -> None:
    torch.manual_seed(0)
    model = create(DESCRIPTION)
    first = fingerprint(model)
    model.to(memory_format=torch.channels_last_3d)
    assert fingerprint(model) == first
    with torch.no_grad():
        model.backbone.stem.conv.weight[0, 0, 0, 0, 0] += 1e-3
    assert fingerprint(model) != first
    model.description = None
    with pytest.raises(UserError, match="description"):
        fingerprint(model)


def test_parameter_names_are_public() -> None:
    """People's weights depend on them."""
    shapes = {key: list(value.shape) for key, value in make("non_local").state_dict().items()}
    layer = {
        **{f"{name}.weight": [4, 4] for name in ("query", "key", "value", "out")},
        **{f"{name}.bias": [4] for name in ("query", "key", "value", "out")},
        "norm.weight": [4],
        "norm.bias": [4],
    }
    assert shapes == {
        "operator.person.weight": [4, 8],
        "operator.person.bias": [4],
        "operator.entry.weight": [4, 7],
        "operator.entry.bias": [4],
        **{f"operator.layers.{i}.{key}": shape for i in (0, 1) for key, shape in layer.items()},
        "projection.weight": [3, 12],
        "projection.bias": [3],
    }
    assert set(make("max").state_dict()) == {"projection.weight", "projection.bias"}
