"""The AVA data set on two drawn movies: boxes, labels, clips, readers, errors."""

from __future__ import annotations

import logging
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from avadet.data.ava import AvaDataset
from avadet.data.draws import Draw
from avadet.data.label_map import LabelMap
from avadet.data.transforms import TestPolicy, TrainPolicy
from avadet.errors import UserError
from avadet.structures import Batch, Keyframe
from avadet.video.reader import VideoReader


def make(small, **arguments) -> AvaDataset:
    values = {"groundtruth": small.truth, **small.times, "policy": TestPolicy(72), **arguments}
    return AvaDataset(small.folder, **values)


def test_test_samples_with_ground_truth(small_ava):
    dataset = make(small_ava)
    assert len(dataset) == 10
    assert dataset.keyframes[0] == Keyframe("a", 2.0)
    sample = dataset[1]
    assert sample.keyframe == Keyframe("a", 3.0)
    assert sample.video.shape == (3, 32, 72, 128)
    assert sample.boxes_px.tolist()[0] == [32, 18, 64, 54]
    assert sample.boxes_norm.tolist()[0] == [0.25, 0.25, 0.5, 0.75]
    assert torch.nonzero(sample.labels).tolist() == [[0, 0], [0, 11], [1, 79]]
    assert sample.box_scores.tolist() == [1, 1]
    with VideoReader(small_ava.folder / "a.mp4") as reader:
        expected = reader.read(np.arange(90 - 32, 90 + 32, 2) / 30).frames
    assert np.array_equal(sample.video.permute(1, 2, 3, 0).numpy(), expected)


def test_edge_clips_repeat_frames(small_ava):
    first = make(small_ava, num_frames=64, frame_stride=4)[0].video
    assert (first[:, :2] == first[:, :1]).all()
    assert not torch.equal(first[:, 40], first[:, 20])
    window = make(small_ava, window=(1.8, 2.2))[0].video
    distinct = {frame.numpy().tobytes() for frame in window.unbind(1)}
    assert len(distinct) == 7


def test_test_samples_with_proposals(small_ava):
    dataset = make(small_ava, proposals=small_ava.found)
    sample = dataset[0]
    assert sample.labels is None
    assert sample.box_scores.tolist() == pytest.approx([0.97, 0.95, 0.85])
    assert len(make(small_ava, proposals=small_ava.found, score_threshold=0.96)[0].boxes_px) == 1
    alone = make(small_ava, groundtruth=None, proposals=small_ava.found)
    assert alone.keyframes == dataset.keyframes
    batch = Batch.collate([dataset[0], dataset[1]])
    assert batch.video.shape == (2, 3, 32, 72, 128)


def test_training_boxes_are_ground_truth_and_labelled_proposals(small_ava):
    dataset = make(small_ava, proposals=small_ava.found, train=True)
    sample = dataset[0]
    # Ground truth, the good proposal with its labels, the one that hits nobody; not the rest.
    assert np.allclose(
        sample.boxes_norm,
        [[0.25, 0.25, 0.5, 0.75], [0.25, 0.25, 0.502, 0.75], [0.7, 0.7, 0.9, 0.9]],
    )
    assert torch.nonzero(sample.labels).tolist() == [[0, 2], [0, 11], [1, 2], [1, 11]]
    pairs = dataset.label_pairs()
    assert list(zip(*(part.tolist() for part in pairs)))[:3] == [(0, 2), (0, 11), (1, 0)]


def test_training_crops_leave_out_boxes_that_are_not_seen(small_ava):
    dataset = make(
        small_ava, proposals=small_ava.found, train=True, policy=TrainPolicy((72, 80), crop=40)
    )
    counts = set()
    for epoch in range(30):
        sample = dataset[Draw(0, epoch)]
        assert sample.video.shape == (3, 32, 40, 40)
        sides = sample.boxes_px[:, 2:] - sample.boxes_px[:, :2]
        assert (sides.prod(1) >= 1).all()
        assert 0 <= sample.boxes_px.min() <= sample.boxes_px.max() <= 40
        counts.add(len(sample.boxes_px))
        # The white block lies where its box says.
        box = sample.boxes_px[0].round().int().tolist()
        if np.allclose(sample.boxes_norm[0], [0.25, 0.25, 0.5, 0.75]) and box[2] - box[0] > 8:
            block = sample.video[:, 16, box[1] + 3 : box[3] - 3, box[0] + 3 : box[2] - 3]
            assert block.numel() == 0 or block.float().mean() > 235
    assert counts <= {1, 2, 3}
    assert len(counts) > 1


def test_draws_are_reproducible(small_ava):
    dataset = make(small_ava, train=True, policy=TrainPolicy((72, 80), crop=64, color=True))
    again = pickle.loads(pickle.dumps(dataset))
    a, b = dataset[Draw(3, 2, 1)], again[Draw(3, 2, 1)]
    assert torch.equal(a.video, b.video)
    assert torch.equal(a.boxes_px, b.boxes_px)
    for other in (Draw(3, 1, 1), Draw(3, 2, 0)):
        assert not torch.equal(a.video, dataset[other].video)
    assert torch.equal(dataset[-1].video, dataset[len(dataset) - 1].video)
    with pytest.raises(IndexError):
        dataset[len(dataset)]


