"""Losses on logits: multi-label with or without focusing, and single-label.

All take ``logits`` (N,K) and give a float32 scalar; with no rows it is 0 and still has a gradient.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from avadet.registry import Registry

LOSSES = Registry("loss")


def _select(logits: Tensor, labels: Tensor, skip_unlabelled: bool) -> tuple[Tensor, Tensor]:
    logits = logits.float()
    labels = labels.to(logits)
    if logits.shape != labels.shape:
        raise ValueError(f"logits {tuple(logits.shape)} but labels {tuple(labels.shape)}")
    if skip_unlabelled:
        keep = (labels > 0).any(1)
        logits, labels = logits[keep], labels[keep]
    return logits, labels


def bce_loss(logits: Tensor, labels: Tensor, *, skip_unlabelled: bool = False) -> Tensor:
    """Binary cross entropy, mean over boxes and classes.

    Args:
        logits: (N,K).
        labels: (N,K) of 0 and 1.
        skip_unlabelled: leave out boxes without any positive (MMAction2 does, PySlowFast learns
            from them as negatives).
    """
    logits, labels = _select(logits, labels, skip_unlabelled)
    if logits.numel() == 0:
        return logits.sum()
    return F.binary_cross_entropy_with_logits(logits, labels)


def focal_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    alpha: float = 1.0,
    gamma: float = 1.0,
    skip_unlabelled: bool = False,
) -> Tensor:
    """Binary cross entropy b of each entry weighted by alpha * (1 - exp(-b))^gamma.

    exp(-b) is the probability given to the right answer (Lin et al., ICCV 2017, equation 4).
    MMAction2's AVA recipe has alpha 3, gamma 1.

    Args:
        logits: (N,K).
        labels: (N,K) of 0 and 1.
        alpha, gamma: weight and focus; alpha 1 and gamma 0 are plain BCE.
        skip_unlabelled: as in ``bce_loss``.
    """
    logits, labels = _select(logits, labels, skip_unlabelled)
    if logits.numel() == 0:
        return logits.sum()
    entry = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    # 1 - exp(-b) without cancellation; the power's slope is infinite at 0 for gamma < 1.
    wrong = -torch.expm1(-entry)
    if gamma < 1:
        wrong = wrong.clamp(min=1e-12)
    return (alpha * wrong**gamma * entry).mean()


def cross_entropy_loss(logits: Tensor, labels: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Softmax cross entropy, mean over clips.

    Args:
        logits: (N,K).
        labels: (N,) class indices, or (N,K) probabilities.
        label_smoothing: share given to all classes alike.
    """
    logits = logits.float()
    if logits.numel() == 0:
        return logits.sum()
    if labels.ndim == 2:
        labels = labels.to(logits)
    return F.cross_entropy(logits, labels, label_smoothing=label_smoothing)


LOSSES.add("bce", bce_loss)
LOSSES.add("focal", focal_loss)
LOSSES.add("cross_entropy", cross_entropy_loss)
