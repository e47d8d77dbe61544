"""The right frame at any time: rates, containers, B-frames, clocks, edit lists, rotation."""

from __future__ import annotations

import pickle
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from painted_movies import (
    HEIGHT,
    WIDTH,
    extract_numbers,
    make_movie,
    needs_ffmpeg,
    paint,
    painted_number,
    painted_numbers,
    run_ffmpeg,
    set_rotation,
)

from avadet.video.reader import VideoReader
from avadet.video.sampling import nearest_indices

NTSC = Fraction(30000, 1001)
RATES = {
    "24": Fraction(24),
    "25": Fraction(25),
    "29.97": NTSC,
    "30": Fraction(30),
    "60": Fraction(60),
    "23.976": Fraction(24000, 1001),
}


def check_everywhere(path: Path, frame_seconds: np.ndarray, numbers: list[int] | None = None):
    """Sequential, random and streamed reads show the frames nearest in time, all over."""
    names = np.asarray(numbers if numbers is not None else range(len(frame_seconds)))
    grid = np.arange(-7, int(frame_seconds[-1] * 30) + 12) / 30
    expected = names[nearest_indices(frame_seconds, grid)].tolist()
    with VideoReader(path) as reader:
        clip = reader.read(grid, short_side=48)
        assert painted_numbers(clip.frames) == expected
        assert np.allclose(
            clip.seconds, frame_seconds[nearest_indices(frame_seconds, grid)], atol=2e-3
        )
        streamed = list(reader.stream(grid, short_side=48))
        assert [second for second, _ in streamed] == grid.tolist()
        assert all(np.array_equal(a[1], b) for a, b in zip(streamed, clip.frames))
        rng = np.random.default_rng(0)
        for _ in range(10):
            places = rng.integers(0, len(grid)) + np.arange(-12, 12, rng.integers(1, 4))
            places = np.clip(places, 0, len(grid) - 1)
            again = reader.read(grid[places], short_side=48)
            assert np.array_equal(again.frames, clip.frames[places])
        assert reader.num_warnings == 0
        assert reader.duration == pytest.approx(
            frame_seconds[-1] + np.diff(frame_seconds[-2:])[0], abs=0.08
        )


@pytest.mark.parametrize("rate", RATES)
def test_every_rate_with_b_frames_and_long_gops(tmp_path, rate):
    fps = RATES[rate]
    path = make_movie(tmp_path / "movie.mp4", 130, fps)
    check_everywhere(path, np.arange(130) / float(fps))
    with VideoReader(path) as reader:
        assert reader.fps == pytest.approx(float(fps), rel=1e-3)
        assert (reader.height, reader.width) == (HEIGHT, WIDTH)


@needs_ffmpeg
@pytest.mark.parametrize("suffix", ["mp4", "ts"])
@pytest.mark.parametrize("rate", ["24", "25", "29.97", "30"])
def test_equals_extraction_by_ffmpeg(tmp_path, rate, suffix):
    path = make_movie(tmp_path / f"movie.{suffix}", 190, RATES[rate])
    expected = extract_numbers(path)
    with VideoReader(path) as reader:
        clip = reader.read(np.arange(len(expected)) / 30, short_side=48)
    assert painted_numbers(clip.frames) == expected


@pytest.mark.parametrize("suffix", ["mkv", "mov", "ts", "avi"])
def test_containers(tmp_path, suffix):
    path = make_movie(tmp_path / f"movie.{suffix}", 100, 25, gop=30)
    check_everywhere(path, np.arange(100) / 25)


@pytest.mark.parametrize("codec", ["mpeg4", "libx265", "libvpx-vp9"])
def test_codecs(tmp_path, codec):
    options = {"libx265": {"x265-params": "log-level=none"}, "libvpx-vp9": {"cpu-used": "8"}}
    path = make_movie(tmp_path / "movie.mkv", 60, 30, gop=20, codec=codec, **options.get(codec, {}))
    check_everywhere(path, np.arange(60) / 30)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_open_gops(tmp_path, suffix):
    options = {"x264-params": "open-gop=1:keyint=15:min-keyint=15:bframes=3:scenecut=0"}
    path = make_movie(tmp_path / f"movie.{suffix}", 100, 30, gop=15, **options)
    check_everywhere(path, np.arange(100) / 30)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_first_timestamp_is_not_zero(tmp_path, suffix):
    # Without sound the picture starts the file: its first frame is time zero.
    ticks = [450 + 3 * number for number in range(60)]
    path = make_movie(
        tmp_path / f"movie.{suffix}", 60, 30, ticks=ticks, time_base=Fraction(1, 90), gop=20
    )
    with VideoReader(path) as reader:
        first = reader.read([0.0]).seconds[0]
    check_everywhere(path, first + np.arange(60) / 30)