def test_keyframes_are_chosen(small_ava, caplog):
    with caplog.at_level(logging.WARNING):
        assert [k.second for k in make(small_ava, first_second=4).keyframes] == [4, 5, 6] * 2
    assert "no keyframes" in caplog.text
    assert [k.second for k in make(small_ava, every=4).keyframes] == [4, 4]
    assert [k.second for k in make(small_ava, keyframe_rate=0.5).keyframes] == [2, 4, 6] * 2
    assert len(make(small_ava, first_second=None, last_second=None)) == 10
    left = make(small_ava, excluded=small_ava.excluded)
    assert [k.second for k in left.keyframes if k.video == "b"] == [2, 3, 6]
    assert make(small_ava, videos=["b"]).videos == ["b"]
    with pytest.raises(UserError, match="no keyframe is left"):
        make(small_ava, first_second=902, last_second=1798)
    with pytest.raises(UserError, match="ground-truth file"):
        make(small_ava, groundtruth=None)


def test_classes_of_ones_own(small_ava):
    dataset = make(small_ava, label_map=LabelMap((12, 80), ("stand", "watch")))
    assert dataset.num_classes == 2
    assert dataset[1].labels.tolist() == [[1, 0], [0, 1]]


def test_missing_movies(small_ava, tmp_path, caplog):
    folder = tmp_path / "movies"
    folder.mkdir()
    (folder / "a.mkv").write_bytes((small_ava.folder / "a.mp4").read_bytes())
    arguments = {"groundtruth": small_ava.truth, **small_ava.times}
    with pytest.raises(UserError, match=r"1 of 2 movies are missing: b \(looked in"):
        AvaDataset(folder, **arguments)
    with caplog.at_level(logging.WARNING):
        dataset = AvaDataset(folder, missing="skip", **arguments)
    assert dataset.videos == ["a"]
    assert "1 of 2 movies are missing" in caplog.text
    with pytest.raises(UserError, match="cannot be read as a folder"):
        AvaDataset(tmp_path / "none", **arguments)


def test_movies_that_start_later(small_ava, tmp_path):
    rows = small_ava.truth.read_text().replace(",000", ",090")
    later = tmp_path / "later.csv"
    later.write_text(rows)
    times = {"first_second": 902, "last_second": 906}
    moved = AvaDataset(
        small_ava.folder, groundtruth=later, movie_start=900, policy=TestPolicy(72), **times
    )
    assert moved.keyframes[1] == Keyframe("a", 903.0)
    assert torch.equal(moved[1].video, make(small_ava)[1].video)
    wrong = AvaDataset(small_ava.folder, groundtruth=later, **times)
    with pytest.raises(UserError, match="a: holds the seconds 0 to 8, but second 902"):
        wrong[0]


@pytest.fixture
def extracted(small_ava, tmp_path):
    """Frames in both usual layouts, and their list."""
    lines = ["original_vido_id video_id frame_id path labels"]
    for number, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        with VideoReader(small_ava.folder / f"{name}.mp4") as reader:
            for place, (_, frame) in enumerate(reader.stream(np.arange(240) / 30)):
                file = f"{name}_{place + 1:06d}.png" if name == "a" else f"img_{place + 1:05d}.png"
                Image.fromarray(frame).save(tmp_path / name / file)
                lines.append(f'{name} {number} {place} {name}/{file} ""')
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_extracted_frames_equal_the_movies(small_ava, extracted):
    movies = make(small_ava)
    arguments = {"groundtruth": small_ava.truth, **small_ava.times, "policy": TestPolicy(72)}
    folders = AvaDataset(extracted, reader="frames", movie_start=0, **arguments)
    lists = AvaDataset(
        extracted, frame_lists=[str(extracted / "list.csv")], movie_start=0, **arguments
    )
    for index in (0, 4, 5, 9):
        expected = movies[index]
        for other in (folders[index], lists[index]):
            assert other.keyframe == expected.keyframe
            assert torch.equal(other.video, expected.video)
    # Extracted frames begin at second 900 unless told otherwise.
    assert AvaDataset(extracted, reader="frames", **arguments).movie_start == 900
    with pytest.raises(UserError, match="frame list"):
        AvaDataset(extracted, frame_lists=[str(small_ava.truth)], **arguments)


def test_cached_movies_equal_the_files(small_ava):
    direct, cached = make(small_ava), make(small_ava, cache_short_side=72)
    for index in (0, 3, 9):
        assert torch.equal(direct[index].video, cached[index].video)
    smaller = make(small_ava, cache_short_side=72, policy=TestPolicy(36))[0].video
    assert smaller.shape == (3, 32, 36, 64)
    gap = smaller.float() - make(small_ava, policy=TestPolicy(36))[0].video.float()
    assert gap.abs().median() == 0
    assert gap.abs().mean() < 2
