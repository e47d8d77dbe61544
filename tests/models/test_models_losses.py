"""Losses: by hand, against MMAction2's published rule, and without rows.

``goldens/mmaction2_losses.npz`` holds values and gradients of ``BBoxHeadAVA.loss_and_target`` of
open-mmlab/mmaction2 4d6c9347 on drawn numbers; column 0 is the background, which it drops.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from avadet.models.losses import LOSSES, bce_loss, cross_entropy_loss, focal_loss

GOLDEN = Path(__file__).parent / "goldens" / "mmaction2_losses.npz"


def golden_rows() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and labels of the golden without the background."""
    with np.load(GOLDEN) as file:
        return torch.from_numpy(file["logits"][:, 1:]), torch.from_numpy(file["labels"][:, 1:])


def single_label(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """MMAction2's: labels of a row share one probability, rows without any are left out."""
    keep = labels.sum(1) > 0
    shares = labels[keep] / labels[keep].sum(1, keepdim=True)
    return cross_entropy_loss(logits[keep], shares)


@pytest.mark.parametrize(
    ("case", "loss"),
    [
        ("bce", partial(bce_loss, skip_unlabelled=True)),
        ("focal_a3_g1", partial(focal_loss, alpha=3, gamma=1, skip_unlabelled=True)),
        ("focal_a1_g2", partial(focal_loss, alpha=1, gamma=2, skip_unlabelled=True)),
        ("single_label", single_label),
    ],
)
def test_values_and_gradients_of_mmaction2(
    case: str, loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> None:
    logits, labels = golden_rows()
    logits.requires_grad_()
    value = loss(logits, labels)
    value.backward()
    with np.load(GOLDEN) as file:
        assert value.item() == pytest.approx(float(file[f"loss/{case}"]), rel=1e-5)
        expected = file[f"grad/{case}"]
    assert np.abs(expected[:, 0]).max() == 0
    np.testing.assert_allclose(logits.grad, expected[:, 1:], rtol=1e-4, atol=1e-7)


def test_rows_without_labels_count_unless_skipped() -> None:
    logits = torch.zeros(2, 1)
    labels = torch.tensor([[1.0], [0.0]])
    assert bce_loss(logits, labels).item() == pytest.approx(math.log(2))
    logits[1] = 100.0
    assert bce_loss(logits, labels).item() == pytest.approx((math.log(2) + 100) / 2)
    assert bce_loss(logits, labels, skip_unlabelled=True).item() == pytest.approx(math.log(2))


def test_focal_without_focus_is_bce() -> None:
    logits, labels = golden_rows()
    torch.testing.assert_close(focal_loss(logits, labels, gamma=0), bce_loss(logits, labels))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_gradient_is_finite_for_extreme_logits(gamma: float) -> None:
    logits = torch.tensor([[1e4, -1e4, 30.0, 0.0]], requires_grad=True)
    loss = focal_loss(logits, torch.tensor([[1.0, 0.0, 0.0, 1.0]]), gamma=gamma)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", ["bce", "focal", "cross_entropy"])
def test_no_rows_give_zero_with_a_gradient(name: str) -> None:
    logits = torch.zeros(0, 5, requires_grad=True)
    loss = LOSSES.get(name)(logits, torch.zeros(0, 5))
    assert loss.item() == 0
    loss.backward()
    assert logits.grad is not None


def test_all_rows_skipped_is_no_rows() -> None:
    logits = torch.randn(3, 4, requires_grad=True)
    for loss in (bce_loss, focal_loss):
        value = loss(logits, torch.zeros(3, 4), skip_unlabelled=True)
        assert value.item() == 0
        value.backward()
    assert logits.grad.abs().max() == 0


def test_losses_are_float32_for_half_precision_logits() -> None:
    logits = torch.randn(2, 3, dtype=torch.bfloat16)
    for name in LOSSES.names():
        assert LOSSES.get(name)(logits, torch.ones(2, 3)).dtype == torch.float32


def test_cross_entropy_takes_indices_or_probabilities() -> None:
    logits = torch.randn(3, 4)
    index = torch.tensor([0, 3, 1])
    one_hot = torch.nn.functional.one_hot(index, 4)
    torch.testing.assert_close(
        cross_entropy_loss(logits, index), cross_entropy_loss(logits, one_hot)
    )


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="labels"):
        bce_loss(torch.zeros(2, 3), torch.zeros(2, 4))
