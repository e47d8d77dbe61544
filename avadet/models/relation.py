"""The actor-context relation head: each person against every place of the scene (ACRN).

Source: Actor-Centric Relation Network (ECCV 2018), in the form of MMAction2's ``ACRNHead``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from avadet.models.heads import HEADS, RoIHead
from avadet.models.layers import ConvNorm, batch_norm, init_convolutions, pool_frames
from avadet.models.roi import Boxes, align_regions, batch_index


class ActorRelationHead(RoIHead):
    """Detection: person features laid over the scene's map, convolved, max-pooled, classified.

    Each map is pooled over time; a person is the spatial max of its RoIAlign; the person is
    repeated over all cells of its clip's map and concatenated with it; a 1x1 and then 3x3
    convolutions relate the two; the spatial max of the result is classified.

    Parameter names: ``relation.{i}.{conv,norm}.*``, ``projection.*``.

    Args:
        in_channels, num_classes, resolution, stride, aligned, temporal_pool, dropout, init_std:
            as in ``RoIHead``; all maps must have one stride.
        convolutions: 3x3 convolutions after the 1x1 one.

    Shape: tuple of (B,C_p,T_p,H,W), boxes -> (sum N_i, K); boxes are B tensors (N_i,4), xyxy in
    pixels of the clip.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        num_classes: int,
        *,
        resolution: int = 8,
        stride: float | Sequence[float] = 16,
        aligned: bool = True,
        temporal_pool: str = "avg",
        convolutions: int = 1,
        dropout: float = 0.5,
        init_std: float = 0.01,
    ) -> None:
        super().__init__(
            in_channels,
            num_classes,
            resolution=resolution,
            stride=stride,
            aligned=aligned,
            temporal_pool=temporal_pool,
            dropout=dropout,
            init_std=init_std,
        )
        strides = {stride} if isinstance(stride, int | float) else set(stride)
        if len(strides) != 1:
            raise ValueError(f"the relation head needs maps of one stride, not {sorted(strides)}")
        width, norm = self.in_channels, batch_norm()
        layers = [ConvNorm(nn.Conv3d(2 * width, width, 1, bias=False), norm(width))]
        for _ in range(convolutions):
            conv = nn.Conv3d(width, width, (1, 3, 3), padding=(0, 1, 1), bias=False)
            layers.append(ConvNorm(conv, norm(width)))
        self.relation = nn.ModuleList(layers)
        init_convolutions(self.relation)

    def features(self, maps: Sequence[Tensor], boxes: Boxes) -> Tensor:
        """Shape: -> (sum N_i, C) float32."""
        flat = torch.cat([pool_frames(each, self.temporal_pool) for each in maps], 1)  # (B,C,H,W)
        stride = self.stride if isinstance(self.stride, int | float) else self.stride[0]
        persons = align_regions(
            flat, boxes, stride=stride, resolution=self.resolution, aligned=self.aligned
        ).amax((2, 3))
        scenes = flat[batch_index(boxes, flat.device)]  # (sum N_i,C,H,W)
        x = torch.cat([persons[..., None, None].expand_as(scenes), scenes], 1).unsqueeze(2)
        for layer in self.relation:
            x = layer.rectified(x)  # (sum N_i,C,1,H,W)
        return x.amax((2, 3, 4)).float()


HEADS.add("acrn", ActorRelationHead)
