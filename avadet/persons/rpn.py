"""The region proposal network: where might anything be? (Faster R-CNN, section 3.)"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avadet import boxes as box_math
from avadet.persons.box_coding import cell_anchors, decode, encode, grid_anchors, match, sample

DELTA_WEIGHTS = (1.0, 1.0, 1.0, 1.0)


class ProposalNetwork(nn.Module):
    """Scores anchors on every level and keeps the best after suppression.

    Args:
        in_channels: of every level's map.
        strides: pixels per cell, level by level.
        anchor_sizes: per level, the square roots of the anchors' areas in pixels.
        aspect_ratios: height/width, the same on all levels.
        anchor_offset: of the first anchor's centre, in strides.
        nms_threshold: IoU above which the weaker of two proposals of one level goes.
        top_before, top_after: proposals kept per level before, and per picture after suppression,
            while testing; ``train_top_before`` and ``train_top_after`` while training.
        batch_per_image, positive_fraction: anchors that enter the loss.
        match_low, match_high: IoU below which an anchor is background and from which a person.
    """

    def __init__(
        self,
        in_channels: int,
        strides: Sequence[int],
        *,
        anchor_sizes: Sequence[Sequence[float]],
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        anchor_offset: float = 0.0,
        nms_threshold: float = 0.7,
        top_before: int = 1000,
        top_after: int = 1000,
        train_top_before: int = 2000,
        train_top_after: int = 1000,
        batch_per_image: int = 256,
        positive_fraction: float = 0.5,
        match_low: float = 0.3,
        match_high: float = 0.7,
    ) -> None:
        super().__init__()
        if len(anchor_sizes) != len(strides):
            raise ValueError(f"{len(strides)} levels but anchor sizes for {len(anchor_sizes)}")
        counts = {len(sizes) * len(aspect_ratios) for sizes in anchor_sizes}
        if len(counts) != 1:
            raise ValueError("every level needs the same number of anchor sizes")
        self.strides = tuple(strides)
        self.anchor_offset = anchor_offset
        self.nms_threshold = nms_threshold
        self.top_before = {True: train_top_before, False: top_before}
        self.top_after = {True: train_top_after, False: top_after}
        self.batch_per_image = batch_per_image
        self.positive_fraction = positive_fraction
        self.match_low, self.match_high = match_low, match_high
        for level, sizes in enumerate(anchor_sizes):
            cells = cell_anchors(sizes, aspect_ratios)
            self.register_buffer(f"cells{level}", cells, persistent=False)
        per_cell = counts.pop()
        self.conv = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.objectness = nn.Conv2d(in_channels, per_cell, 1)
        self.deltas = nn.Conv2d(in_channels, per_cell * 4, 1)
        for conv in (self.conv, self.objectness, self.deltas):
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Per level: logits (B,R), deltas (B,R,4) and anchors (R,4), R = H*W*A; all float32."""
        logits, deltas, anchors = [], [], []
        for level, (x, stride) in enumerate(zip(maps, self.strides)):
            hidden = F.relu(self.conv(x), inplace=True)
            logits.append(self.objectness(hidden).permute(0, 2, 3, 1).flatten(1).float())
            # (B,A*4,H,W) -> (B,H,W,A,4) -> (B,R,4)
            raw = self.deltas(hidden).permute(0, 2, 3, 1)
            deltas.append(raw.reshape(len(raw), -1, 4).float())
            height, width = x.shape[-2:]
            cells = getattr(self, f"cells{level}")
            anchors.append(grid_anchors(cells, height, width, stride, self.anchor_offset))
        return logits, deltas, anchors

    @torch.no_grad()
    def select(
        self,
        logits: list[Tensor],
        deltas: list[Tensor],
        anchors: list[Tensor],
        sizes: Sequence[tuple[int, int]],
    ) -> list[tuple[Tensor, Tensor]]:
        """The best proposals of each picture: boxes (N,4) px and logits (N,), best first.

        Raises:
            FloatingPointError: while training, when boxes or logits are not finite.
        """
        from torchvision.ops import batched_nms  # late, as in avadet/models/roi.py

        kept_boxes, kept_logits, levels = [], [], []
        for level, (level_logits, level_deltas, level_anchors) in enumerate(
            zip(logits, deltas, anchors)
        ):
            count = min(level_logits.shape[1], self.top_before[self.training])
            top, index = level_logits.topk(count, dim=1)
            chosen = level_deltas.gather(1, index[..., None].expand(-1, -1, 4))
            kept_boxes.append(decode(level_anchors[index], chosen, DELTA_WEIGHTS))
            kept_logits.append(top)
            levels.append(torch.full((count,), level, device=top.device))
        boxes = torch.cat(kept_boxes, dim=1)
        scores = torch.cat(kept_logits, dim=1)
        level_of = torch.cat(levels)
        finite = torch.isfinite(boxes).all(dim=2) & torch.isfinite(scores)
        if self.training and not bool(finite.all()):
            raise FloatingPointError("proposals are not finite: the training has diverged")
        results = []
        for image, (height, width) in enumerate(sizes):
            clipped = box_math.clip(boxes[image], height, width)
            sides = clipped[:, 2:] - clipped[:, :2]
            usable = finite[image] & (sides > 0).all(dim=1)
            clipped, picked = clipped[usable], scores[image][usable]
            keep = batched_nms(clipped, picked, level_of[usable], self.nms_threshold)
            keep = keep[: self.top_after[self.training]]
            results.append((clipped[keep], picked[keep]))
        return results

    def losses(
        self,
        logits: list[Tensor],
        deltas: list[Tensor],
        anchors: list[Tensor],
        truth: Sequence[Tensor],
    ) -> dict[str, Tensor]:
        """Objectness (binary cross-entropy) and box regression (L1) over sampled anchors."""
        all_anchors = torch.cat(anchors)
        all_logits = torch.cat(logits, dim=1)
        all_deltas = torch.cat(deltas, dim=1)
        objectness = all_logits.sum() * 0.0
        regression = all_deltas.sum() * 0.0
        for image, boxes in enumerate(truth):
            indices, labels = match(
                boxes, all_anchors, self.match_low, self.match_high, rescue=True
            )
            positive, negative = sample(labels, self.batch_per_image, self.positive_fraction)
            chosen = torch.cat((positive, negative))
            wanted = torch.zeros(len(chosen), device=chosen.device)
            wanted[: len(positive)] = 1.0
            objectness = objectness + F.binary_cross_entropy_with_logits(
                all_logits[image, chosen], wanted, reduction="sum"
            )
            if len(positive):
                target = encode(all_anchors[positive], boxes[indices[positive]], DELTA_WEIGHTS)
                regression = regression + F.l1_loss(
                    all_deltas[image, positive], target, reduction="sum"
                )
        # Both are divided by the number of anchors asked for, so that pictures weigh alike.
        norm = self.batch_per_image * len(truth)
        return {"rpn_class": objectness / norm, "rpn_box": regression / norm}
