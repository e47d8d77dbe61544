"""Mixup and CutMix: pixels and labels in the same shares."""

from __future__ import annotations

import pytest
import torch

from avadet.engine.mixing import Mixing
from avadet.models.losses import cross_entropy_loss


def flat(values: list[float], side: int = 16) -> torch.Tensor:
    return torch.tensor(values)[:, None, None, None, None].expand(-1, 3, 2, side, side).clone()


def test_mixup_blends_pixels_and_labels_alike():
    torch.manual_seed(0)
    video, labels = Mixing(4, mixup=0.8)(flat([0.0, 1.0]), torch.tensor([2, 3]))
    share = float(video[0].mean())
    assert 0 < share < 1
    assert torch.allclose(video[0], torch.full_like(video[0], share))
    assert torch.allclose(video[1], torch.full_like(video[1], 1 - share))
    want = torch.tensor([[0, 0, 1 - share, share], [0, 0, share, 1 - share]])
    assert torch.allclose(labels, want, atol=1e-6)


def test_cutmix_shares_are_those_of_the_area():
    seen = set()
    for seed in range(20):
        torch.manual_seed(seed)
        before = flat([0.0, 1.0])
        video, labels = Mixing(2, cutmix=1.0)(before, torch.tensor([0, 1]))
        assert set(video.unique().tolist()) <= {0.0, 1.0}
        share = float(video[0].mean())
        assert torch.allclose(labels, torch.tensor([[1 - share, share], [share, 1 - share]]))
        assert before[0].max() == 0
        seen.add(round(share, 3))
    assert len(seen) > 5


def test_the_loops_random_state_decides():
    mixing = Mixing(2, mixup=0.8, cutmix=1.0)
    torch.manual_seed(3)
    first = mixing(flat([0.0, 1.0]), torch.tensor([0, 1]))
    torch.manual_seed(3)
    again = mixing(flat([0.0, 1.0]), torch.tensor([0, 1]))
    assert first[0].equal(again[0])
    assert first[1].equal(again[1])
    kinds = set()
    for seed in range(20):
        torch.manual_seed(seed)
        video, _ = mixing(flat([0.0, 1.0]), torch.tensor([0, 1]))
        kinds.add(len(video[0].unique()) > 1)
    assert kinds == {True, False}


def test_left_alone():
    video, labels = Mixing(3, mixup=0.8, probability=0.0)(flat([0.0, 1.0]), torch.tensor([0, 2]))
    assert video.equal(flat([0.0, 1.0]))
    assert labels.tolist() == [[1, 0, 0], [0, 0, 1]]
    given = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    _, mixed = Mixing(2, mixup=1.0)(flat([0.0, 1.0]), given)
    assert torch.allclose(mixed.sum(0), given.sum(0))


def test_soft_labels_with_smoothing_by_hand():
    logits = torch.tensor([[2.0, 0.0, -1.0]])
    soft = torch.tensor([[0.7, 0.3, 0.0]])
    smoothed = 0.9 * soft + 0.1 / 3
    want = -(smoothed * logits.log_softmax(1)).sum()
    got = cross_entropy_loss(logits, soft, label_smoothing=0.1)
    assert float(got) == pytest.approx(float(want), abs=1e-6)
