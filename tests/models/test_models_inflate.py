"""A still clip through an inflated video network gives the image network's features."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet50

from avadet.errors import UserError
from avadet.models.backbones import BACKBONES
from avadet.models.inflate import inflate_filter, inflate_resnet


@cache
def image_network() -> nn.Module:
    """torchvision's ResNet-50 with random weights and running statistics."""
    torch.manual_seed(3)
    network = resnet50()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


def image_features(picture: Tensor) -> Tensor:
    network = image_network()
    x = network.maxpool(network.relu(network.bn1(network.conv1(picture))))
    return network.layer4(network.layer3(network.layer2(network.layer1(x))))


def still(frames: int) -> tuple[Tensor, Tensor]:
    picture = torch.randn(1, 3, 32, 32)
    return picture, picture.unsqueeze(2).repeat(1, 1, frames, 1, 1)


@pytest.mark.parametrize(("name", "frames"), [("c2d_r50", 4), ("i3d_r50", 8), ("slow_r50", 4)])
def test_centred_inflation_is_exact_in_every_frame(name: str, frames: int) -> None:
    backbone = BACKBONES.get(name)().eval()
    left = inflate_resnet(backbone, image_network().state_dict(), "center")
    assert left == []
    picture, clip = still(frames)
    with torch.no_grad():
        expected = image_features(picture)
        (features,) = backbone(clip)
    for t in range(features.shape[2]):
        torch.testing.assert_close(features[:, :, t], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "frames"), [("i3d_r50", 42), ("slow_r50", 21)])
def test_mean_inflation_is_exact_away_from_the_ends(name: str, frames: int) -> None:
    backbone = BACKBONES.get(name)().eval()
    inflate_resnet(backbone, image_network().state_dict())
    picture, clip = still(frames)
    with torch.no_grad():
        expected = image_features(picture)
        (features,) = backbone(clip)
    middle = features.shape[2] // 2
    torch.testing.assert_close(features[:, :, middle], expected, rtol=1e-4, atol=1e-4)
    # The zero padding in time shows at the ends.
    assert not torch.allclose(features[:, :, 0], expected, rtol=1e-2, atol=1e-2)


def test_slow_pathway_of_slowfast_begins_as_the_image_network() -> None:
    backbone = BACKBONES.get("slowfast_r50")().eval()
    fast_before = backbone.fast.stem.conv.weight.clone()
    left = inflate_resnet(backbone, image_network().state_dict(), "center")
    assert torch.equal(backbone.fast.stem.conv.weight, fast_before)
    assert {key.split(".")[0] for key in left} == {"fast", "lateral"}
    picture, clip = still(16)
    with torch.no_grad():
        slow, _fast = backbone(clip)
    torch.testing.assert_close(slow[:, :, 1], image_features(picture), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["ir_csn_50", "ip_csn_50"])
def test_csn_keeps_its_middle_layers(name: str) -> None:
    backbone = BACKBONES.get(name)()
    left = inflate_resnet(backbone, image_network().state_dict())
    assert left
    assert all(".b.conv." in key for key in left)
    weight = image_network().state_dict()["layer2.1.conv3.weight"]
    assert torch.equal(backbone.res3.blocks[1].c.conv.weight[:, :, 0], weight)


def test_filters() -> None:
    weight = torch.randn(2, 3, 5, 5)
    mean = inflate_filter(weight, 3)
    assert mean.shape == (2, 3, 3, 5, 5)
    torch.testing.assert_close(mean.sum(2), weight)
    centre = inflate_filter(weight, 3, "center")
    assert torch.equal(centre[:, :, 1], weight)
    assert centre[:, :, [0, 2]].abs().max() == 0
    with pytest.raises(UserError, match="center"):
        inflate_filter(weight, 3, "middle")


def test_misfits_are_named_and_change_nothing() -> None:
    state = image_network().state_dict()
    tiny = BACKBONES.get("slow_tiny")()
    before = {key: value.clone() for key, value in tiny.state_dict().items()}
    with pytest.raises(UserError, match=r"stem\.conv\.weight"):
        inflate_resnet(tiny, state)
    with pytest.raises(UserError, match=r"features\.0\.weight"):
        inflate_resnet(tiny, {"features.0.weight": torch.zeros(1)})
    assert all(torch.equal(value, before[key]) for key, value in tiny.state_dict().items())
    with pytest.raises(UserError, match=r"res4\.blocks\.6"):
        inflate_resnet(BACKBONES.get("slow_r101")(), state)
    with pytest.raises(UserError, match="Linear"):
        inflate_resnet(nn.Linear(1, 1), state)
