"""The second stage: what is in each proposal, and where exactly? (Fast R-CNN.)"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avadet import boxes as box_math
from avadet.persons.box_coding import decode, encode, match, sample


def assign_levels(
    boxes: Tensor, first: int, last: int, canonical_size: float = 224.0, canonical_level: int = 4
) -> Tensor:
    """The pyramid level of each box, (N,) int64 (Feature Pyramid Networks, equation 1)."""
    side = torch.sqrt(box_math.area(boxes))
    level = torch.floor(canonical_level + torch.log2(side / canonical_size + 1e-8))
    return level.clamp(min=first, max=last).to(torch.int64)


def pool(
    maps: dict[int, Tensor],
    strides: dict[int, int],
    boxes: Sequence[Tensor],
    resolution: int,
    canonical_size: float = 224.0,
    canonical_level: int = 4,
) -> Tensor:
    """Aligned RoIAlign with adaptive sampling, each box from its level, in float32.

    Shape: maps {level: (B,C,H,W)}, boxes B x (N_i,4) px -> (sum N_i, C, resolution, resolution)
    """
    from torchvision.ops import roi_align  # late, as in avadet/models/roi.py

    image = torch.cat([torch.full_like(b[:, :1], i) for i, b in enumerate(boxes)])
    rois = torch.cat((image, torch.cat(list(boxes))), dim=1)
    levels = sorted(maps)

    def align(level: int, subset: Tensor) -> Tensor:
        return roi_align(
            maps[level].float(),
            subset,
            resolution,
            spatial_scale=1.0 / strides[level],
            sampling_ratio=0,
            aligned=True,
        )

    if len(levels) == 1:
        return align(levels[0], rois)
    level_of = assign_levels(rois[:, 1:], levels[0], levels[-1], canonical_size, canonical_level)
    channels = maps[levels[0]].shape[1]
    pooled = rois.new_zeros((len(rois), channels, resolution, resolution))
    for level in levels:
        index = torch.nonzero(level_of == level).squeeze(1)
        if len(index):
            pooled.index_copy_(0, index, align(level, rois[index]))
    return pooled


class FullyConnectedTrunk(nn.Module):
    """Two hidden layers on the flattened crop (FPN and DC5 models)."""

    def __init__(self, in_channels: int, resolution: int, hidden: int = 1024) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_channels * resolution**2, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.out_features = hidden
        for layer in (self.fc1, self.fc2):
            nn.init.kaiming_uniform_(layer.weight, a=1)
            nn.init.zeros_(layer.bias)

    def forward(self, crops: Tensor) -> Tensor:
        return F.relu(self.fc2(F.relu(self.fc1(crops.flatten(1)))))


class StageTrunk(nn.Module):
    """ResNet's res5 applied to each crop, then averaged (C4 models)."""

    def __init__(self, res5: nn.Sequential, out_features: int) -> None:
        super().__init__()
        self.res5 = res5
        self.out_features = out_features

    def forward(self, crops: Tensor) -> Tensor:
        return self.res5(crops).mean(dim=(2, 3))


