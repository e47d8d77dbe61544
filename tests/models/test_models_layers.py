"""Frame choice, norms and their freezing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from avadet.models.backbones import BACKBONES
from avadet.models.layers import (
    ConvSpec,
    FrozenBatchNorm3d,
    freeze_norms,
    plain_conv,
    pool_frames,
    slow_frames,
    sync_norms,
    take_frames,
)


def test_linspace_is_truncated_as_in_the_public_weights() -> None:
    assert slow_frames(32, 4) == [0, 4, 8, 13, 17, 22, 26, 31]
    # PySlowFast's pathway_frame_indices of the 64-frame golden.
    expected = [0, 4, 8, 12, 16, 21, 25, 29, 33, 37, 42, 46, 50, 54, 58, 63]
    assert slow_frames(64, 4) == expected


def test_stride_takes_every_alpha_th_frame() -> None:
    assert slow_frames(32, 8, "stride") == [0, 8, 16, 24]
    assert slow_frames(10, 4, "stride") == [0, 4]


def test_frame_choice_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="too few"):
        slow_frames(4, 8)
    with pytest.raises(ValueError, match="linspace"):
        slow_frames(32, 4, "nearest")


def test_take_frames_of_a_counting_clip() -> None:
    video = torch.arange(32.0).view(1, 1, 32, 1, 1)
    assert take_frames(video, 4).flatten().tolist() == slow_frames(32, 4)
    assert take_frames(video, 1) is video


def test_padding_keeps_sizes_with_dilation() -> None:
    conv = plain_conv(ConvSpec(2, 2, (3, 3, 3), dilation=2))
    assert conv(torch.zeros(1, 2, 4, 9, 7)).shape == (1, 2, 4, 9, 7)


def test_frozen_norms_neither_move_nor_learn_and_keep_their_keys() -> None:
    model = BACKBONES.get("slow_tiny")(alpha=1)
    keys = list(model.state_dict())
    model(torch.randn(2, 3, 4, 32, 32))  # running statistics that are not 0 and 1
    before = {key: value.clone() for key, value in model.state_dict().items()}
    count = freeze_norms(model)
    assert count == sum(key.endswith("running_mean") for key in keys)
    assert list(model.state_dict()) == keys
    model.train()
    model(torch.randn(2, 3, 4, 32, 32))[0].sum().backward()
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key
    for module in model.modules():
        if isinstance(module, FrozenBatchNorm3d):
            assert not module.training
            assert module.weight.grad is None
    assert model.stem.conv.weight.grad is not None


def test_frozen_network_answers_like_the_evaluated_one() -> None:
    torch.manual_seed(1)
    model = BACKBONES.get("ir_csn_tiny")()
    clip = torch.randn(1, 3, 8, 32, 32)
    expected = model.eval()(clip)[0]
    freeze_norms(model)
    model.train()
    assert torch.equal(model(clip)[0], expected)


def test_sync_norms_converts_all_but_frozen_ones() -> None:
    model = nn.Sequential(nn.BatchNorm3d(2), FrozenBatchNorm3d(2), nn.Conv3d(2, 2, 1))
    sync_norms(model)
    assert isinstance(model[0], nn.SyncBatchNorm)
    assert isinstance(model[1], FrozenBatchNorm3d)
    assert isinstance(sync_norms(nn.BatchNorm3d(3)), nn.SyncBatchNorm)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["avg", "max"])
def test_frames_are_pooled_alike_in_both_memory_formats(kind: str, dtype: torch.dtype) -> None:
    x = torch.randn(2, 6, 4, 3, 5).to(dtype)
    expected = x.float().mean(2) if kind == "avg" else x.float().amax(2)
    for video in (x, x.contiguous(memory_format=torch.channels_last_3d), x[:, :3]):
        found = pool_frames(video, kind)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected[:, : video.shape[1]])
