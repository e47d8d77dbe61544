"""Plain video transformers in VideoMAE's layout: ViT-S/B/L/H over tokens of 2 x 16 x 16 pixels, and
VideoMAE V2's giant over tokens of 2 x 14 x 14.

Sources: VideoMAE (NeurIPS 2022), section 4 and table 8; VideoMAE V2 (CVPR 2023); ViT (ICLR 2021),
table 1. All tokens attend to all; there is no class token; positions are sines, fixed.

Shapes: B clips, T frames, N tokens, C channels; a grid is (T,H,W) of tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avadet.errors import UserError
from avadet.models.backbones.transformer import (
    MLP,
    NORM_EPS,
    DropPath,
    check_output,
    drop_path_rates,
    init_transformer,
)

TUBELET = 2
PATCH = 16


def sine_positions(count: int, width: int) -> Tensor:
    """Sine (even channels) and cosine (odd) of the token's index at falling frequencies.

    Shape: -> (1,count,width) float32.
    """
    channel = torch.arange(width, dtype=torch.float64)
    frequency = 10000.0 ** (-2 * torch.div(channel, 2, rounding_mode="floor") / width)
    angle = torch.arange(count, dtype=torch.float64)[:, None] * frequency
    angle[:, 0::2] = angle[:, 0::2].sin()
    angle[:, 1::2] = angle[:, 1::2].cos()
    return angle[None].float()


class ViTAttention(nn.Module):
    """Multi-head attention of all tokens.

    Parameter names: ``qkv.*``, ``proj.*``. VideoMAE has no bias for the keys; theirs is here, as
    it changes nothing (it adds the same to all logits of a query), and starts at 0.

    Shape: (B,N,C) -> (B,N,C).
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v)  # (B,h,N,c)
        return self.proj(y.transpose(1, 2).reshape(b, n, c))


class ViTBlock(nn.Module):
    """Attention and MLP, each normalised first, with residual connections.

    Parameter names: ``norm1.*``, ``attn.*``, ``norm2.*``, ``mlp.*``.

    Shape: (B,N,C) -> (B,N,C).
    """

    def __init__(self, channels: int, heads: int, mlp_ratio: float, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=NORM_EPS)
        self.attn = ViTAttention(channels, heads)
        self.norm2 = nn.LayerNorm(channels, eps=NORM_EPS)
        self.mlp = MLP(channels, round(channels * mlp_ratio), channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class ViT(nn.Module):
    """The backbone.

    Parameter names: ``patch.*``, ``blocks.{b}.*``, ``norm.*``; buffer ``positions``.

    Args:
        depth: number of blocks.
        width: C.
        heads: of the attention.
        frames, crop: of the training clips: the size of the table of positions. Other sizes
            interpolate it: bicubic over the frame, linear over time.
        mlp_ratio: hidden channels of the MLPs over C.
        drop_path: probability in the last block, growing evenly from 0.
        output: "map": all tokens, normalised, as a map, for RoI heads; "mean": the mean of all
            tokens, then normalised, as a map of one cell, which the published classifiers read.
        patch: side of a token in pixels.
        output_stride: the same; configs of detectors name it for every backbone.

    Shape: (B,3,T,H,W), H and W multiples of the patch (more is cut off) -> one map
    (B,C,T/2,H/patch,W/patch),
    or (B,C,1,1,1).
    """

    block_types = (ViTBlock,)

    def __init__(
        self,
        *,
        depth: int = 12,
        width: int = 768,
        heads: int = 12,
        frames: int = 16,
        crop: int = 224,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.1,
        output: str = "map",
        patch: int = PATCH,
        output_stride: int | None = None,
    ) -> None:
        super().__init__()
        if output_stride not in (None, patch):
            raise UserError(f"output_stride: ViT's tokens have {patch} pixels, not {output_stride}")
        self.output = check_output(output, ("map", "mean"))
        self.grid = (frames // TUBELET, crop // patch, crop // patch)
        size = (TUBELET, patch, patch)
        self.patch = nn.Conv3d(3, width, size, stride=size)
        t, h, w = self.grid
        self.register_buffer("positions", sine_positions(t * h * w, width))
        self.blocks = nn.ModuleList(
            ViTBlock(width, heads, mlp_ratio, rate) for rate in drop_path_rates(drop_path, depth)
        )
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.out_channels = (width,)
        self.strides = (patch,)
        init_transformer(self)

    def forward(self, video: Tensor) -> tuple[Tensor, ...]:
        x = self.patch(video)  # (B,C,T,H,W)
        grid = tuple(x.shape[2:])
        x = x.flatten(2).transpose(1, 2) + self.positions_at(grid).to(x.dtype)
        for block in self.blocks:
            x = block(x)
        if self.output == "mean":
            return (self.norm(x.mean(1))[..., None, None, None],)
        return (self.norm(x).transpose(1, 2).unflatten(2, grid),)

    def positions_at(self, grid: tuple[int, ...]) -> Tensor:
        """Positions of another grid: bicubic over each frame, then linear over time.

        Shape: -> (1,THW,C).
        """
        table: Tensor = self.positions
        if grid == self.grid:
            return table
        t, h, w = grid
        table = table[0].unflatten(0, self.grid).permute(0, 3, 1, 2)  # (T,C,H,W)
        if (h, w) != self.grid[1:]:
            table = F.interpolate(table, size=(h, w), mode="bicubic", align_corners=False)
        if t != self.grid[0]:
            rows = table.permute(2, 3, 1, 0).flatten(0, 1)  # (HW,C,T)
            table = F.interpolate(rows, size=t, mode="linear").unflatten(0, (h, w))
            table = table.permute(3, 2, 0, 1)
        return table.permute(0, 2, 3, 1).reshape(1, t * h * w, -1)
