"""Attention whose queries, keys and values are pooled first, with relative positions: MViT's.

Sources: MViT (ICCV 2021), section 3.1; MViTv2 (CVPR 2022), section 4.1: decomposed relative
positions and the residual connection of the pooled queries.

Shapes: B clips, N tokens, C channels, h heads, c = C / h; a grid is (T,H,W) of tokens. Tokens are
[class token, grid in T, H, W order]; the class token is never pooled and has no relative position.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avadet.models.backbones.transformer import NORM_EPS

Grid = tuple[int, int, int]


def pool_tokens(x: Tensor, grid: Grid, pool: nn.Module) -> tuple[Tensor, Grid]:
    """Pools the grid of tokens in 3D and leaves the class token as it is.

    Shape: (B,1+THW,C) -> (B,1+T'H'W',C), and (T',H',W').
    """
    token, cells = x[:, :1], x[:, 1:]
    volume = cells.transpose(1, 2).reshape(len(x), -1, *grid)  # (B,C,T,H,W)
    volume = pool(volume)
    t, h, w = volume.shape[2:]
    return torch.cat([token, volume.flatten(2).transpose(1, 2)], 1), (t, h, w)


def relative_table(table: Tensor, queries: int, keys: int) -> Tensor:
    """Embeddings of the distance of every query from every key along one axis.

    The longer of the two has one step per entry and the shorter one larger steps. A table made
    for another size is interpolated linearly.

    Shape: (2n-1,c) -> (queries,keys,c).
    """
    wanted = 2 * max(queries, keys) - 1
    if len(table) != wanted:
        stretched = F.interpolate(table.t()[None], size=wanted, mode="linear")
        table = stretched[0].t()
    step_q, step_k = max(keys / queries, 1.0), max(queries / keys, 1.0)
    q = torch.arange(queries, device=table.device)[:, None] * step_q
    k = torch.arange(keys, device=table.device)[None, :] * step_k
    return table[(q - k + (keys - 1) * step_k).long()]


class PooledAttention(nn.Module):
    """Multi-head attention over pooled tokens.

    Parameter names: ``qkv.*``, ``proj.*``, ``pool_{q,k,v}.weight`` and ``norm_{q,k,v}.*`` (the
    channels of one head: heads share them), ``rel_pos_{t,h,w}``.

    Args:
        in_channels, out_channels: C before and after; they differ where a v2 stage starts.
        heads: h.
        stride_q: spatial stride of the queries.
        stride_kv: spatial stride of keys and values.
        pool_query: pools queries also at stride 1 (v2); otherwise only where the stride asks.
        relative: how many places along each axis the tables of relative positions are made for
            (the larger of the queries' grid and the keys' grid); None for none.
        residual: adds the pooled queries to the result (v2).
        pool_norm_eps: of the norms after the pools.
        pool_kernel: of the pools along all axes; None for one more than the stride in space and
            one in time, and no pool of keys and values at stride 1.
        kernel_strides: strides of queries and keys that such kernels are made for, where weights
            were trained at others than ``stride_q`` and ``stride_kv``.

    Shape: (B,1+THW,C), (T,H,W) -> (B,1+T'H'W',C'), (T',H',W').
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        heads: int,
        *,
        stride_q: int = 1,
        stride_kv: int = 1,
        pool_query: bool = False,
        relative: Grid | None = None,
        residual: bool = False,
        pool_norm_eps: float = NORM_EPS,
        pool_kernel: int | None = 3,
        kernel_strides: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.residual = residual
        width = out_channels // heads
        self.qkv = nn.Linear(in_channels, 3 * out_channels)
        self.proj = nn.Linear(out_channels, out_channels)

        trained_q, trained_kv = kernel_strides or (stride_q, stride_kv)

        def pool(stride: int, trained: int) -> nn.Conv3d:
            side = trained + 1 if pool_kernel is None else pool_kernel
            kernel = (1 if pool_kernel is None else pool_kernel, side, side)
            return nn.Conv3d(
                width,
                width,
                kernel,
                stride=(1, stride, stride),
                padding=tuple(size // 2 for size in kernel),
                groups=width,
                bias=False,
            )

        def norm() -> nn.LayerNorm:
            return nn.LayerNorm(width, eps=pool_norm_eps)

        pooled = pool_query or stride_q > 1
        self.pool_q = pool(stride_q, trained_q) if pooled else None
        self.norm_q = norm() if pooled else None
        pooled = pool_kernel is not None or trained_kv > 1
        self.pool_k = pool(stride_kv, trained_kv) if pooled else None
        self.norm_k = norm() if pooled else None
        self.pool_v = pool(stride_kv, trained_kv) if pooled else None
        self.norm_v = norm() if pooled else None
        self.relative = relative is not None
        if relative is not None:
            for axis, places in zip("thw", relative, strict=True):
                table = nn.Parameter(torch.zeros(2 * places - 1, width))
                nn.init.trunc_normal_(table, std=0.02)
                self.register_parameter(f"rel_pos_{axis}", table)

    def forward(self, x: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        b, n, _ = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, grid_q = self._pooled(qkv[0], grid, self.pool_q, self.norm_q)  # (B,h,N_q,c)
        k, grid_k = self._pooled(qkv[1], grid, self.pool_k, self.norm_k)
        v, _ = self._pooled(qkv[2], grid, self.pool_v, self.norm_v)
        bias = self._positions(q, grid_q, grid_k) if self.relative else None
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        if self.residual:
            y = y + F.pad(q[:, :, 1:], (0, 0, 1, 0))  # not to the class token
        y = y.transpose(1, 2).reshape(b, y.shape[2], -1)
        return self.proj(y), grid_q

    def _pooled(
        self, x: Tensor, grid: Grid, pool: nn.Module | None, norm: nn.Module | None
    ) -> tuple[Tensor, Grid]:
        if pool is None or norm is None:
            return x, grid
        b, h = x.shape[:2]
        pooled, after = pool_tokens(x.flatten(0, 1), grid, pool)
        return norm(pooled).unflatten(0, (b, h)), after

    def _positions(self, q: Tensor, grid_q: Grid, grid_k: Grid) -> Tensor:
        """What is added to the attention's logits: q (not scaled) times each axis' embedding.

        Shape: (B,h,1+THW,c) -> (B,h,1+THW,1+T'H'W').
        """
        cells = q[:, :, 1:].unflatten(2, grid_q)  # (B,h,T,H,W,c)
        tables = [
            relative_table(getattr(self, f"rel_pos_{axis}"), grid_q[i], grid_k[i])
            for i, axis in enumerate("thw")
        ]
        along_t = torch.einsum("bnthwc,tkc->bnthwk", cells, tables[0])
        along_h = torch.einsum("bnthwc,hkc->bnthwk", cells, tables[1])
        along_w = torch.einsum("bnthwc,wkc->bnthwk", cells, tables[2])
        bias = (
            along_t[..., :, None, None] + along_h[..., None, :, None] + along_w[..., None, None, :]
        )
        return F.pad(bias.flatten(5, 7).flatten(2, 4), (1, 0, 1, 0))
