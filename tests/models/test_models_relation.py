"""The actor-context relation head by hand and by what must and must not matter to it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from avadet.models.heads import HEADS
from avadet.models.relation import ActorRelationHead


def test_it_is_registered() -> None:
    assert HEADS.get("acrn") is ActorRelationHead


def test_one_channel_by_hand() -> None:
    head = ActorRelationHead(1, 1, resolution=1, stride=16, convolutions=0, dropout=0).eval()
    # The 1x1 convolution gives 2 x person - scene + nothing from its norm, but for the eps.
    nn.init.constant_(head.relation[0].conv.weight[:, 0], 2.0)
    nn.init.constant_(head.relation[0].conv.weight[:, 1], -1.0)
    nn.init.ones_(head.projection.weight)
    scene = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])  # (1,1,2,2), pooled over one frame
    box = [torch.tensor([[16.0, 0.0, 32.0, 16.0]])]  # the cell of 2
    answer = head((scene.unsqueeze(2),), box)
    assert answer.item() == pytest.approx(2 * 2.0 - 1.0, abs=1e-3)


def test_persons_see_their_own_scene_only() -> None:
    head = ActorRelationHead((4, 2), 3, resolution=2, dropout=0).eval()
    nn.init.normal_(head.projection.weight)
    maps = (torch.randn(2, 4, 3, 5, 6), torch.randn(2, 2, 6, 5, 6))
    boxes = [torch.tensor([[0.0, 0.0, 48.0, 48.0]]), torch.tensor([[8.0, 8.0, 80.0, 60.0]])]
    both = head(maps, boxes)
    alone = head(tuple(each[1:] for each in maps), boxes[1:])
    torch.testing.assert_close(both[1:], alone)
    # The far corner matters, though the box of the first person does not touch it.
    changed = tuple(each.clone() for each in maps)
    changed[0][0, :, :, 4, 5] += 50
    assert not torch.allclose(head(changed, boxes)[0], both[0])
    torch.testing.assert_close(head(changed, boxes)[1], both[1])


def test_no_boxes() -> None:
    head = ActorRelationHead(4, 3).eval()
    assert head((torch.randn(2, 4, 3, 5, 6),), [torch.empty(0, 4)] * 2).shape == (0, 3)


def test_maps_of_two_strides_are_refused() -> None:
    with pytest.raises(ValueError, match="one stride"):
        ActorRelationHead((4, 2), 3, stride=(16, 8))
