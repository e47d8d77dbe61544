"""Labelled clips: lists, training stretches, test views."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avadet.data.draws import Draw
from avadet.data.kinetics import ClassificationBatch, ClipDataset
from avadet.data.loader import build_loader
from avadet.data.transforms import TrainPolicy
from avadet.errors import UserError
from avadet.video.reader import VideoReader
from avadet.video.sampling import view_seconds


@pytest.fixture
def clips(small_ava, tmp_path):
    path = tmp_path / "clips.csv"
    path.write_text("a.mp4,walk\nb.mp4,run fast\n")
    return path


def make(small_ava, clips, **arguments) -> ClipDataset:
    values = {"classes": ["run fast", "walk"], "root": small_ava.folder, "num_frames": 8}
    return ClipDataset(clips, **{**values, "frame_stride": 4, **arguments})


def test_test_views(small_ava, clips):
    dataset = make(small_ava, clips, temporal_views=2, spatial_crops=3, test_short_side=36)
    assert len(dataset) == 12
    assert dataset.num_views == 6
    samples = [dataset[index] for index in range(6)]
    assert [sample.view for sample in samples] == list(range(6))
    assert {sample.label for sample in samples} == {1}
    assert dataset[6].label == 0
    with VideoReader(small_ava.folder / "a.mp4") as reader:
        for view in range(6):
            times = view_seconds(8.0, 8, 4, view // 3, 2)
            frames = reader.read(times, short_side=36).frames
            left = (0, 14, 28)[view % 3]
            expected = torch.from_numpy(frames[:, :, left : left + 36].copy())
            assert torch.equal(samples[view].video.permute(1, 2, 3, 0), expected)


def test_one_crop_is_cut_from_frames_scaled_as_in_training(small_ava, clips):
    dataset = make(
        small_ava, clips, temporal_views=1, spatial_crops=1, test_short_side=28, test_scale=36
    )
    with VideoReader(small_ava.folder / "a.mp4") as reader:
        frames = reader.read(view_seconds(8.0, 8, 4, 0, 1), short_side=36).frames
    expected = torch.from_numpy(frames[:, 4:32, 18:46].copy())
    assert torch.equal(dataset[0].video.permute(1, 2, 3, 0), expected)
    with pytest.raises(ValueError, match="does not fit in 20"):
        make(small_ava, clips, test_short_side=28, test_scale=20)


def test_training_stretches(small_ava, clips):
    dataset = make(small_ava, clips, train=True, policy=TrainPolicy((40, 48), crop=32))
    assert len(dataset) == 2
    first, again, other = dataset[Draw(0, 1)], dataset[Draw(0, 1)], dataset[Draw(0, 2)]
    assert first.video.shape == (3, 8, 32, 32)
    assert torch.equal(first.video, again.video)
    assert not torch.equal(first.video, other.video)
    batch = next(build_loader(dataset, 2, train=True).epoch(0))
    assert isinstance(batch, ClassificationBatch)
    assert batch.video.shape == (2, 3, 8, 32, 32)
    assert sorted(batch.labels.tolist()) == [0, 1]
    assert batch.to("cpu").labels.dtype == torch.int64
    cached = make(
        small_ava, clips, train=True, policy=TrainPolicy((72, 72), crop=32), cache_short_side=72
    )
    direct = make(small_ava, clips, train=True, policy=TrainPolicy((72, 72), crop=32))
    assert torch.equal(cached[0].video, direct[0].video)


def test_class_files(small_ava, clips, tmp_path):
    names = tmp_path / "classes.txt"
    names.write_text("run fast\nwalk\n")
    dataset = make(small_ava, clips, classes=names)
    assert dataset.num_classes == 2
    assert np.array_equal(dataset.label_pairs()[1], np.repeat([1, 0], 30))
    with pytest.raises(UserError, match=r"none\.txt: cannot be read"):
        make(small_ava, clips, classes=tmp_path / "none.txt")
    clips.write_text("gone.mp4,walk\n")
    with pytest.raises(UserError, match=r"gone\.mp4: there is no such movie"):
        make(small_ava, clips)[0]
