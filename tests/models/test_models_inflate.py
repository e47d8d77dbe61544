"""A still clip through an inflated video network gives the image network's features."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from avadet.errors import UserError
from avadet.models.backbones import BACKBONES
from avadet.models.inflate import average_colours, inflate, inflate_filter

NON_LOCAL = {"non_local": {"places": {"res4": [2]}}}
# Members that were made for small pictures have no pool after the stem unless their stem has
# stride 4, and other constants in their norms.
AS_IMAGE = {"stem_stride": 4, "norm_eps": 1e-5}
R18, R34, R50 = "resnet18", "resnet34", "resnet50"
# Backbone, its arguments, the image network, frames.
MEMBERS: list[tuple[str, dict[str, Any], str, int]] = [
    ("c2d_r50", {}, R50, 4),
    ("c2d_r50", NON_LOCAL, R50, 2),
    ("i3d_r50", {}, R50, 8),
    ("i3d_r50", NON_LOCAL, R50, 4),
    ("i3d_r50", {"stem_strides_t": (2, 2)}, R50, 8),
    ("slow_r50", {}, R50, 4),
    ("fast_r50", {"width": 64}, R50, 4),
    ("p3d_63", {}, R50, 16),
    *((f"{name}_18", AS_IMAGE, R18, 8) for name in ("f_r2d", "r3d", "mc2", "mc3", "mc4", "mc5")),
    *((f"rmc{x}_18", AS_IMAGE, R18, 8) for x in (2, 3, 4, 5)),
    ("r3d_34", AS_IMAGE, R34, 8),
    ("r2d_18", AS_IMAGE, R18, 16),
    ("i3d_inception", {}, "googlenet", 16),
    ("s3d", {"padding": "ceil"}, "googlenet", 16),
    ("s3d_g", {"padding": "ceil"}, "googlenet", 16),
]
# Whose answer to a still clip is another: why stands in ``models/inflate.py``.
FILLED_IN_PART = ("ir_csn_50", "ip_csn_50", "slowfast_r50", "cnn_lstm_r50")
REFUSED = ("r2plus1d_18", "r2plus1d_50", "c3d_tiny", "x3d_tiny", "mvit_v1_tiny", "vit_tiny")


@cache
def image_network(name: str = R50) -> nn.Module:
    """torchvision's network with random weights and running statistics."""
    torch.manual_seed(3)
    more = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    network = getattr(torchvision.models, name)(**more)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


@torch.no_grad()
def image_features(picture: Tensor, name: str = R50) -> Tensor:
    """The last map of the image network."""
    network = image_network(name)
    last = network.inception5b if name == "googlenet" else network.layer4
    seen: list[Tensor] = []
    hook = last.register_forward_hook(lambda _module, _input, output: seen.append(output))
    network(picture)
    hook.remove()
    return seen[0]


def still(frames: int, side: int = 64) -> tuple[Tensor, Tensor]:
    picture = torch.randn(1, 3, side, side)
    return picture, picture.unsqueeze(2).repeat(1, 1, frames, 1, 1)


def same(actual: Tensor, expected: Tensor) -> None:
    scale = float(expected.abs().max())
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4 * scale)


@pytest.mark.parametrize(
    ("name", "args", "image", "frames"),
    MEMBERS,
    ids=lambda value: str(value) * isinstance(value, str),
)
@torch.no_grad()
def test_a_still_clip_gives_the_image_networks_answer(
    name: str, args: dict[str, Any], image: str, frames: int
) -> None:
    """With filters in the middle: in every frame."""
    backbone = BACKBONES.get(name)(**args).eval()
    # R2D's channels are frames: all of them look at the picture only together.
    mode = "mean" if name.startswith("r2d") else "center"
    left = inflate(backbone, image_network(image).state_dict(), mode)
    spared = (".non_local.", "num_batches_tracked", "conv.temporal.weight")
    assert all(any(part in key for part in spared) for key in left)
    picture, clip = still(frames)
    expected = image_features(picture, image)
    (features,) = backbone(clip)
    for t in range(features.shape[2]):
        same(features[:, :, t], expected)


def test_every_member_of_a_shape_is_tested() -> None:
    """A new family must say whether image networks fit it."""
    told = {name.rsplit("_", 1)[0] for name, *_ in MEMBERS} | {"i3d"}
    told |= {name.rsplit("_", 1)[0] for name in (*FILLED_IN_PART, *REFUSED)} | {"s3d", "mvit_v2"}
    for name in BACKBONES.names():
        if not name.startswith("torchvision"):
            family = name.split("_tiny")[0].split("_r50")[0].split("_r101")[0]
            assert any(family.startswith(known) for known in told), name


