"""Real files of many makes; left out where the developers' clips are not."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from avadet.video.reader import VideoReader
from avadet.video.sampling import nearest_indices

CLIPS = [
    "decord_corrupted.mp4",
    "decord_unordered.mov",
    "decord_video_0.mov",
    "decord_video_90.mov",
    "decord_video_180.mov",
    "decord_video_270.mov",
    "intel_asl_walk.mkv",
    "intel_asl_yes.mkv",
    "intel_one-by-one-person-detection.mp4",
    "intel_preview_store-aisle-detection.gif",
]


def decode_all(path: Path, end: float) -> tuple[np.ndarray, list[np.ndarray]]:
    """Times from the first frame on and pictures, by plain decoding from the start."""
    times, pictures = [], []
    with av.open(str(path)) as container:
        try:
            for frame in container.decode(video=0):
                times.append(frame.time)
                turned = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
                pictures.append(turned)
                if frame.time - times[0] > end:
                    break
        except av.FFmpegError:
            pass
    return np.asarray(times) - times[0], pictures


@pytest.mark.parametrize("name", CLIPS)
def test_frames_are_those_of_plain_decoding(shared, name):
    path = shared / "data" / "clips" / name
    if not path.exists():
        pytest.skip(f"{name} is not here")
    frame_seconds, pictures = decode_all(path, 2.0)
    span = min(frame_seconds[-1], 1.5)
    grid = np.arange(-3, int(span * 30)) / 30
    expected = nearest_indices(frame_seconds, grid)
    with VideoReader(path) as reader:
        clip = reader.read(grid)
        assert (reader.height, reader.width) == pictures[0].shape[:2]
        for place in (0, len(grid) // 3, len(grid) // 2, len(grid) - 1):
            # PyAV's own conversion takes libswscale's short cut, which rounds coarsely.
            gap = np.abs(clip.frames[place].astype(int) - pictures[expected[place]])
            assert gap.mean() < 3
            again = reader.read([grid[place]])
            assert np.array_equal(again.frames[0], clip.frames[place])
        assert np.allclose(clip.seconds, frame_seconds[expected], atol=1.1e-3)
        streamed = list(reader.stream(grid, short_side=64))
        assert len(streamed) == len(grid)


def test_random_reads_of_a_real_movie_equal_its_stream(shared):
    path = shared / "data" / "clips" / "intel_one-by-one-person-detection.mp4"
    if not path.exists():
        pytest.skip("the clip is not here")
    with VideoReader(path) as reader:
        assert reader.duration == pytest.approx(139.4, abs=0.01)
        wanted = np.arange(40, 70, 0.5)
        stream = [frame for _, frame in reader.stream(wanted, short_side=64)]
        for place in (0, 17, 31, 59):
            frame = reader.read([wanted[place]], short_side=64).frames[0]
            assert np.array_equal(frame, stream[place])
        assert reader.num_warnings == 0


def test_damaged_real_movie_counts_and_repeats(shared):
    path = shared / "data" / "clips" / "decord_corrupted.mp4"
    if not path.exists():
        pytest.skip("the clip is not here")
    with VideoReader(path) as reader:
        clip = reader.read([1.0, 4.9])
        assert clip.seconds[0] == pytest.approx(1.0)
        assert clip.seconds[1] < 4.9
        assert reader.num_warnings > 0
