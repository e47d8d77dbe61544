"""Mixup and CutMix: two clips of a batch become one, and so do their labels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Mixing:
    """Mixes every batch with itself in reverse order, as MViT's recipe does.

    One share is drawn for a batch, from the random state that the training loop seeds at every
    step, so that a resumed run mixes as it would have.

    Attributes:
        num_classes: K.
        mixup: alpha of the Beta distribution of the shares (Zhang et al. 2018); 0 turns it off.
        cutmix: alpha of the share of the area that is cut out (Yun et al. 2019); 0 turns it off.
        probability: of a batch to be mixed at all.
        switch: of CutMix, where both are on.
    """

    num_classes: int
    mixup: float = 0.0
    cutmix: float = 0.0
    probability: float = 1.0
    switch: float = 0.5

    def __call__(self, video: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mixed clips and their labels as shares.

        Args:
            video: (B,3,T,H,W).
            labels: (B,) class indices, or (B,K) shares.

        Shape: -> (B,3,T,H,W), (B,K) float32.
        """
        shares = F.one_hot(labels, self.num_classes) if labels.ndim == 1 else labels
        shares = shares.float()
        applied, which = torch.rand(2).tolist()
        if applied >= self.probability or not (self.mixup or self.cutmix):
            return video, shares
        cut = bool(self.cutmix) and (not self.mixup or which < self.switch)
        alpha = self.cutmix if cut else self.mixup
        kept = float(torch.distributions.Beta(alpha, alpha).sample())
        other = video.flip(0)
        if cut:
            top, left, bottom, right = _rectangle(kept, *video.shape[-2:])
            video = video.clone()
            video[..., top:bottom, left:right] = other[..., top:bottom, left:right]
            height, width = video.shape[-2:]
            kept = 1 - (bottom - top) * (right - left) / (height * width)
        else:
            video = kept * video + (1 - kept) * other
        return video, kept * shares + (1 - kept) * shares.flip(0)


def _rectangle(kept: float, height: int, width: int) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) of a part of 1 - ``kept`` of the area around a random point, cut
    off at the borders."""
    side = math.sqrt(1 - kept)
    tall, wide = int(height * side), int(width * side)
    y = int(torch.randint(0, height, ()))
    x = int(torch.randint(0, width, ()))
    return (
        max(y - tall // 2, 0),
        max(x - wide // 2, 0),
        min(y + tall // 2, height),
        min(x + wide // 2, width),
    )
