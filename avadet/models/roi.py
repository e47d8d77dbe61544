"""RoIAlign on the pooled maps of a video backbone."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.amp import is_autocast_available
from torchvision.ops import roi_align


def align_regions(
    x: Tensor, boxes: Sequence[Tensor], *, stride: float, resolution: int, aligned: bool
) -> Tensor:
    """Features of every box, bilinear samples averaged per cell (as many as the cell's size asks).

    Computed in float32 even under autocast: in bfloat16 box coordinates are wrong by whole pixels.

    Args:
        x: (B,C,H,W).
        boxes: B tensors (N_i,4), xyxy in pixels of the clip; N_i may be 0.
        stride: pixels per cell of ``x``.
        resolution: cells per side of the result.
        aligned: True shifts by half a cell, so that a pixel's centre is at +0.5 (Detectron2's
            ``ROIAlignV2``); False for weights trained without.

    Raises:
        ValueError: the number of box tensors is not B.

    Shape: -> (sum N_i, C, resolution, resolution) float32.
    """
    if len(boxes) != len(x):
        raise ValueError(f"{len(x)} clips but boxes for {len(boxes)}")
    kind = x.device.type
    plain = torch.autocast(kind, enabled=False) if is_autocast_available(kind) else nullcontext()
    with plain:
        return roi_align(
            x.float(),
            [each.to(x.device, torch.float32) for each in boxes],
            output_size=resolution,
            spatial_scale=1.0 / stride,
            sampling_ratio=0,
            aligned=aligned,
        )


def extend_boxes(boxes: Tensor, parts: Sequence[float], height: float, width: float) -> Tensor:
    """Boxes widened by parts of their size, half on each side, cut at the edge.

    Sizes are counted as VideoMAE-Action-Detection does: the last pixel belongs to the box.

    Args:
        boxes: (N,4) xyxy in pixels.
        parts: of the width and of the height.
        height, width: of the picture.
    """
    size = boxes[:, 2:] - boxes[:, :2] + 1
    pad = size * boxes.new_tensor(parts) / 2
    low = boxes[:, :2] - pad
    high = boxes[:, 2:] + pad
    edge = boxes.new_tensor([width - 1, height - 1])
    return torch.cat([low, high], 1).clamp(min=0).minimum(edge.repeat(2))


def batch_index(boxes: Sequence[Tensor], device: torch.device) -> Tensor:
    """(sum N_i,) int64: the clip that each box belongs to."""
    owners = [clip for clip, each in enumerate(boxes) for _ in range(len(each))]
    return torch.tensor(owners, dtype=torch.int64, device=device)
