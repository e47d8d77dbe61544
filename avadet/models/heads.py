"""Heads: from a backbone's maps to logits of classes.

Parameter names: ``projection.{weight,bias}``, and ``hidden.{weight,bias}`` of the MLP.
Logits are never activated here, but for ``PoolHead.fully_convolutional``, which must average
probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avadet.errors import UserError
from avadet.models.layers import init_linear, pool_frames
from avadet.models.roi import Boxes, align_regions, batch_index, extend_all
from avadet.registry import Registry

HEADS = Registry("head")
TEMPORAL_POOLS = ("avg", "max")


def _total(in_channels: int | Sequence[int]) -> int:
    return in_channels if isinstance(in_channels, int) else sum(in_channels)


def activate(logits: Tensor, activation: str) -> Tensor:
    """Probabilities in float32: "sigmoid" per class, or "softmax" over the last axis.

    Raises:
        UserError: another ``activation``.
    """
    if activation == "sigmoid":
        return logits.float().sigmoid()
    if activation == "softmax":
        return logits.float().softmax(-1)
    raise UserError(f"activation: '{activation}' is neither 'sigmoid' nor 'softmax'")


class PoolHead(nn.Module):
    """Classification: global mean of each map, concatenation, dropout, one linear layer.

    Args:
        in_channels: of the maps together, or one number per map.
        num_classes: K.
        dropout: probability.
        window: cells per side of the maps at the training crop (7 for 224 pixels at stride 32);
            ``fully_convolutional`` slides a window of this size over larger maps.
        sliding: (t,h,w): the mean is taken over windows of so many cells first and then over the
            windows, so that cells in the middle count more often (torchvision's S3D: 2,7,7); None
            for a side stands for the whole of it.
        mlp_hidden: units of a layer without bias, with ReLU, between mean and dropout (X3D); None
            for none.
        init_std: of the linear layers' weights.

    Shape: tuple of (B,C_p,T_p,H_p,W_p) -> (B,K).
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        num_classes: int,
        *,
        dropout: float = 0.5,
        window: int | None = None,
        sliding: Sequence[int | None] | None = None,
        mlp_hidden: int | None = None,
        init_std: float = 0.01,
    ) -> None:
        super().__init__()
        self.in_channels = _total(in_channels)
        self.num_classes = num_classes
        self.window = window
        self.sliding = None if sliding is None else tuple(sliding)
        self.dropout = nn.Dropout(dropout)
        width = self.in_channels
        self.hidden: nn.Linear | None = None
        if mlp_hidden is not None:
            self.hidden = nn.Linear(width, mlp_hidden, bias=False)
            nn.init.normal_(self.hidden.weight, std=init_std)
            width = mlp_hidden
        self.projection = init_linear(nn.Linear(width, num_classes), init_std)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return self.classify(self.features(maps))

    def features(self, maps: Sequence[Tensor]) -> Tensor:
        """What is known of the clip before the last layers.

        Shape: tuple of (B,C_p,T_p,H_p,W_p) -> (B,C) float32.
        """
        if self.sliding is not None:
            sides = [
                [min(k or side, side) for k, side in zip(self.sliding, each.shape[2:], strict=True)]
                for each in maps
            ]
            maps = [F.avg_pool3d(each, side, 1) for each, side in zip(maps, sides, strict=True)]
        return torch.cat([each.mean((2, 3, 4), dtype=torch.float32) for each in maps], 1)

    def classify(self, pooled: Tensor) -> Tensor:
        """Logits of pooled features, (...,C) -> (...,K)."""
        if self.hidden is not None:
            pooled = F.relu(self.hidden(pooled))
        return self.projection(self.dropout(pooled))

    def fully_convolutional(self, maps: Sequence[Tensor], activation: str = "softmax") -> Tensor:
        """Probabilities as the public ResNet weights are tested: one per window, then their mean.

        Each window covers all frames and ``window`` x ``window`` cells; without a ``window``,
        or on maps no larger, this is the activation of ``forward``'s logits.

        Shape: tuple of (B,C_p,T_p,H_p,W_p) -> (B,K) float32.
        """
        pooled = []
        for each in maps:
            t, h, w = each.shape[2:]
            side = self.window or max(h, w)
            pooled.append(F.avg_pool3d(each, (t, min(side, h), min(side, w)), stride=1))
        cells = torch.cat(pooled, 1).permute(0, 2, 3, 4, 1)  # (B,1,h,w,C)
        return activate(self.classify(cells), activation).mean((1, 2, 3))


