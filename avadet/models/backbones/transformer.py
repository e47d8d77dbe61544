"""What the video transformers share: MLP, drop path, initialisation.

Shapes: B clips, N tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avadet.errors import UserError

# Of every layer norm in MViT and VideoMAE.
NORM_EPS = 1e-6
OUTPUTS = ("map", "mean", "token")


class MLP(nn.Module):
    """Linear, GELU (exact), linear.

    Parameter names: ``fc1.*``, ``fc2.*``.

    Shape: (..., in_channels) -> (..., out_channels).
    """

    def __init__(self, in_channels: int, hidden: int, out_channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_channels, hidden)
        self.fc2 = nn.Linear(hidden, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class DropPath(nn.Module):
    """In training, leaves out a whole branch for each clip with this probability.

    What stays is scaled by 1 / (1 - probability), so that the expectation is the same
    (stochastic depth, ECCV 2016).
    """

    def __init__(self, probability: float = 0.0) -> None:
        super().__init__()
        if not 0 <= probability < 1:
            raise UserError(f"drop_path: {probability} is not in [0, 1)")
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.probability == 0:
            return x
        keep = 1 - self.probability
        kept = torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device, dtype=x.dtype) < keep
        return x * kept / keep

    def extra_repr(self) -> str:
        return f"{self.probability:g}"


def drop_path_rates(last: float, depth: int) -> list[float]:
    """Probabilities of all blocks: from 0 in the first to ``last`` in the last, evenly."""
    return [last * block / max(depth - 1, 1) for block in range(depth)]


def check_output(output: str, allowed: Iterable[str]) -> str:
    """``output`` itself.

    Raises:
        UserError: it is not one of ``allowed``.
    """
    if output not in allowed:
        raise UserError(f"output: '{output}' is not one of {', '.join(allowed)}")
    return output


def init_transformer(module: nn.Module, std: float = 0.02) -> None:
    """Truncated normal weights and zero biases of linear layers and of the patch convolution."""
    for child in module.modules():
        if isinstance(child, nn.Linear | nn.Conv3d):
            nn.init.trunc_normal_(child.weight, std=std)
            if child.bias is not None:
                nn.init.zeros_(child.bias)
