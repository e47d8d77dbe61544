"""Boxes as one padded tensor: the same answers, and nothing that waits for a device."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode

from avadet.models.action import ActionDetector
from avadet.models.backbones import BACKBONES
from avadet.models.heads import HEADS
from avadet.models.preprocess import Preprocessing, normalize
from avadet.models.roi import PackedBoxes, batch_index

HEAD_ARGS: list[tuple[str, dict[str, object]]] = [
    ("roi", {}),
    ("roi", {"context": True, "temporal_pool": "max", "mlp_hidden": 8}),
    ("roi", {"extend": (0.1, 0.2)}),
    ("acrn", {}),
]


def boxes(*counts: int, side: float = 64.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    found = []
    for count in counts:
        corner = torch.rand(count, 2, generator=generator) * side / 2
        size = 8 + torch.rand(count, 2, generator=generator) * side / 3
        found.append(torch.cat([corner, corner + size], 1))
    return found


def detector(head: str, args: dict[str, object]) -> ActionDetector:
    torch.manual_seed(0)
    backbone = BACKBONES.get("slowfast_tiny")()
    made = HEADS.get(head)(backbone.out_channels, 5, stride=backbone.strides, **args)
    return ActionDetector(backbone, made).eval()


def test_rows_by_hand() -> None:
    packed = PackedBoxes.pack([torch.tensor([[1.0, 2, 3, 4]]), torch.zeros(0, 4), boxes(1)[0]], 4)
    assert packed.rows.shape == (4, 5)
    assert packed.rows[0].tolist() == [0, 1, 2, 3, 4]
    assert packed.rows[1, 0] == 2
    assert not packed.rows[2:].any()
    assert (packed.count, len(packed)) == (2, 3)
    assert batch_index(packed, torch.device("cpu")).tolist() == [0, 2, 0, 0]


@pytest.mark.parametrize(
    ("counts", "bucket", "rows"),
    [((3, 2), 1, 5), ((3, 2), 4, 8), ((4, 4), 4, 8), ((0, 0), 4, 4), ((0,), 1, 0)],
)
def test_lengths(counts: tuple[int, ...], bucket: int, rows: int) -> None:
    packed = PackedBoxes.pack(boxes(*counts), bucket)
    assert packed.rows.shape == (rows, 5)
    assert packed.count == sum(counts)


@pytest.mark.parametrize(("head", "args"), HEAD_ARGS)
def test_padding_changes_neither_logits_nor_gradients(head: str, args: dict[str, object]) -> None:
    model = detector(head, args)
    video, lists = torch.randn(3, 3, 16, 64, 64), boxes(2, 0, 3)
    answers = []
    for given in (lists, PackedBoxes.pack(lists, 8)):
        model.zero_grad()
        logits = model(video, given)[:5]
        logits.square().sum().backward()
        answers.append((logits.detach(), [p.grad.clone() for p in model.parameters()]))
    torch.testing.assert_close(answers[1][0], answers[0][0], rtol=1e-5, atol=1e-6)
    for a, b in zip(answers[1][1], answers[0][1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("head", "args"), HEAD_ARGS)
def test_no_step_depends_on_values(head: str, args: dict[str, object]) -> None:
    """Tensors without values: whatever asks for one (``item``, ``nonzero``) is an error."""
    with FakeTensorMode():
        model = detector(head, args).train()
        video = torch.zeros(2, 3, 16, 64, 64, dtype=torch.uint8)
        packed = PackedBoxes.pack([torch.zeros(3, 4), torch.zeros(2, 4)], 8)
        clip = normalize(video, Preprocessing(16, 2, mean=(0.1, 0.2, 0.3)))
        logits = model(clip, packed)
        assert logits.shape == (8, 5)
        logits.sum().backward()
        with pytest.raises(Exception, match="_local_scalar_dense"):
            logits.sum().item()
