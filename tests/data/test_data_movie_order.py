"""Test clips read in movie order: the same pixels for a fraction of the decoding."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from avadet.data.ava import AvaDataset
from avadet.data.media import MovieFolder
from avadet.data.movie_order import MovieOrderLoader
from avadet.data.transforms import TestPolicy
from avadet.errors import UserError
from avadet.structures import Sample
from avadet.video.proxy import ProxySettings, write_proxy
from avadet.video.reader import VideoReader
from avadet.video.ring import FrameRing
from avadet.video.writer import VideoWriter


class CountingFolder(MovieFolder):
    """Remembers its readers, so that their decoded frames can be added up."""

    def open(self, video: str) -> VideoReader:
        reader = super().open(video)
        self.readers = [*getattr(self, "readers", []), reader]
        return reader

    @property
    def decoded(self) -> int:
        return sum(reader.frames_decoded for reader in self.readers)


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A movie of 24 s as films are coded: 24 frames a second, B-frames, one key frame in 250."""
    folder = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (64, 96, 3), np.uint8)
    with VideoWriter(folder / "film.mp4", 96, 64, 24, gop=250, bframes=3, threads=1) as writer:
        for number in range(24 * 24):
            writer.write(np.roll(picture, (number % 7, number), (0, 1)))
    rows = [f"film,{second:04d},0.1,0.1,0.6,0.9,{1 + second % 5},0" for second in range(1, 24)]
    (folder / "truth.csv").write_text("\n".join(rows) + "\n")
    return folder


def make(folder: Path, **options) -> AvaDataset:
    values = {"policy": TestPolicy(48), "first_second": None, "last_second": None, **options}
    media = values.pop("media", None) or CountingFolder(folder)
    return AvaDataset(media, groundtruth=folder / "truth.csv", **values)


def assert_alike(one: Sample, other: Sample) -> None:
    assert one.keyframe == other.keyframe
    assert torch.equal(one.video, other.video)
    assert torch.equal(one.boxes_px, other.boxes_px)
    assert torch.equal(one.boxes_norm, other.boxes_norm)
    assert torch.equal(one.labels, other.labels)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_frames": 7, "frame_stride": 3},
        {"num_frames": 4, "frame_stride": 1},
        {"fps": 24.0},
        {"window": (3.0, 9.5)},
        {"movie_start": 0.25},
    ],
)
def test_the_pixels_are_those_of_clip_by_clip(noise, options):
    dataset = make(noise, **options)
    streamed = list(dataset.stream(range(len(dataset))))
    assert len(streamed) == len(dataset) == 23
    for index, sample in enumerate(streamed):
        assert_alike(dataset[index], sample)


def test_a_part_of_a_movie_with_gaps(noise):
    dataset = make(noise)
    for samples in ([4], [0, 1, 9, 22]):
        for index, sample in zip(samples, dataset.stream(samples), strict=True):
            assert_alike(dataset[index], sample)
    assert list(dataset.stream([])) == []


def test_extracted_frames_are_read_once_too(noise, tmp_path):
    from PIL import Image

    (tmp_path / "film").mkdir()
    with VideoReader(noise / "film.mp4") as reader:
        for number, (_, frame) in enumerate(reader.stream(np.arange(24 * 30) / 30)):
            Image.fromarray(frame).save(tmp_path / "film" / f"img_{number + 1:05d}.jpg")
    dataset = AvaDataset(
        tmp_path,
        groundtruth=noise / "truth.csv",
        reader="frames",
        movie_start=0,
        policy=TestPolicy(48),
        first_second=None,
        last_second=None,
    )
    for index, sample in enumerate(dataset.stream(range(6))):
        assert_alike(dataset[index], sample)


@pytest.mark.parametrize(("kind", "least"), [("film", 4.0), ("proxy", 2.0)])
def test_at_least_half_of_the_decoding_is_saved(noise, tmp_path, kind, least):
    folder = noise
    if kind == "proxy":
        folder = tmp_path
        write_proxy(noise / "film.mp4", tmp_path / "film.mp4", ProxySettings(short_side=64))
        (tmp_path / "truth.csv").write_text((noise / "truth.csv").read_text())
    alone, passing = CountingFolder(folder), CountingFolder(folder)
    by_clip = make(folder, media=alone)
    for index in range(len(by_clip)):
        by_clip[index]
    batches = list(MovieOrderLoader(make(folder, media=passing), 1))
    assert len(batches) == len(by_clip)
    assert alone.decoded >= least * passing.decoded
    # Two passes at most over any frame: there are two stretches.
    assert passing.decoded <= 24 * 24 + 250


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world_size", [1, 2, 5])
def test_every_batch_comes_once_and_is_the_same(small_ava, world_size, workers):
    dataset = AvaDataset(
        small_ava.folder, groundtruth=small_ava.truth, policy=TestPolicy(24), **small_ava.times
    )
    seen: Counter[tuple] = Counter()
    pixels = {}
    for rank in range(world_size):
        loader = MovieOrderLoader(dataset, 2, num_workers=workers, rank=rank, world_size=world_size)
        batches = list(loader)
        assert len(loader) == len(batches)
        for batch in batches:
            seen[tuple(map(str, batch.keyframes))] += 1
            for keyframe, video in zip(batch.keyframes, batch.video):
                pixels[str(keyframe)] = video
    expected = [("2", "3"), ("4", "5"), ("6",)]
    assert seen == Counter(tuple(f"{v}@{s}s" for s in group) for v in "ab" for group in expected)
    for index in range(len(dataset)):
        assert torch.equal(pixels[str(dataset.keyframes[index])], dataset[index].video)


def test_it_can_be_read_again(small_ava):
    dataset = AvaDataset(
        small_ava.folder, groundtruth=small_ava.truth, policy=TestPolicy(24), **small_ava.times
    )
    loader = MovieOrderLoader(dataset, 4, num_workers=1)
    for one, other in zip(list(loader), list(loader), strict=True):
        assert torch.equal(one.video, other.video)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_movie_is_said_in_one_line(small_ava, tmp_path, workers):
    (tmp_path / "a.mp4").write_bytes(b"nothing")
    (tmp_path / "b.mp4").write_bytes((small_ava.folder / "b.mp4").read_bytes())
    dataset = AvaDataset(tmp_path, groundtruth=small_ava.truth, **small_ava.times)
    with pytest.raises(UserError, match=r"^[^\n]*a\.mp4[^\n]*$"):
        list(MovieOrderLoader(dataset, 1, num_workers=workers))


def test_a_keyframe_outside_its_movie_is_refused(noise):
    dataset = make(noise, movie_start=-900.0)
    with pytest.raises(UserError, match="holds the seconds"):
        list(dataset.stream([0]))


def test_a_ring_holds_what_a_clip_needs_and_no_more():
    frames = ((point, np.full((1, 1, 3), point, np.uint8)) for point in range(0, 40, 2))
    ring = FrameRing(frames)
    assert ring.clip(np.array([2, 2, 6]))[:, 0, 0, 0].tolist() == [2, 2, 6]
    assert ring.clip(np.array([4, 6, 20]))[:, 0, 0, 0].tolist() == [4, 6, 20]
    with pytest.raises(ValueError, match="grid point 2"):
        ring.clip(np.array([2, 30]))
    ring.advance(36)
    assert ring.clip(np.array([38]))[0, 0, 0, 0] == 38