@needs_ffmpeg
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_sound_that_starts_first(tmp_path, suffix):
    plain = make_movie(tmp_path / "plain.mp4", 60, 25, sound_from=0.0)
    path = tmp_path / f"late.{suffix}"
    late = ["-itsoffset", "0.6", "-i", plain, "-i", plain, "-map", "0:v", "-map", "1:a"]
    run_ffmpeg(*late, "-c", "copy", path)
    expected = extract_numbers(path)
    with VideoReader(path) as reader:
        clip = reader.read(np.arange(len(expected)) / 30, short_side=48)
    assert painted_numbers(clip.frames) == expected
    # The file, not the picture, is time zero; except where the clock may jump. (In Matroska the
    # encoder's delay of 64 ms moves the start of the sound.)
    assert expected.count(0) == {"ts": 1, "mp4": 19, "mkv": 21}[suffix]


def test_variable_rate(tmp_path):
    rng = np.random.default_rng(3)
    gaps = rng.choice([1, 2, 3, 40, 200], size=150, p=[0.3, 0.3, 0.3, 0.07, 0.03])
    ticks = np.concatenate([[0], np.cumsum(gaps)[:-1]])
    path = make_movie(
        tmp_path / "movie.mkv", 150, 30, ticks=ticks.tolist(), time_base=Fraction(1, 100), gop=50
    )
    check_everywhere_at(path, ticks / 100)


def check_everywhere_at(path: Path, frame_seconds: np.ndarray):
    """As ``check_everywhere``, for movies whose frames are further apart than the grid."""
    wanted = np.arange(int(frame_seconds[-1] * 30) + 5) / 30
    expected = nearest_indices(frame_seconds, wanted).tolist()
    with VideoReader(path) as reader:
        assert painted_numbers(reader.read(wanted, short_side=48).frames) == expected
        streamed = [painted_number(frame) for _, frame in reader.stream(wanted, short_side=48)]
        assert streamed == expected
        for start in range(0, len(wanted), 37):
            part = slice(start, start + 20, 3)
            assert (
                painted_numbers(reader.read(wanted[part], short_side=48).frames) == expected[part]
            )
        for second in wanted[::29]:
            got = painted_number(reader.read([second], short_side=48).frames[0])
            assert got == expected[round(second * 30)]


@needs_ffmpeg
@pytest.mark.parametrize("start", [0.7, 1.5, 2.37])
def test_edit_list_of_a_cut_between_key_frames(tmp_path, start):
    whole = make_movie(tmp_path / "whole.mp4", 150, 30, gop=40)
    path = tmp_path / "cut.mp4"
    run_ffmpeg("-ss", str(start), "-i", whole, "-c", "copy", path)
    expected = extract_numbers(path)
    with VideoReader(path) as reader:
        clip = reader.read(np.arange(len(expected)) / 30, short_side=48)
        assert painted_numbers(clip.frames) == expected
        for place in range(0, len(expected), 13):
            got = painted_number(reader.read([place / 30], short_side=48).frames[0])
            assert got == expected[place]
    assert expected[0] >= round(start * 30) - 1


def test_transport_stream_with_few_key_frames(tmp_path):
    path = make_movie(tmp_path / "movie.ts", 200, 30, gop=90)
    with VideoReader(path) as reader:
        for number in [199, 0, 88, 89, 90, 91, 150, 3]:
            frames = reader.read([number / 30, (number + 1) / 30], short_side=48).frames
            assert painted_numbers(frames) == [number, min(number + 1, 199)]


ROTATIONS = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}


@pytest.mark.parametrize("degrees", ROTATIONS)
def test_rotation_flags_are_followed(tmp_path, degrees):
    path = make_movie(tmp_path / "movie.mp4", 3, 30, crf="10")
    set_rotation(path, ROTATIONS[degrees])
    turns = -degrees // 90
    with VideoReader(path) as reader:
        upright = np.rot90(paint(1), turns)
        assert (reader.height, reader.width) == upright.shape[:2]
        frame = reader.read([1 / 30]).frames[0]
        assert np.abs(frame.astype(int) - upright).mean() < 12
        small = reader.read([1 / 30], short_side=48).frames[0]
        assert small.shape == ((48, 96, 3) if degrees % 180 == 0 else (96, 48, 3))
        assert painted_number(np.rot90(small, -turns)) == 1


