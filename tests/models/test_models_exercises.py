"""Small exercises about what convolutions over time can and cannot do."""

from __future__ import annotations

from math import comb

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avadet.models.backbones.factorised import Factorised, matched_width
from avadet.models.cost import count_parameters
from avadet.models.layers import ConvSpec, plain_conv


def _bounces() -> tuple[Tensor, Tensor]:
    """A pixel in four frames of 2 x 2 that bounces sideways (class 0) or up and down (class 1).

    Every place occurs equally often in both classes. Shape: (8,1,4,2,2), (8,).
    """
    clips, labels = [], []
    for label in (0, 1):
        for start in ((0, 0), (0, 1), (1, 0), (1, 1)):
            clip = torch.zeros(1, 4, 2, 2)
            for t in range(4):
                y, x = start
                if t % 2:
                    y, x = (y, 1 - x) if label == 0 else (1 - y, x)
                clip[0, t, y, x] = 1
            clips.append(clip)
            labels.append(label)
    return torch.stack(clips), torch.tensor(labels)


class _Net(nn.Module):
    """A layer, ReLU, the mean over all frames and places, a linear layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.last = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.layer(x)).mean((2, 3, 4)))


def _learn(layer: nn.Module) -> float:
    """Accuracy on the eight clips after learning them."""
    clips, labels = _bounces()
    net = _Net(layer)
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(400):
        optimizer.zero_grad()
        F.cross_entropy(net(clips), labels).backward()
        optimizer.step()
    return (net(clips).argmax(1) == labels).float().mean().item()


@pytest.mark.parametrize("kind", ["3D", "(2+1)D", "frames"])
def test_the_moving_pixel_needs_convolution_over_time(kind: str) -> None:
    """Frame pooling cannot: with h the score of a frame, both classes sum h over all four places
    twice, so it can never be above 0 for all of one and below 0 for all of the other."""
    torch.manual_seed(0)
    spec = ConvSpec(1, 16, (3, 3, 3))
    layers = {
        "3D": lambda: nn.Conv3d(1, 16, 3, padding=1),
        "(2+1)D": lambda: Factorised(spec, 8),
        "frames": lambda: nn.Conv3d(1, 16, (1, 3, 3), padding=(0, 1, 1)),
    }
    accuracy = _learn(layers[kind]())
    if kind == "frames":
        assert accuracy <= 0.75
    else:
        assert accuracy == 1.0


def test_parameters_of_32_filters() -> None:
    """27 weights a filter; or 9 over space and 3 over time."""
    assert count_parameters(plain_conv(ConvSpec(1, 32, (3, 3, 3)))) == 864
    spatial = plain_conv(ConvSpec(1, 32, (1, 3, 3)))
    temporal = plain_conv(ConvSpec(32, 32, (3, 1, 1)), groups=32)
    assert count_parameters(spatial) + count_parameters(temporal) == 384


@pytest.mark.parametrize(("channels", "out"), [(64, 64), (64, 128), (128, 128), (256, 512)])
def test_the_matched_width_keeps_the_parameters(channels: int, out: int) -> None:
    spec = ConvSpec(channels, out, (3, 3, 3))
    layer = Factorised(spec)
    parts = count_parameters(layer.spatial) + count_parameters(layer.temporal)
    assert parts == pytest.approx(count_parameters(plain_conv(spec)), rel=0.01)
    assert matched_width(ConvSpec(64, 64, (3, 3, 3))) == 144
    assert matched_width(ConvSpec(3, 64, (3, 7, 7))) == 83


@pytest.mark.parametrize("groups", [1, 2, 4, 8])
def test_channel_interactions_of_grouped_convolutions(groups: int) -> None:
    """Pairs of input channels that meet in some filter: G (C/G choose 2), none when separated."""
    channels = 8
    conv = nn.Conv3d(channels, channels, 1, groups=groups, bias=False)
    nn.init.ones_(conv.weight)
    reach = torch.stack(
        [
            conv(F.one_hot(torch.tensor(c), channels).float().view(1, -1, 1, 1, 1)).flatten()
            for c in range(channels)
        ]
    )  # (in, out)
    met = sum(
        bool((reach[i] * reach[j]).any()) for i in range(channels) for j in range(i + 1, channels)
    )
    assert met == groups * comb(channels // groups, 2)
    assert count_parameters(conv) == channels**2 // groups
