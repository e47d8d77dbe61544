"""Arithmetic of boxes: (N,4) xyxy, numpy arrays or torch tensors alike, continuous coordinates."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch

Boxes = TypeVar("Boxes", np.ndarray, torch.Tensor)


def _like(boxes: Boxes, values: tuple[float, float, float, float]) -> Boxes:
    if isinstance(boxes, torch.Tensor):
        return torch.tensor(values, dtype=boxes.dtype, device=boxes.device)
    return np.asarray(values, dtype=boxes.dtype)


def scale(boxes: Boxes, x: float, y: float) -> Boxes:
    """Boxes with x coordinates times ``x`` and y coordinates times ``y``."""
    return boxes * _like(boxes, (x, y, x, y))


def shift(boxes: Boxes, x: float, y: float) -> Boxes:
    """Boxes moved by (``x``, ``y``)."""
    return boxes + _like(boxes, (x, y, x, y))


def norm_to_px(boxes_norm: Boxes, height: int, width: int) -> Boxes:
    """[0,1] to pixels of a frame of ``height`` x ``width``."""
    return scale(boxes_norm, float(width), float(height))


def px_to_norm(boxes_px: Boxes, height: int, width: int) -> Boxes:
    """Pixels of a frame of ``height`` x ``width`` to [0,1]."""
    return scale(boxes_px, 1.0 / width, 1.0 / height)


def clip(boxes: Boxes, height: float, width: float) -> Boxes:
    """Boxes cut to ``[0,width] x [0,height]``; (1, 1) for normalised ones."""
    upper = _like(boxes, (width, height, width, height))
    return _clip(boxes, upper)


def _clip(boxes: Any, upper: Any) -> Any:
    if isinstance(boxes, torch.Tensor):
        return torch.minimum(boxes.clamp(min=0), upper)
    return np.minimum(np.maximum(boxes, 0), upper)


def flip(boxes: Boxes, width: float) -> Boxes:
    """Mirror images about the vertical axis of a frame of ``width``: x' = width - x."""
    flipped: Any = boxes[:, [2, 1, 0, 3]]
    return flipped * _like(boxes, (-1, 1, -1, 1)) + _like(boxes, (width, 0, width, 0))


def area(boxes: Boxes) -> Boxes:
    """(N,) areas; inverted boxes have area 0."""
    if isinstance(boxes, torch.Tensor):
        return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)
    return np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(1)


def iou(a: Boxes, b: Boxes) -> Boxes:
    """(N,M) intersection over union of every pair; 0 where both are empty."""
    if isinstance(a, torch.Tensor):
        top_left = torch.maximum(a[:, None, :2], b[None, :, :2])
        bottom_right = torch.minimum(a[:, None, 2:], b[None, :, 2:])
        inner = (bottom_right - top_left).clamp(min=0).prod(2)
        union = area(a)[:, None] + area(b)[None] - inner
        return torch.where(union > 0, inner / union.clamp(min=1e-12), torch.zeros_like(inner))
    return _iou_numpy(a, b)


def _iou_numpy(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inner = np.maximum(bottom_right - top_left, 0).prod(2)
    union = area(a)[:, None] + area(b)[None] - inner
    return np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)
