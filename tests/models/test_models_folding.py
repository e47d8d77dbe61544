"""Folded norms and fused convolutions: the same network, in every family."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from avadet.models import folding
from avadet.models.backbones import BACKBONES
from avadet.models.backbones.csn import csn
from avadet.models.backbones.factorised import Factorised
from avadet.models.backbones.non_local import NonLocal, NonLocalSpec
from avadet.models.layers import ConvNorm, ConvSpec, batch_norm, plain_conv

TINY = sorted(name for name in BACKBONES.names() if name.endswith("_tiny"))
NORMLESS = ("mvit_v1_tiny", "mvit_v2_tiny", "torchvision_tiny", "vit_tiny")


def lively(model: nn.Module) -> nn.Module:
    """``model`` in eval mode with norms that do something."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            size = module.num_features
            module.running_mean = torch.randn(size, generator=generator) * 0.1
            module.running_var = torch.rand(size, generator=generator) + 0.5
            module.weight.data = torch.rand(size, generator=generator) + 0.5
            module.bias.data = torch.randn(size, generator=generator) * 0.1
    return model.eval()


@cache
def tiny(name: str) -> nn.Module:
    torch.manual_seed(0)
    return lively(BACKBONES.get(name)())


def clip(name: str) -> Tensor:
    frames, side = (16, 112) if "vit" in name else (32, 64)
    return torch.randn(1, 3, frames, side, side, generator=torch.Generator().manual_seed(2))


def error(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> float:
    return max(
        float((a.float() - b.float()).abs().max() / b.float().abs().max())
        for a, b in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize("name", TINY)
@torch.no_grad()
def test_every_family_folds_exactly(name: str) -> None:
    network, video = copy.deepcopy(tiny(name)), clip(name)
    expected = tiny(name)(video)
    count = folding.fold_norms(network)
    assert (count == 0) == (name in NORMLESS)
    left = sum(isinstance(module, nn.BatchNorm3d) for module in network.modules())
    # The norm behind a sum, of P3D's units B and C, stays.
    assert left == (2 if name == "p3d_tiny" else 0)
    assert error(network(video), expected) < 2e-6
    # In float64 nothing but the algebra is left.
    exact = copy.deepcopy(tiny(name)).double()
    expected = exact(video.double())
    folding.fold_norms(exact)
    for a, b in zip(exact(video.double()), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", TINY)
@torch.no_grad()
def test_every_family_runs_fused(name: str) -> None:
    network, video = copy.deepcopy(tiny(name)), clip(name)
    expected = tiny(name)(video)
    folding.fold_norms(network)
    reduced = copy.deepcopy(network)
    assert folding.fuse_convolutions(network, torch.float32) > 0 or name in NORMLESS
    assert error(network(video), expected) < 3e-6
    folding.fuse_convolutions(reduced, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert error(reduced(video), expected) < 0.06


@torch.no_grad()
def test_without_onednn_the_result_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    network, video = copy.deepcopy(tiny("slowfast_tiny")), clip("slowfast_tiny")
    folding.fold_norms(network)
    folding.fuse_convolutions(network, torch.float32)
    expected = network(video)
    monkeypatch.setattr(folding, "one_dnn_convolves", lambda dtype: False)
    assert error(network(video), expected) < 2e-6


@torch.no_grad()
def test_a_missing_operator_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nothing:
        def __getattr__(self, name: str) -> None:
            raise AttributeError(name)

    folding.one_dnn_convolves.cache_clear()
    monkeypatch.setattr(torch.ops, "mkldnn", Nothing())
    assert not folding.one_dnn_convolves(torch.float32)
    folding.one_dnn_convolves.cache_clear()
    assert not folding.one_dnn_convolves(torch.float64)


def test_a_norm_by_hand() -> None:
    norm = batch_norm(eps=0.0)(1)
    norm.running_mean = torch.tensor([3.0])
    norm.running_var = torch.tensor([4.0])
    norm.weight.data = torch.tensor([10.0])
    norm.bias.data = torch.tensor([1.0])
    layer = ConvNorm(plain_conv(ConvSpec(1, 1, (1, 1, 1))), norm)
    layer.conv.weight.data.fill_(2.0)
    assert folding.fold_norms(layer) == 1
    # (2 x - 3) / 2 * 10 + 1
    assert layer.conv.weight.item() == 10.0
    assert layer.conv.bias.item() == -14.0
    assert layer(torch.ones(1, 1, 1, 1, 1)).item() == -4.0
    folding.fuse_convolutions(layer, torch.float32)
    assert layer.rectified(torch.ones(1, 1, 1, 1, 1)).item() == 0.0
    assert layer.rectified(torch.full((1, 1, 1, 1, 1), 2.0)).item() == 6.0


@pytest.mark.parametrize("order", ["spatial_first", "temporal_first"])
@torch.no_grad()
def test_the_norm_between_two_parts(order: str) -> None:
    torch.manual_seed(0)
    unit = lively(Factorised(ConvSpec(4, 6, (3, 3, 3)), 6, order))
    video = torch.randn(1, 4, 5, 6, 6)
    expected = unit(video)
    assert folding.fold_norms(unit) == 1
    torch.testing.assert_close(unit(video), expected)


@torch.no_grad()
def test_non_local_and_frozen_norms_fold() -> None:
    torch.manual_seed(0)
    block = lively(NonLocal(8, 4, NonLocalSpec(), batch_norm()))
    video = torch.randn(1, 8, 4, 6, 6)
    expected = block(video)
    assert folding.fold_norms(block) == 1
    torch.testing.assert_close(block(video), expected)
    frozen = lively(csn(depths=(1, 1, 1, 1), width=8, expansion=2, frozen_norms=True))
    video = torch.randn(1, 3, 8, 32, 32)
    (expected,) = frozen(video)
    assert folding.fold_norms(frozen) == 17
    torch.testing.assert_close(frozen(video)[0], expected, rtol=1e-4, atol=1e-5)


def test_statistics_must_be_there() -> None:
    layer = ConvNorm(plain_conv(ConvSpec(1, 1, (1, 1, 1))), nn.BatchNorm3d(1, affine=False))
    layer.norm.running_mean = None
    with pytest.raises(ValueError, match="running statistics"):
        folding.fold_norms(layer)


@torch.no_grad()
def test_no_clips_at_all() -> None:
    conv = folding.FusedConv3d(nn.Conv3d(3, 4, 3, padding=1))
    assert conv.rectified(torch.zeros(0, 3, 4, 8, 8)).shape == (0, 4, 4, 8, 8)
