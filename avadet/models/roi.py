"""RoIAlign on the pooled maps of a video backbone."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.amp import is_autocast_available


@dataclass(frozen=True)
class PackedBoxes:
    """The boxes of a batch as one tensor, whose length may be padded so that it seldom changes.

    Heads take it in place of the list; the results of padded rows come last and are dropped.
    Making and using it never waits for a GPU: lengths are known to the host.

    Attributes:
        rows: (N',5) float32: number of the clip, xyxy in pixels; from row ``count`` on zeros.
        count: boxes.
        clips: B.
    """

    rows: Tensor
    count: int
    clips: int

    @classmethod
    def pack(cls, boxes: Sequence[Tensor], bucket: int = 1) -> PackedBoxes:
        """From B tensors (N_i,4) on one device; N' is the next multiple of ``bucket``."""
        count = sum(map(len, boxes))
        rows = [F.pad(each.float(), (1, 0), value=float(k)) for k, each in enumerate(boxes)]
        packed = torch.cat(rows) if rows else torch.zeros(0, 5)
        missing = max(-(-count // bucket), 1) * bucket - count if bucket > 1 else 0
        return cls(F.pad(packed, (0, 0, 0, missing)), count, len(boxes))

    def __len__(self) -> int:
        """B, as that of the list."""
        return self.clips


Boxes = Sequence[Tensor] | PackedBoxes


def align_regions(
    x: Tensor, boxes: Boxes, *, stride: float, resolution: int, aligned: bool
) -> Tensor:
    """Features of every box, bilinear samples averaged per cell (as many as the cell's size asks).

    Computed in float32 even under autocast: in bfloat16 box coordinates are wrong by whole pixels.

    Args:
        x: (B,C,H,W).
        boxes: B tensors (N_i,4), xyxy in pixels of the clip; N_i may be 0; or packed.
        stride: pixels per cell of ``x``.
        resolution: cells per side of the result.
        aligned: True shifts by half a cell, so that a pixel's centre is at +0.5 (Detectron2's
            ``ROIAlignV2``); False for weights trained without.

    Raises:
        ValueError: the number of box tensors is not B.

    Shape: -> (sum N_i, C, resolution, resolution) float32.
    """
    # Where it is used: torchvision brings the compiler's modules, 170 MB and seconds at start-up.
    from torchvision.ops import roi_align

    if len(boxes) != len(x):
        raise ValueError(f"{len(x)} clips but boxes for {len(boxes)}")
    packed = boxes if isinstance(boxes, PackedBoxes) else PackedBoxes.pack(boxes)
    kind = x.device.type
    plain = torch.autocast(kind, enabled=False) if is_autocast_available(kind) else nullcontext()
    with plain:
        return roi_align(
            x.float(),
            packed.rows.to(x.device),
            output_size=resolution,
            spatial_scale=1.0 / stride,
            sampling_ratio=0,
            aligned=aligned,
        )


def extend_all(boxes: Boxes, parts: Sequence[float], height: float, width: float) -> Boxes:
    """``extend_boxes`` of every clip's boxes."""
    if isinstance(boxes, PackedBoxes):
        wide = extend_boxes(boxes.rows[:, 1:], parts, height, width)
        return replace(boxes, rows=torch.cat([boxes.rows[:, :1], wide], 1))
    return [extend_boxes(own, parts, height, width) for own in boxes]


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


def batch_index(boxes: Boxes, device: torch.device) -> Tensor:
    """(sum N_i,) int64: the clip that each box belongs to."""
    packed = boxes if isinstance(boxes, PackedBoxes) else PackedBoxes.pack(boxes)
    return packed.rows[:, 0].to(device, torch.int64)
