"""Multiscale vision transformers: MViTv1 (ICCV 2021) and MViTv2 (CVPR 2022).

Tokens of 2 x 4 x 4 pixels; at three blocks the channels double and the queries are pooled by two,
so the last map has T/2 frames at stride 32. The numbers of blocks and the strides are those of
PySlowFast's configs (``MVIT_B_16x4_CONV``, ``MVIT_B_32x3_CONV``, ``MVITv2_{S,B,L}``).

Shapes: B clips, T frames, N tokens, C channels; a grid is (T,H,W) of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avadet.models.backbones.pooling_attention import Grid, PooledAttention, pool_tokens
from avadet.models.backbones.transformer import (
    MLP,
    NORM_EPS,
    OUTPUTS,
    DropPath,
    check_output,
    drop_path_rates,
    init_transformer,
)

_PATCH_STRIDE = (2, 4, 4)


class MViTBlock(nn.Module):
    """Pooled attention and MLP, each with its residual connection.

    Parameter names: ``norm1.*``, ``attn.*``, ``norm2.*``, ``mlp.*``, ``shortcut.*`` (a linear
    layer where the channels change).

    Args:
        attention: from the normalised input's channels to its own.
        in_channels, middle, out_channels: of the input, of the attention's result, of the MLP's.
        stride: of the queries; the residual connection is max-pooled by as much.
        drop_path: probability.

    Shape: (B,1+THW,C), (T,H,W) -> (B,1+T'H'W',C'), (T',H',W').
    """

    def __init__(
        self,
        attention: PooledAttention,
        in_channels: int,
        middle: int,
        out_channels: int,
        *,
        stride: int,
        mlp_ratio: float,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(in_channels, eps=NORM_EPS)
        self.attn = attention
        self.norm2 = nn.LayerNorm(middle, eps=NORM_EPS)
        self.mlp = MLP(middle, int(middle * mlp_ratio), out_channels)
        self.drop_path = DropPath(drop_path)
        self.shortcut = (
            nn.Linear(in_channels, out_channels) if in_channels != out_channels else None
        )
        self.early = middle == out_channels
        self.pool: nn.MaxPool3d | None = None
        if stride > 1:
            self.pool = nn.MaxPool3d((1, stride + 1, stride + 1), (1, stride, stride), (0, 1, 1))

    def forward(self, x: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
        normed = self.norm1(x)
        y, after = self.attn(normed, grid)
        # Where the channels change, the residual path too starts from the normalised tokens.
        if self.shortcut is not None and self.early:
            x = self.shortcut(normed)
        if self.pool is not None:
            x, _ = pool_tokens(x, grid, self.pool)
        x = x + self.drop_path(y)
        normed = self.norm2(x)
        y = self.mlp(normed)
        if self.shortcut is not None and not self.early:
            x = self.shortcut(normed)
        return x + self.drop_path(y), after


class MViT(nn.Module):
    """The backbone.

    Parameter names: ``patch.*``, ``class_token``, ``position_{space,time,class}`` (absolute
    positions only), ``blocks.{b}.*``, ``norm.*``.

    Args:
        version: 1: separable absolute positions, channels doubled in the MLP before a stage;
            2: relative positions, residual query pooling, queries pooled in every block, channels
            doubled in the attention that starts a stage.
        depth: number of blocks.
        width: channels of the first tokens.
        heads: attention heads of the first blocks.
        stages: the blocks at which queries are pooled by two and channels and heads double.
        frames, crop: of the training clips: the size of the tables of positions. Clips of other
            sizes interpolate them.
        stride_kv: spatial stride of keys and values in the first block; halved at each stage.
        mlp_ratio: hidden channels of the MLPs over their input's.
        drop_path: probability in the last block, growing evenly from 0.
        output: "map": all tokens as a map, for RoI heads and pooling heads; "token": the class
            token as a map of one cell, which the published classifiers read; "mean": the mean of
            the map, normalised afterwards.
        output_stride: 32, or 16: the last stage keeps the grid, for finer boxes.
        pool_norm_eps: of the norms after pools (PyTorchVideo has 1e-5, all others 1e-6).
        pool_kernel: of the pools of queries, keys and values, see ``PooledAttention``.

    Shape: (B,3,T,H,W) -> one map (B,C,T/2,H/32,W/32), or (B,C,1,1,1).
    """

    block_types = (MViTBlock,)

    def __init__(
        self,
        *,
        version: int = 1,
        depth: int = 16,
        width: int = 96,
        heads: int = 1,
        stages: Sequence[int] = (1, 3, 14),
        frames: int = 16,
        crop: int = 224,
        stride_kv: int = 8,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.2,
        output: str = "map",
        output_stride: int = 32,
        pool_norm_eps: float = NORM_EPS,
        pool_kernel: int | None = 3,
    ) -> None:
        super().__init__()
        if version not in (1, 2):
            raise ValueError(f"version is 1 or 2, not {version}")
        if output_stride not in (16, 32):
            raise ValueError(f"output_stride of MViT is 16 or 32, not {output_stride}")
        self.output = check_output(output, OUTPUTS)
        side = -(-crop // _PATCH_STRIDE[1])
        self.grid: Grid = (-(-frames // _PATCH_STRIDE[0]), side, side)
        self.patch = nn.Conv3d(3, width, (3, 7, 7), _PATCH_STRIDE, (1, 3, 3))
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.absolute = version == 1
        if self.absolute:
            self.position_space = nn.Parameter(torch.zeros(1, side * side, width))
            self.position_time = nn.Parameter(torch.zeros(1, self.grid[0], width))
            self.position_class = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.ModuleList()
        channels, stride = width, _PATCH_STRIDE[1]
        # Tables of relative positions keep the sizes of stride 32, so that weights fit either way.
        # Odd sides are halved downwards, as published, though pools round up.
        published_kv = stride_kv
        for block, rate in enumerate(drop_path_rates(drop_path, depth)):
            starts, next_starts = block in stages, block + 1 in stages
            if starts:
                heads *= 2
                published_kv = max(published_kv // 2, 1)
            places = side // min(2 if starts else 1, published_kv)
            side = side // 2 if starts else side
            step = 2 if starts and stride < output_stride else 1
            stride *= step
            stride_kv = max(stride_kv // step, 1)
            # v1 doubles in the MLP before the stage, v2 in the attention of its first block.
            middle = channels * 2 if starts and version == 2 else channels
            after = channels * 2 if next_starts and version == 1 else middle
            attention = PooledAttention(
                channels,
                middle,
                heads,
                stride_q=step,
                stride_kv=stride_kv,
                pool_query=starts or version == 2,
                relative=(self.grid[0], places, places) if version == 2 else None,
                residual=version == 2,
                pool_norm_eps=pool_norm_eps,
                pool_kernel=pool_kernel,
                kernel_strides=(2 if starts else 1, published_kv),
            )
            self.blocks.append(
                MViTBlock(
                    attention,
                    channels,
                    middle,
                    after,
                    stride=step,
                    mlp_ratio=mlp_ratio,
                    drop_path=rate,
                )
            )
            channels = after
        self.norm = nn.LayerNorm(channels, eps=NORM_EPS)
        self.out_channels = (channels,)
        self.strides = (stride,)
        init_transformer(self)
        for name, parameter in self.named_parameters(recurse=False):
            if name.startswith(("class", "position")):
                nn.init.trunc_normal_(parameter, std=0.02)

    def forward(self, video: Tensor) -> tuple[Tensor, ...]:
        x = self.patch(video)  # (B,C,T,H,W)
        grid: Grid = tuple(x.shape[2:])  # type: ignore[assignment]
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], 1)
        if self.absolute:
            x = x + self.positions(grid)
        for block in self.blocks:
            x, grid = block(x, grid)
        if self.output == "mean":
            x = self.norm(x[:, 1:].mean(1))
            return (x[..., None, None, None],)
        if self.output == "token":
            return (self.norm(x[:, 0])[..., None, None, None],)
        return (self.norm(x[:, 1:]).transpose(1, 2).unflatten(2, grid),)

    def positions(self, grid: Grid) -> Tensor:
        """Absolute positions of the class token and of a grid.

        The sum of a spatial and a temporal table; each is interpolated linearly where the grid
        is another one, which equals trilinear interpolation of the sum.

        Shape: -> (1,1+THW,C).
        """
        t, h, w = grid
        space, time = self.position_space, self.position_time
        if (h, w) != self.grid[1:]:
            square = space.transpose(1, 2).unflatten(2, self.grid[1:])
            square = F.interpolate(square, size=(h, w), mode="bilinear")
            space = square.flatten(2).transpose(1, 2)
        if t != self.grid[0]:
            time = F.interpolate(time.transpose(1, 2), size=t, mode="linear").transpose(1, 2)
        cells = (time[:, :, None] + space[:, None]).flatten(1, 2)  # (1,THW,C)
        return torch.cat([self.position_class, cells], 1)
