"""3x3x3 convolutions in parts: (2+1)D of Tran et al. (CVPR 2018), P3D's units (ICCV 2017).

They are conv makers: a residual network asks them for its 3x3x3 layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from avadet.errors import UserError
from avadet.models.layers import ConvMaker, ConvSpec, batch_norm, plain_conv

ORDERS = ("spatial_first", "temporal_first")
MIDDLES = ("matched", "out")


def matched_width(spec: ConvSpec) -> int:
    """Channels between the two parts that give them the parameters of one 3 x h x w convolution.

    floor(3 h w I O / (h w I + 3 O)), section 3.5 of the paper; the 3 stays for a 1x1x1 convolution
    (as MMAction2 splits its shortcuts).
    """
    _, h, w = spec.kernel
    whole = 3 * h * w * spec.in_channels * spec.out_channels
    return whole // (h * w * spec.in_channels + 3 * spec.out_channels)


class Factorised(nn.Module):
    """1 x h x w, norm, ReLU, t x 1 x 1; or the temporal part first.

    Parameter names: ``spatial.weight``, ``norm.*``, ``temporal.weight``.

    Shape: (B,C,T,H,W) -> (B,C',T',H',W').
    """

    def __init__(
        self,
        spec: ConvSpec,
        middle: int | None = None,
        order: str = "spatial_first",
        norm_eps: float | None = None,
    ) -> None:
        super().__init__()
        if order not in ORDERS:
            raise UserError(f"order: '{order}' is not one of {', '.join(ORDERS)}")
        middle = matched_width(spec) if middle is None else middle
        (t, h, w), (stride_t, *stride_s) = spec.kernel, spec.stride
        self.temporal_first = order == "temporal_first"
        ends = (spec.in_channels, middle, spec.out_channels)
        at_t, at_s = (ends[:2], ends[1:]) if self.temporal_first else (ends[1:], ends[:2])
        self.spatial = plain_conv(
            ConvSpec(*at_s, (1, h, w), (1, stride_s[0], stride_s[1]), spec.dilation)
        )
        self.norm = spec.norm(middle) if norm_eps is None else batch_norm(norm_eps)(middle)
        self.temporal = plain_conv(ConvSpec(*at_t, (t, 1, 1), (stride_t, 1, 1)))

    @property
    def norm_pairs(self) -> tuple[tuple[str, str], ...]:
        """What ``folding.fold_norms`` may fold."""
        return (("temporal" if self.temporal_first else "spatial", "norm"),)

    @property
    def last_conv(self) -> str:
        """Whose output this is, likewise."""
        return "spatial" if self.temporal_first else "temporal"

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.spatial, self.temporal
        if self.temporal_first:
            first, second = second, first
        return second(F.relu(self.norm(first(x)), inplace=True))


def factorised(
    middle: str = "matched", order: str = "spatial_first", norm_eps: float | None = None
) -> ConvMaker:
    """A maker of ``Factorised``.

    Args:
        middle: "matched", see ``matched_width``, or "out": as many channels as the result has
            (PyTorchVideo).
        order: which part comes first.
        norm_eps: of the norm between the parts; None takes the network's.

    Raises:
        UserError: an unknown ``middle`` or ``order``.
    """
    if middle not in MIDDLES:
        raise UserError(f"middle: '{middle}' is not one of {', '.join(MIDDLES)}")

    def make(spec: ConvSpec) -> nn.Module:
        width = spec.out_channels if middle == "out" else None
        return Factorised(spec, width, order, norm_eps)

    return make


class PseudoUnit(nn.Module):
    """P3D's 3x3x3 layer: S is 1x3x3, T is 3x1x1, each with norm; the caller adds the last norm.

    Kinds: "A" T(S(x)), "B" S(x) + T(x), "C" S(x) + T(S(x)).

    Parameter names: ``spatial.weight``, ``temporal.weight``, ``spatial_norm.*``,
    ``temporal_norm.*`` (not in kind A, whose last norm is the caller's).

    Shape: (B,C,T,H,W) -> (B,C',T',H',W').
    """

    def __init__(self, spec: ConvSpec, kind: str) -> None:
        super().__init__()
        (t, h, w), (stride_t, *stride_s) = spec.kernel, spec.stride
        out = spec.out_channels
        steps = (1, stride_s[0], stride_s[1])
        if kind == "B":
            # Both see the same input, so both carry all strides.
            steps = spec.stride
        self.kind = kind
        self.spatial = plain_conv(ConvSpec(spec.in_channels, out, (1, h, w), steps, spec.dilation))
        self.spatial_norm = spec.norm(out)
        first = spec.in_channels if kind == "B" else out
        temporal_steps = spec.stride if kind == "B" else (stride_t, 1, 1)
        self.temporal = plain_conv(ConvSpec(first, out, (t, 1, 1), temporal_steps))
        self.temporal_norm = nn.Identity() if kind == "A" else spec.norm(out)
        self.stride_t = stride_t

    @property
    def last_conv(self) -> str | None:
        """Whose output this is, for ``folding.fold_norms``; B and C are sums."""
        return "temporal" if self.kind == "A" else None

    def forward(self, x: Tensor) -> Tensor:
        s = F.relu(self.spatial_norm(self.spatial(x)), inplace=True)
        if self.kind == "A":
            return self.temporal(s)
        t = F.relu(self.temporal_norm(self.temporal(x if self.kind == "B" else s)), inplace=True)
        if self.kind == "C" and self.stride_t > 1:
            s = s[:, :, :: self.stride_t]
        return s + t


def pseudo_units(depths: Sequence[int]) -> ConvMaker:
    """A maker of A, B, C, A, ... in the order of the blocks; stages without time stay 1x3x3."""
    before = {stage + 2: sum(depths[:stage]) for stage in range(len(depths))}

    def make(spec: ConvSpec) -> nn.Module:
        if spec.kernel[0] == 1:
            return plain_conv(spec)
        return PseudoUnit(spec, "ABC"[(before[spec.stage] + spec.block) % 3])

    return make


def fixed_middle(width: int, norm_eps: float | None = None) -> ConvMaker:
    """A maker of ``Factorised`` with so many channels between; VMZ's stems have 45."""
    return partial(Factorised, middle=width, norm_eps=norm_eps)
