"""Bank operators: the golden of MMAction2, and hand-made numbers with and without a mask."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from avadet.convert.feature_bank import NON_LOCAL_BANK
from avadet.errors import UserError
from avadet.models.feature_bank import BANK_OPERATORS, AverageBank, MaxBank, NonLocalBank

PARITY = Path(__file__).parents[1] / "parity"
sys.path.insert(0, str(PARITY))

from golden_recipe import fill_state, make_mixed_input  # noqa: E402


def golden() -> tuple[dict, np.ndarray]:
    file = PARITY / "goldens" / "mmaction2" / "fbo_non_local"
    with np.load(file.with_suffix(".npz")) as numbers:
        return json.loads(file.with_suffix(".json").read_text()), numbers["out"]


@torch.inference_mode()
def test_parity_with_mmaction2() -> None:
    manifest, expected = golden()
    shapes = {key: tuple(shape) for key, shape in manifest["keys"].items()}
    weights = fill_state(shapes, manifest["weight_scale"])
    renamed = NON_LOCAL_BANK.read({key: torch.from_numpy(value) for key, value in weights.items()})
    assert not renamed.unclaimed
    bank = NonLocalBank(2048, 2048, latent=512, layers=2).eval()
    bank.load_state_dict(renamed.tensors, strict=True)
    persons, entries = (
        torch.from_numpy(make_mixed_input(each["seed"], each["shape"])).flatten(2)
        for each in manifest["inputs"]
    )
    answer = bank(persons[..., 0], entries.transpose(1, 2))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(answer, expected.reshape(3, 512), rtol=1e-4, atol=1e-4 * scale)
    written = NON_LOCAL_BANK.write(bank.state_dict())
    assert {key: tuple(value.shape) for key, value in written.items()} == shapes


@pytest.mark.parametrize("name", BANK_OPERATORS.names())
def test_masked_entries_count_for_nothing(name: str) -> None:
    operator = BANK_OPERATORS.get(name)(6, 8).eval()
    persons, bank = torch.randn(3, 6), torch.randn(3, 5, 8)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 1, 0, 0], [0, 0, 0, 0, 0]]).bool()
    answer = operator(persons, bank, mask)
    assert answer.shape == (3, operator.out_channels)
    torch.testing.assert_close(answer[:1], operator(persons[:1], bank[:1]))
    torch.testing.assert_close(answer[1:2], operator(persons[1:2], bank[1:2, ::2][:, :2]))
    torch.testing.assert_close(answer[2:], operator(persons[2:], torch.zeros(1, 1, 8)))
    changed = torch.where(mask[..., None], bank, torch.full_like(bank, 9.0))
    torch.testing.assert_close(operator(persons, changed, mask), answer)


def test_average_and_max_by_hand() -> None:
    bank = torch.tensor([[[1.0, -4.0], [3.0, -2.0], [100.0, 100.0]]])
    mask = torch.tensor([[True, True, False]])
    persons = torch.zeros(1, 7)
    assert AverageBank(7, 2)(persons, bank, mask).tolist() == [[2.0, -3.0]]
    assert MaxBank(7, 2)(persons, bank, mask).tolist() == [[3.0, -2.0]]
    assert AverageBank(7, 2)(persons, bank).tolist() == [
        [pytest.approx(104 / 3), pytest.approx(94 / 3)]
    ]


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_layers_start_as_the_identity_and_learn(layers: int) -> None:
    operator = NonLocalBank(6, 8, latent=4, layers=layers, dropout=0.0, zero_init=True)
    persons, bank = torch.randn(3, 6), torch.randn(3, 5, 8)
    torch.testing.assert_close(operator(persons, bank), operator.person(persons))
    for layer in operator.layers:
        nn.init.normal_(layer.out.weight)
    operator(persons, bank).square().sum().backward()
    # A bias of the keys adds the same to all entries of a person.
    assert all(
        float(parameter.grad.abs().max()) > 0
        for key, parameter in operator.named_parameters()
        if not key.endswith("key.bias")
    )


def test_wrong_shapes_are_refused() -> None:
    operator = MaxBank(6, 8)
    with pytest.raises(ValueError, match="3 persons"):
        operator(torch.zeros(3, 6), torch.zeros(2, 5, 8))
    with pytest.raises(ValueError, match="mask"):
        operator(torch.zeros(2, 6), torch.zeros(2, 5, 8), torch.ones(2, 4).bool())
    with pytest.raises(UserError, match="at least one"):
        NonLocalBank(6, 8, layers=0)