class BoxHead(nn.Module):
    """Classifies proposals and moves their sides.

    Args:
        trunk: (R,C,S,S) -> (R,F), with ``out_features``.
        num_classes: foreground classes; the background is the last logit.
        resolution: side S of the crops.
        strides: {level: pixels per cell} of the maps to pool from.
        canonical_size, canonical_level: see :func:`assign_levels`.
        delta_weights: divisors of the predicted deltas.
        nms_threshold: IoU above which the weaker of two boxes of one class goes.
        top: boxes kept per picture, over all classes.
        batch_per_image, positive_fraction, match_threshold: proposals that enter the loss.
    """

    def __init__(
        self,
        trunk: nn.Module,
        *,
        num_classes: int,
        resolution: int,
        strides: dict[int, int],
        canonical_size: float = 224.0,
        canonical_level: int = 4,
        delta_weights: Sequence[float] = (10.0, 10.0, 5.0, 5.0),
        nms_threshold: float = 0.5,
        top: int = 100,
        batch_per_image: int = 512,
        positive_fraction: float = 0.25,
        match_threshold: float = 0.5,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.num_classes = num_classes
        self.resolution = resolution
        self.strides = dict(strides)
        self.canonical_size, self.canonical_level = canonical_size, canonical_level
        self.delta_weights = tuple(delta_weights)
        self.nms_threshold, self.top = nms_threshold, top
        self.batch_per_image = batch_per_image
        self.positive_fraction = positive_fraction
        self.match_threshold = match_threshold
        self.classifier = nn.Linear(trunk.out_features, num_classes + 1)
        self.deltas = nn.Linear(trunk.out_features, num_classes * 4)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.normal_(self.deltas.weight, std=0.001)
        nn.init.zeros_(self.classifier.bias)
        nn.init.zeros_(self.deltas.bias)

    def forward(self, maps: dict[int, Tensor], boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits (R, num_classes+1) and deltas (R, num_classes, 4), float32."""
        crops = pool(
            {level: maps[level] for level in self.strides},
            self.strides,
            boxes,
            self.resolution,
            self.canonical_size,
            self.canonical_level,
        )
        hidden = self.trunk(crops)
        deltas = self.deltas(hidden).float()
        return self.classifier(hidden).float(), deltas.view(len(deltas), self.num_classes, 4)

    def detect(
        self,
        maps: dict[int, Tensor],
        proposals: Sequence[Tensor],
        sizes: Sequence[tuple[int, int]],
        *,
        score_threshold: float,
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Per picture boxes (N,4) px, scores (N,), classes (N,), best first."""
        logits, deltas = self(maps, proposals)
        scores = logits.softmax(dim=1)[:, :-1]
        counts = [len(boxes) for boxes in proposals]
        results = []
        for boxes, image_scores, image_deltas, size in zip(
            proposals, scores.split(counts), deltas.split(counts), sizes
        ):
            moved = decode(
                boxes[:, None].expand(-1, image_deltas.shape[1], -1),
                image_deltas,
                self.delta_weights,
            )
            results.append(self._select(moved, image_scores, size, score_threshold))
        return results

    def _select(
        self, boxes: Tensor, scores: Tensor, size: tuple[int, int], score_threshold: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        from torchvision.ops import batched_nms

        finite = torch.isfinite(boxes).all(dim=(1, 2)) & torch.isfinite(scores).all(dim=1)
        boxes, scores = boxes[finite], scores[finite]
        flat = box_math.clip(boxes.reshape(-1, 4), *size).view_as(boxes)
        rows, classes = torch.nonzero(scores > score_threshold, as_tuple=True)
        boxes, scores = flat[rows, classes], scores[rows, classes]
        keep = batched_nms(boxes, scores, classes, self.nms_threshold)[: self.top]
        return boxes[keep], scores[keep], classes[keep]

    @torch.no_grad()
    def sample(
        self,
        proposals: Sequence[Tensor],
        truth: Sequence[Tensor],
        labels: Sequence[Tensor],
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """Proposals for the loss, with the true boxes among them.

        Returns:
            sampled boxes per picture, their classes (R,) (``num_classes`` is background) and the
            true boxes (R,4) that foreground ones belong to.
        """
        sampled, classes, targets = [], [], []
        for boxes, true_boxes, true_labels in zip(proposals, truth, labels):
            candidates = torch.cat((boxes, true_boxes))
            indices, found = match(
                true_boxes, candidates, self.match_threshold, self.match_threshold, rescue=False
            )
            positive, negative = sample(found, self.batch_per_image, self.positive_fraction)
            chosen = torch.cat((positive, negative))
            wanted = torch.full_like(chosen, self.num_classes)
            wanted[: len(positive)] = true_labels[indices[positive]]
            goal = candidates[chosen].clone()
            goal[: len(positive)] = true_boxes[indices[positive]]
            sampled.append(candidates[chosen])
            classes.append(wanted)
            targets.append(goal)
        return sampled, torch.cat(classes), torch.cat(targets)

    def losses(
        self,
        maps: dict[int, Tensor],
        proposals: Sequence[Tensor],
        truth: Sequence[Tensor],
        labels: Sequence[Tensor],
    ) -> dict[str, Tensor]:
        """Classification (cross-entropy) and regression (L1 over foreground, per proposal)."""
        sampled, classes, targets = self.sample(proposals, truth, labels)
        logits, deltas = self(maps, sampled)
        foreground = torch.nonzero(classes < self.num_classes).squeeze(1)
        boxes = torch.cat(sampled)
        regression = deltas.sum() * 0.0
        if len(foreground):
            wanted = encode(boxes[foreground], targets[foreground], self.delta_weights)
            predicted = deltas[foreground, classes[foreground]]
            regression = regression + F.l1_loss(predicted, wanted, reduction="sum")
        return {
            # A mean over no rows would be NaN; the sum of none keeps the graph and is 0.
            "box_class": F.cross_entropy(logits, classes) if len(classes) else logits.sum(),
            "box_box": regression / max(len(classes), 1),
        }
