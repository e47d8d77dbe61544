"""Non-local block (Wang et al., CVPR 2018): every position looks at all others.

Parameter names: ``theta``, ``phi``, ``g``, ``out`` (1x1x1 convolutions), ``norm``; a block of kind
"gaussian" compares the map with itself and has neither ``theta`` nor ``phi``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from avadet.errors import UserError
from avadet.models.layers import NormMaker

KINDS = ("dot_product", "softmax", "embedded_gaussian", "gaussian")


@dataclass(frozen=True)
class NonLocalSpec:
    """Which blocks are followed by a non-local block, and of what sort.

    Attributes:
        places: stage name -> indices of the blocks, as in ``{"res4": [6, 13, 20]}``.
        kind: "dot_product" (divided by the number of positions; Slow and SlowFast), "softmax"
            (scaled by 1/sqrt(dim); C2D and I3D, MMAction2's scaled embedded Gaussian),
            "embedded_gaussian" (a softmax without the scale, as the paper's equation 3 has it) or
            "gaussian" (the same of the map itself, equation 2).
        pool: (t,h,w) max pool of keys and values, (1,1,1) for none.
        pool_first: True pools the input before ``phi`` and ``g`` (PySlowFast), False pools
            their outputs (MMAction2).
        out_bias: whether ``out`` has a bias (PySlowFast yes, MMAction2 no).
    """

    places: Mapping[str, Sequence[int]] = field(default_factory=dict)
    kind: str = "dot_product"
    pool: Sequence[int] = (1, 2, 2)
    pool_first: bool = True
    out_bias: bool = True

    @classmethod
    def of(cls, value: NonLocalSpec | Mapping[str, Any] | None) -> NonLocalSpec:
        """The spec from plain data.

        Raises:
            UserError: an unknown key or kind.
        """
        if isinstance(value, NonLocalSpec):
            return value
        try:
            spec = cls(**(value or {}))
        except TypeError as error:
            known = ", ".join(cls.__dataclass_fields__)
            raise UserError(f"non_local: {error}; known keys: {known}") from error
        if spec.kind not in KINDS:
            raise UserError(f"non_local.kind: '{spec.kind}' is not one of {', '.join(KINDS)}")
        return spec


class NonLocal(nn.Module):
    """x + norm(out(attention(theta(x), phi(x)) g(x))).

    Shape: (B,C,T,H,W) -> the same.
    """

    def __init__(self, channels: int, inner: int, spec: NonLocalSpec, norm: NormMaker) -> None:
        super().__init__()
        self.kind = spec.kind
        self.pool_first = spec.pool_first
        self.inner = inner
        if spec.kind != "gaussian":
            self.theta = nn.Conv3d(channels, inner, 1)
            self.phi = nn.Conv3d(channels, inner, 1)
        self.g = nn.Conv3d(channels, inner, 1)
        self.out = nn.Conv3d(inner, channels, 1, bias=spec.out_bias)
        self.norm = norm(channels)
        size = tuple(spec.pool)
        pooled = any(side > 1 for side in size)
        self.pool = nn.MaxPool3d(size, stride=size) if pooled else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        source = self.pool(x) if self.pool_first else x
        g = self.g(source)
        query, phi = (x, source) if self.kind == "gaussian" else (self.theta(x), self.phi(source))
        if not self.pool_first:
            phi, g = self.pool(phi), self.pool(g)
        weights = query.flatten(2).transpose(1, 2) @ phi.flatten(2)  # (B,N,C') (B,C',M) -> (B,N,M)
        if self.kind == "dot_product":
            weights = weights / weights.shape[-1]
        else:
            scale = self.inner**-0.5 if self.kind == "softmax" else 1.0
            weights = (weights * scale).softmax(-1)
        mixed = weights @ g.flatten(2).transpose(1, 2)  # (B,N,C')
        mixed = mixed.transpose(1, 2).reshape(x.shape[0], self.inner, *x.shape[2:])
        return x + self.norm(self.out(mixed))
