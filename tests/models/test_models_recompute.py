"""Activation checkpointing: the same bits, statistics and draws for every network, less memory."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from avadet.errors import UserError
from avadet.models.backbones import BACKBONES
from avadet.models.memory import step_bytes
from avadet.models.recompute import blocks_of, recompute_blocks

# C3D is a chain of single convolutions.
WITHOUT_BLOCKS = {"c3d_tiny"}
TINY = sorted(set(BACKBONES.names("*_tiny")) - WITHOUT_BLOCKS)


def make(name: str) -> nn.Module:
    torch.manual_seed(0)
    args = {"drop_path": 0.5} if name.startswith(("mvit", "vit")) else {}
    backbone: nn.Module = BACKBONES.get(name)(**args)
    for module in backbone.modules():
        # Residual branches that start at nothing would hide what happens inside.
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return backbone


def step(backbone: nn.Module) -> dict[str, Tensor]:
    """All that one step leaves behind: maps, gradients, statistics, and the next random number."""
    torch.manual_seed(1)
    frames = getattr(backbone, "num_frames", 16)
    clip = torch.randn(2, 3, frames, 64, 64)
    maps = backbone(clip)
    sum(each.square().mean() for each in maps).backward()
    left = {f"map{i}": each.detach() for i, each in enumerate(maps)}
    left |= {name: each.grad for name, each in backbone.named_parameters()}
    left |= {f"buffer {name}": each.clone() for name, each in backbone.named_buffers()}
    return {**left, "next": torch.rand(1)}


@pytest.mark.parametrize("name", TINY)
def test_the_same_bits(name: str) -> None:
    plain, frugal = make(name), make(name)
    names = list(frugal.state_dict())
    assert recompute_blocks(frugal) == len(blocks_of(plain)) > 0
    assert list(frugal.state_dict()) == names
    expected, got = step(plain), step(frugal)
    assert expected.keys() == got.keys()
    for key, value in expected.items():
        assert value is not None, key
        assert torch.equal(value, got[key]), key


def test_drop_path_was_in_the_comparison() -> None:
    backbone, clip = make("vit_tiny"), torch.ones(8, 3, 4, 32, 32)
    assert not torch.equal(backbone(clip)[0], backbone(clip)[0])


@pytest.mark.parametrize("name", TINY)
def test_less_is_kept_for_the_backward_pass(name: str) -> None:
    plain = make(name)
    frugal = copy.deepcopy(plain)
    recompute_blocks(frugal)
    frames = getattr(plain, "num_frames", 16)
    before, after = (step_bytes(each, (2, 3, frames, 64, 64)) for each in (plain, frugal))
    assert after["weights"] == before["weights"]
    assert after["kept"] < 0.8 * before["kept"], (before, after)


def test_counted_memory_is_what_two_layers_keep() -> None:
    """By hand: 1,000 floats in, 2,000 between, 500 out; gradients of as many weights."""
    layers = nn.Sequential(
        nn.Linear(10, 20, bias=False), nn.Sigmoid(), nn.Linear(20, 5, bias=False)
    )
    counted = step_bytes(layers, (100, 10))
    assert counted["weights"] == 4 * (200 + 100)
    # Linear keeps its input (the clip existed before); sigmoid its result, which the last one
    # keeps as well; the first product is alive until forward returns nothing that needs it.
    assert counted["kept"] == 4 * (2000 + 500)
    assert counted["peak"] >= counted["kept"] + 4 * (500 + 100)


def test_large_networks_by_published_size() -> None:
    """What it is for: ViT-L on AVA's clips, on meta, so that nothing is computed."""
    with torch.device("meta"):
        plain = BACKBONES.get("vit_l")(drop_path=0.0)
        frugal = BACKBONES.get("vit_l")(drop_path=0.0)
    recompute_blocks(frugal)
    before, after = (step_bytes(each, (1, 3, 16, 224, 224)) for each in (plain, frugal))
    assert after["kept"] < before["kept"] / 10
    assert after["peak"] < before["peak"] / 1.5


def test_evaluation_copies_and_a_second_call() -> None:
    plain, frugal = make("x3d_tiny").eval(), make("x3d_tiny").eval()
    assert recompute_blocks(frugal) == recompute_blocks(frugal)
    clip = torch.randn(1, 3, 4, 32, 32)
    assert torch.equal(plain(clip)[0], copy.deepcopy(frugal)(clip)[0])
    kinds = {type(module).__name__ for module in frugal.modules()}
    assert kinds == {type(module).__name__ for module in plain.modules()}


@pytest.mark.parametrize("name", sorted(WITHOUT_BLOCKS))
def test_a_network_without_blocks_says_so(name: str) -> None:
    with pytest.raises(UserError, match="C3D names no blocks"):
        recompute_blocks(BACKBONES.get(name)())