@needs_ffmpeg
@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_equals_ffmpeg(tmp_path, degrees):
    path = make_movie(tmp_path / "movie.mp4", 2, 30)
    set_rotation(path, ROTATIONS[degrees])
    run_ffmpeg("-i", path, "-frames:v", "1", tmp_path / "frame.png")
    from PIL import Image

    expected = np.asarray(Image.open(tmp_path / "frame.png").convert("RGB")).astype(int)
    with VideoReader(path) as reader:
        frame = reader.read([0]).frames[0]
    assert frame.shape == expected.shape
    assert np.abs(frame - expected).mean() < 3


def test_sizes(tmp_path):
    path = make_movie(tmp_path / "movie.mp4", 5, 30)
    with VideoReader(path) as reader:
        assert reader.read([0]).size == (96, 192)
        assert reader.read([0], short_side=48).size == (48, 96)
        assert reader.read([0], size=(33, 71)).size == (33, 71)
        assert next(reader.stream([0], size=(20, 30)))[1].shape == (20, 30, 3)
        with pytest.raises(ValueError, match="not both"):
            reader.read([0], size=(8, 8), short_side=8)
        with pytest.raises(ValueError, match="finite"):
            reader.read([np.nan])
        with pytest.raises(ValueError, match="non-empty"):
            reader.read([])
        with pytest.raises(ValueError, match="increasing"):
            next(reader.stream([1.0, 0.0]))
        assert list(reader.stream([])) == []


def test_window_repeats_its_edge_frames(tmp_path):
    path = make_movie(tmp_path / "movie.mp4", 60, 30)
    with VideoReader(path) as reader:
        frames = reader.read(np.arange(18, 33) / 30, window=(20 / 30, 1.0)).frames
    assert painted_numbers(frames) == [20, 20, *range(20, 30), 29, 29, 29]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_what_is_wanted_after_the_end_costs_no_second_pass(tmp_path, suffix):
    path = make_movie(tmp_path / f"movie.{suffix}", 96, 24)
    # All but a few of its frames before the end, as a clip of the last keyframe is.
    times = np.append(np.arange(0, 110, 4) / 30, [3.9, 4.0, 4.5])
    with VideoReader(path) as reader:
        numbers = [painted_number(frame) for _, frame in reader.stream(times, short_side=48)]
        assert numbers[-2:] == [95, 95]
        # Frames that others depend on are decoded whether wanted or not.
        assert len(set(numbers)) <= reader.frames_decoded <= 96


def test_any_order_and_repeats(tmp_path):
    path = make_movie(tmp_path / "movie.mp4", 40, 30)
    wanted = [30, 2, 2, 39, 0, 17, 500, -3]
    with VideoReader(path) as reader:
        clip = reader.read(np.asarray(wanted) / 30)
    assert painted_numbers(clip.frames) == [30, 2, 2, 39, 0, 17, 39, 0]
    assert clip.seconds[[1, 6]].tolist() == pytest.approx([2 / 30, 39 / 30])


def test_other_grids(tmp_path):
    path = make_movie(tmp_path / "movie.mp4", 40, 25)
    with VideoReader(path) as reader:
        clip = reader.read(np.arange(40) / 25, fps=25)
        assert painted_numbers(clip.frames) == list(range(40))
        streamed = reader.stream(np.arange(0, 40, 5) / 25, fps=25)
        assert [painted_number(frame) for _, frame in streamed] == list(range(0, 40, 5))


def test_reader_is_pickled_without_its_file(tmp_path):
    path = make_movie(tmp_path / "movie.mp4", 10, 30)
    with VideoReader(path) as reader:
        before = reader.read([0.1]).frames
        other = pickle.loads(pickle.dumps(reader))
    with other:
        assert np.array_equal(other.read([0.1]).frames, before)


def test_streams_of_one_reader_do_not_disturb_each_other(tmp_path):
    path = make_movie(tmp_path / "movie.mp4", 40, 30)
    with VideoReader(path) as reader:
        numbers = []
        for second, frame in reader.stream(np.arange(0, 40, 3) / 30):
            assert painted_number(reader.read([1.0]).frames[0]) == 30
            numbers.append(painted_number(frame))
            assert second == pytest.approx(numbers[-1] / 30)
    assert numbers == list(range(0, 40, 3))


def test_colours_follow_the_tags(tmp_path):
    # BT.709 pictures shown by BT.601 would turn green into another green.
    import av

    colour = np.zeros((96, 192, 3), np.uint8)
    colour[:] = (30, 180, 60)
    path = tmp_path / "movie.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=30, options={"crf": "5", "colorspace": "bt709"})
        stream.width, stream.height, stream.pix_fmt = 192, 96, "yuv420p"
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(colour, format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    with VideoReader(path) as reader:
        shown = reader.read([0.03]).frames[0].reshape(-1, 3).mean(axis=0)
    assert np.abs(shown - [30, 180, 60]).max() < 4
