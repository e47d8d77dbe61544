"""The non-local block against the sums of its definition, position by position."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from avadet.models.backbones.non_local import NonLocal, NonLocalSpec


def by_definition(block: NonLocal, x: Tensor, spec: NonLocalSpec) -> Tensor:
    """One clip, loops over positions."""
    pool = nn.MaxPool3d(tuple(spec.pool))
    if spec.pool_first:
        phi, g = block.phi(pool(x)), block.g(pool(x))
    else:
        phi, g = pool(block.phi(x)), pool(block.g(x))
    theta = block.theta(x)[0].flatten(1)  # (C',N)
    phi, g = phi[0].flatten(1), g[0].flatten(1)  # (C',M)
    result = torch.zeros_like(theta)
    for i in range(theta.shape[1]):
        scores = torch.stack([theta[:, i] @ phi[:, j] for j in range(phi.shape[1])])
        if spec.kind == "softmax":
            scores = (scores / theta.shape[0] ** 0.5).softmax(0)
        else:
            scores = scores / phi.shape[1]
        result[:, i] = sum(scores[j] * g[:, j] for j in range(phi.shape[1]))
    mixed = result.view(1, -1, *x.shape[2:])
    return x + block.norm(block.out(mixed))


@pytest.mark.parametrize("kind", ["dot_product", "softmax"])
@pytest.mark.parametrize("pool", [(1, 1, 1), (1, 2, 2), (2, 2, 2)])
@pytest.mark.parametrize("pool_first", [True, False])
def test_equals_its_definition(kind: str, pool: tuple[int, ...], pool_first: bool) -> None:
    spec = NonLocalSpec(kind=kind, pool=pool, pool_first=pool_first)
    block = NonLocal(4, 3, spec, nn.BatchNorm3d).eval()
    x = torch.randn(1, 4, 2, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(block(x), by_definition(block, x, spec), rtol=1e-5, atol=1e-6)


def test_bias_of_the_output_is_optional() -> None:
    block = NonLocal(4, 2, NonLocalSpec(out_bias=False), nn.BatchNorm3d)
    assert block.out.bias is None
    assert block.theta.bias is not None
