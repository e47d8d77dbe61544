"""Anchors, box deltas, matching and sampling: the arithmetic of Faster R-CNN.

Boxes are (N,4) xyxy pixels of the resized picture, continuous coordinates. Sources: Faster R-CNN
(section 3.1), Detectron2's conventions for offsets and clamps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from avadet import boxes as box_math

# The largest growth of a side that a delta may ask for: a 16 px box becoming a 1000 px one.
MAX_LOG_GROWTH = math.log(1000.0 / 16.0)


def cell_anchors(sizes: Sequence[float], aspect_ratios: Sequence[float]) -> Tensor:
    """Anchors of one cell about the origin, (A,4), sizes outside, ratios (height/width) inside."""
    rows = []
    for size in sizes:
        for ratio in aspect_ratios:
            width = math.sqrt(size**2 / ratio)
            height = ratio * width
            rows.append((-width / 2, -height / 2, width / 2, height / 2))
    return torch.tensor(rows, dtype=torch.float32)


def grid_anchors(
    cells: Tensor, height: int, width: int, stride: int, offset: float = 0.0
) -> Tensor:
    """Anchors of a map in the order row, column, cell anchor.

    Args:
        cells: (A,4) from :func:`cell_anchors`.
        height, width: of the map, in cells.
        stride: pixels per cell.
        offset: of the first anchor's centre, in strides (0 in all published models).

    Shape: (height*width*A, 4)
    """
    x = torch.arange(width, dtype=torch.float32, device=cells.device) * stride + offset * stride
    y = torch.arange(height, dtype=torch.float32, device=cells.device) * stride + offset * stride
    y, x = torch.meshgrid(y, x, indexing="ij")
    shifts = torch.stack((x, y, x, y), dim=-1).view(-1, 1, 4)
    return (shifts + cells).view(-1, 4)


def encode(anchors: Tensor, targets: Tensor, weights: Sequence[float]) -> Tensor:
    """The deltas (dx, dy, dw, dh), (N,4), that turn ``anchors`` into ``targets``."""
    sides = anchors[:, 2:] - anchors[:, :2]
    target_sides = targets[:, 2:] - targets[:, :2]
    centres = anchors[:, :2] + 0.5 * sides
    target_centres = targets[:, :2] + 0.5 * target_sides
    deltas = torch.cat(((target_centres - centres) / sides, torch.log(target_sides / sides)), 1)
    return deltas * torch.tensor(tuple(weights), dtype=deltas.dtype, device=deltas.device)


def decode(anchors: Tensor, deltas: Tensor, weights: Sequence[float]) -> Tensor:
    """Boxes from anchors (...,4) and deltas (...,4) of one shape; always float32."""
    scale = torch.tensor(tuple(weights), dtype=torch.float32, device=deltas.device)
    deltas = deltas.float() / scale
    sides = anchors[..., 2:] - anchors[..., :2]
    centres = anchors[..., :2] + 0.5 * sides
    centres = deltas[..., :2] * sides + centres
    half = 0.5 * torch.exp(deltas[..., 2:].clamp(max=MAX_LOG_GROWTH)) * sides
    return torch.cat((centres - half, centres + half), dim=-1)


def match(
    truth: Tensor, candidates: Tensor, low: float, high: float, rescue: bool
) -> tuple[Tensor, Tensor]:
    """Which true box each candidate belongs to.

    Args:
        truth: (G,4), candidates: (N,4).
        low, high: IoU below ``low`` is background, from ``high`` on foreground, ignored between.
        rescue: give every true box at least its best candidates, however small their IoU.

    Returns:
        indices (N,) into ``truth`` and labels (N,) int8: 1 foreground, 0 background, -1 ignored.
    """
    count = len(candidates)
    if len(truth) == 0:
        zeros = torch.zeros(count, dtype=torch.int64, device=candidates.device)
        return zeros, zeros.to(torch.int8)
    overlaps = box_math.iou(truth, candidates)  # (G,N)
    best, indices = overlaps.max(dim=0)
    labels = torch.full((count,), -1, dtype=torch.int8, device=candidates.device)
    labels[best < low] = 0
    labels[best >= high] = 1
    if rescue:
        best_of_truth = overlaps.max(dim=1, keepdim=True).values
        labels[((overlaps == best_of_truth) & (best_of_truth > 0)).any(dim=0)] = 1
    return indices, labels


def sample(labels: Tensor, count: int, positive_fraction: float) -> tuple[Tensor, Tensor]:
    """A random subset: indices of foreground (at most the fraction) and of background."""
    positive = torch.nonzero(labels == 1).squeeze(1)
    negative = torch.nonzero(labels == 0).squeeze(1)
    num_positive = min(len(positive), int(count * positive_fraction))
    num_negative = min(len(negative), count - num_positive)
    chosen_positive = torch.randperm(len(positive), device=labels.device)[:num_positive]
    chosen_negative = torch.randperm(len(negative), device=labels.device)[:num_negative]
    return positive[chosen_positive], negative[chosen_negative]
