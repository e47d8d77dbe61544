"""Pixels to what networks expect."""

from __future__ import annotations

import pytest
import torch

from avadet.errors import UserError
from avadet.models.preprocess import Preprocessing, normalize

COLOURS = Preprocessing(8, 8, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.125))


def test_values_by_hand() -> None:
    video = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1, 1)
    expected = [(0 - 0.1) / 0.5, (0.2 - 0.2) / 0.25, (1 - 0.3) / 0.125]
    result = normalize(video, COLOURS)
    assert result.dtype == torch.float32
    assert result.flatten().tolist() == pytest.approx(expected, abs=1e-6)
    assert torch.equal(normalize(video[0], COLOURS), result[0])
    assert torch.equal(normalize(video.float(), COLOURS), result)


def test_bgr_reverses_channels_before_the_constants() -> None:
    video = torch.randint(0, 256, (2, 3, 4, 5, 6), dtype=torch.uint8)
    bgr = Preprocessing(8, 8, mean=COLOURS.mean, std=COLOURS.std, channel_order="bgr")
    assert torch.equal(normalize(video, bgr), normalize(video.flip(1), COLOURS))


def test_input_is_left_alone_and_layout_kept() -> None:
    video = torch.rand(1, 3, 4, 5, 6).mul(255).to(memory_format=torch.channels_last_3d)
    before = video.clone()
    result = normalize(video, COLOURS)
    assert torch.equal(video, before)
    assert result.is_contiguous(memory_format=torch.channels_last_3d)


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="B,3,T,H,W"):
        normalize(torch.zeros(2, 4, 3, 8, 8), COLOURS)


def test_plain_dict_and_back() -> None:
    assert Preprocessing.from_dict(COLOURS.to_dict()) == COLOURS
    assert COLOURS.to_dict()["mean"] == [0.1, 0.2, 0.3]


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"num_frames": 0, "frame_stride": 1}, "num_frames"),
        ({"num_frames": 8, "frame_stride": 1.5}, "frame_stride"),
        ({"num_frames": 8, "frame_stride": 2, "std": [1, 0, 1]}, "std"),
        ({"num_frames": 8, "frame_stride": 2, "mean": [0.5]}, "mean"),
        ({"num_frames": 8, "frame_stride": 2, "channel_order": "gbr"}, "channel_order"),
        ({"num_frames": 8, "frame_stride": 2, "fps": 0}, "fps"),
        ({"num_frames": 8, "frame_stride": 2, "fps": float("nan")}, "fps"),
        ({"num_frames": 8, "frame_stride": 2, "mean": "rgb"}, "preprocessing: could not convert"),
        ({"num_frames": 8, "frame_stride": 2, "std": (1, 1, float("nan"))}, "std"),
        (
            {"num_frames": 8, "frame_stride": 2, "mean": (10**400, 0, 0)},
            "preprocessing: int too large",
        ),
        ({"num_frames": 8, "frame_stride": 2, "size": 7}, "size"),
        ({"num_frames": 8}, "frame_stride"),
    ],
)
def test_bad_values_are_named(values: dict[str, object], word: str) -> None:
    with pytest.raises(UserError, match=word):
        Preprocessing.from_dict(values)