class RoIHead(nn.Module):
    """Detection: each map pooled over time, RoIAlign per box, spatial max, a linear layer or MLP.

    Args:
        in_channels: of the maps together, or one number per map.
        num_classes: K.
        resolution: cells per side of RoIAlign, 7 (PySlowFast) or 8 (MMAction2).
        stride: pixels per cell of the maps: one number, or one per map.
        aligned: see ``roi.align_regions``.
        temporal_pool: "avg" or "max" over the frames of each map.
        context: appends what the whole clip's map gives (average-pooled to the resolution, then
            spatial max): doubles the features (MMAction2's ``with_global``).
        mlp_hidden: units of a hidden layer with ReLU in front of the linear layer; None for none.
        extend: boxes are widened by these parts of their width and height, half on each side, and
            cut at the clip's edge (VideoMAE-Action-Detection tests with 0.1 and 0.05).
        dropout: probability, before the (first) linear layer.
        init_std: of the linear layers' weights.

    Attributes:
        feature_channels: C of ``features``.

    Shape: tuple of (B,C_p,T_p,H_p,W_p), boxes -> (sum N_i, K); boxes are B tensors (N_i,4), xyxy
    in pixels of the clip.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        num_classes: int,
        *,
        resolution: int = 7,
        stride: float | Sequence[float] = 16,
        aligned: bool = True,
        temporal_pool: str = "avg",
        context: bool = False,
        mlp_hidden: int | None = None,
        extend: Sequence[float] = (0.0, 0.0),
        dropout: float = 0.5,
        init_std: float = 0.01,
    ) -> None:
        super().__init__()
        if temporal_pool not in TEMPORAL_POOLS:
            raise UserError(f"temporal_pool: '{temporal_pool}' is not one of avg, max")
        self.in_channels = _total(in_channels)
        self.num_classes = num_classes
        self.resolution = resolution
        self.stride = stride
        self.aligned = aligned
        self.temporal_pool = temporal_pool
        self.context = context
        self.extend = tuple(extend)
        self.dropout = nn.Dropout(dropout)
        width = self.feature_channels = self.in_channels * (2 if context else 1)
        self.hidden: nn.Linear | None = None
        if mlp_hidden is not None:
            self.hidden = init_linear(nn.Linear(width, mlp_hidden), init_std)
            width = mlp_hidden
        self.projection = init_linear(nn.Linear(width, num_classes), init_std)

    def forward(self, maps: Sequence[Tensor], boxes: Boxes) -> Tensor:
        x = self.dropout(self.features(maps, boxes))
        if self.hidden is not None:
            x = F.relu(self.hidden(x))
        return self.projection(x)

    def features(self, maps: Sequence[Tensor], boxes: Boxes) -> Tensor:
        """What is known of each box before the last layers; a long-term bank stores these.

        Shape: -> (sum N_i, C), or (sum N_i, 2C) with context, float32.
        """
        strides = [self.stride] * len(maps) if isinstance(self.stride, int | float) else self.stride
        persons, scenes = [], []
        for each, stride in zip(maps, strides, strict=True):
            flat = pool_frames(each, self.temporal_pool)  # (B,C,H,W)
            wanted = boxes
            if any(self.extend):
                height, width = (side * stride for side in flat.shape[2:])
                wanted = extend_all(boxes, self.extend, height, width)
            regions = align_regions(
                flat, wanted, stride=stride, resolution=self.resolution, aligned=self.aligned
            )
            persons.append(regions.amax((2, 3)))
            if self.context:
                scene = F.adaptive_avg_pool2d(flat, self.resolution).amax((2, 3))
                scenes.append(scene[batch_index(boxes, scene.device)])
        return torch.cat(persons + scenes, 1)


HEADS.add("pool", PoolHead)
HEADS.add("roi", RoIHead)