@pytest.mark.parametrize(("name", "frames"), [("i3d_r50", 42), ("slow_r50", 21)])
@torch.no_grad()
def test_mean_inflation_is_exact_away_from_the_ends(name: str, frames: int) -> None:
    backbone = BACKBONES.get(name)().eval()
    inflate(backbone, image_network().state_dict())
    picture, clip = still(frames, 32)
    (features,) = backbone(clip)
    expected = image_features(picture)
    same(features[:, :, features.shape[2] // 2], expected)
    # The zero padding in time shows at the ends.
    assert not torch.allclose(features[:, :, 0], expected, rtol=1e-2, atol=1e-2)


@torch.no_grad()
def test_slow_pathway_of_slowfast_begins_as_the_image_network() -> None:
    backbone = BACKBONES.get("slowfast_r50")().eval()
    fast_before = backbone.fast.stem.conv.weight.clone()
    left = inflate(backbone, image_network().state_dict(), "center")
    assert torch.equal(backbone.fast.stem.conv.weight, fast_before)
    assert {key.split(".")[0] for key in left if "tracked" not in key} == {"fast", "lateral"}
    picture, clip = still(16, 32)
    slow, _fast = backbone(clip)
    same(slow[:, :, 1], image_features(picture))


@torch.no_grad()
def test_the_frames_of_cnn_lstm_are_the_image_networks() -> None:
    backbone = BACKBONES.get("cnn_lstm_r50")().eval()
    left = inflate(backbone, image_network().state_dict())
    assert {key.split(".")[0] for key in left if "tracked" not in key} == {"lstm"}
    picture, clip = still(2, 32)
    same(backbone.frames(clip)[0][:, :, 1], image_features(picture))


@pytest.mark.parametrize("name", ["ir_csn_50", "ip_csn_50"])
def test_csn_keeps_its_middle_layers(name: str) -> None:
    backbone = BACKBONES.get(name)()
    left = [k for k in inflate(backbone, image_network().state_dict()) if "tracked" not in k]
    assert left
    assert all(".b.conv." in key for key in left)
    weight = image_network().state_dict()["layer2.1.conv3.weight"]
    assert torch.equal(backbone.res3.blocks[1].c.conv.weight[:, :, 0], weight)


@pytest.mark.parametrize(("name", "image"), [("i3d_r50", R50), ("i3d_inception", "googlenet")])
def test_flow_gets_the_mean_of_the_colours(name: str, image: str) -> None:
    backbone = BACKBONES.get(name)(in_channels=2)
    inflate(backbone, image_network(image).state_dict())
    first = backbone.stem.conv.weight if name == "i3d_r50" else backbone.conv1.conv.weight
    theirs = "conv1.weight" if name == "i3d_r50" else "conv1.conv.weight"
    expected = image_network(image).state_dict()[theirs].mean(1)
    assert first.shape[1] == 2
    for channel in (0, 1):
        torch.testing.assert_close(first[:, channel].sum(1), expected)


@pytest.mark.parametrize("name", ["p3d_63", "s3d_g"])
def test_the_parts_that_change_nothing_can_learn(name: str) -> None:
    """No layer is dead at the start: gradients reach what was set to pass through."""
    backbone = BACKBONES.get(name)()
    inflate(backbone, image_network(R50 if name == "p3d_63" else "googlenet").state_dict())
    (features,) = backbone(torch.randn(2, 3, 16, 64, 64))
    features.square().mean().backward()
    waiting = set()
    for key, parameter in backbone.named_parameters():
        if ("temporal" in key or "gate" in key) and parameter.grad.abs().max() == 0:
            waiting.add(key)
    # Behind a norm of weight 0, which learns first, as in every residual branch at its start.
    units = {k: m for k, m in backbone.named_modules() if getattr(m, "kind", "") == "B"}
    assert waiting == {f"{key}.temporal.weight" for key in units}


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


@pytest.mark.parametrize("name", REFUSED)
def test_who_has_no_image_network_says_so(name: str) -> None:
    backbone = BACKBONES.get(name)()
    image = R18 if name.endswith("18") else R50
    with pytest.raises(UserError, match="R\\(2\\+1\\)D" if "plus" in name else "no image network"):
        inflate(backbone, image_network(image).state_dict())


def test_misfits_are_named_and_change_nothing() -> None:
    state = image_network().state_dict()
    tiny = BACKBONES.get("slow_tiny")()
    before = {key: value.clone() for key, value in tiny.state_dict().items()}
    with pytest.raises(UserError, match=r"stem\.conv\.weight"):
        inflate(tiny, state)
    with pytest.raises(UserError, match=r"conv1\.weight"):
        inflate(tiny, {"features.0.weight": torch.zeros(1)})
    assert all(torch.equal(value, before[key]) for key, value in tiny.state_dict().items())
    with pytest.raises(UserError, match=r"res4\.blocks\.6"):
        inflate(BACKBONES.get("slow_r101")(), state)
    with pytest.raises(UserError, match=r"layer1\.2\.conv1"):
        inflate(BACKBONES.get("slow_r50")(depths=[2, 4, 6, 3]), state)
    with pytest.raises(UserError, match="Linear"):
        inflate(nn.Linear(1, 1), state)
    with pytest.raises(UserError, match=r"conv1\.conv\.weight"):
        inflate(BACKBONES.get("i3d_inception")(), state)


def test_a_network_of_pictures_becomes_one_of_flow() -> None:
    """What training starts from when a flow network takes over the weights of RGB."""
    pictures, flow = (BACKBONES.get("i3d_tiny")(in_channels=n).state_dict() for n in (3, 2))
    state = average_colours(pictures, flow)
    first = "stem.conv.weight"
    torch.testing.assert_close(state[first][:, 1], pictures[first].mean(1))
    assert all(torch.equal(value, pictures[key]) for key, value in state.items() if key != first)
    assert {key: value.shape for key, value in state.items()} == {
        key: value.shape for key, value in flow.items()
    }
