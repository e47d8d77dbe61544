"""Files that are cut short, start between key frames, lie, or are not movies at all."""

from __future__ import annotations

import logging
import os
import struct
from pathlib import Path

import av
import numpy as np
import pytest
from painted_movies import (
    _add_sound,
    extract_numbers,
    make_movie,
    needs_ffmpeg,
    painted_number,
    painted_numbers,
    run_ffmpeg,
)

from avadet.errors import UserError
from avadet.video import reader as reader_module
from avadet.video.reader import VideoReader, open_video


@pytest.fixture(autouse=True)
def _forget_reports():
    reader_module._reported.clear()


def damage(path: Path, out: Path, start: float, end: float) -> Path:
    """Random bytes over a share of the file."""
    data = bytearray(path.read_bytes())
    low, high = int(len(data) * start), int(len(data) * end)
    noise = np.random.default_rng(0).integers(0, 256, high - low, dtype=np.uint8)
    data[low:high] = noise.tobytes()
    out.write_bytes(bytes(data))
    return out


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_stream_that_starts_between_key_frames(tmp_path, share):
    whole = make_movie(tmp_path / "whole.ts", 150, 30, gop=50).read_bytes()
    path = tmp_path / "cut.ts"
    path.write_bytes(whole[int(len(whole) * share) // 188 * 188 :])
    first = 50 if share < 0.3 else 100
    with VideoReader(path) as reader:
        clip = reader.read(np.arange(-5, 40) / 30, short_side=48)
        assert painted_numbers(clip.frames) == [first] * 5 + list(range(first, first + 40))
        streamed = [painted_number(frame) for _, frame in reader.stream(np.arange(40) / 30)]
        assert streamed == list(range(first, first + 40))
        assert painted_number(reader.read([1.0]).frames[0]) == first + 30
        assert reader.duration == pytest.approx((150 - first) / 30, abs=0.05)


@needs_ffmpeg
def test_stream_that_starts_between_key_frames_equals_ffmpeg(tmp_path):
    whole = make_movie(tmp_path / "whole.ts", 150, 30, gop=50).read_bytes()
    path = tmp_path / "cut.ts"
    path.write_bytes(whole[len(whole) // 5 // 188 * 188 :])
    expected = extract_numbers(path)
    with VideoReader(path) as reader:
        clip = reader.read(np.arange(len(expected)) / 30)
    assert painted_numbers(clip.frames) == expected


def test_damaged_stretch_shows_the_nearest_sound_frames(tmp_path, caplog):
    whole = make_movie(tmp_path / "whole.mp4", 240, 30, gop=60)
    path = damage(whole, tmp_path / "damaged.mp4", 0.42, 0.5)
    with VideoReader(path) as reader, caplog.at_level(logging.WARNING):
        clip = reader.read(np.arange(240) / 30)
        numbers = painted_numbers(clip.frames)
        # Every picture is the one its time says, also those that stand in for others.
        assert numbers == np.rint(clip.seconds * 30).astype(int).tolist()
        sound = sorted(set(numbers))
        nearest = [max(sound, key=lambda n: (-abs(n - wanted), n)) for wanted in range(240)]
        assert numbers == nearest
        assert set(range(60)) | set(range(180, 240)) <= set(sound)
        assert len(sound) < 240
        assert reader.num_warnings > 3
        streamed = reader.stream(np.arange(240) / 30)
        assert all(np.array_equal(a, b) for (_, a), b in zip(streamed, clip.frames))
        for number in range(0, 240, 17):
            assert painted_number(reader.read([number / 30]).frames[0]) == numbers[number]
    assert len([record for record in caplog.records if "damaged.mp4" in record.message]) == 1


def test_damaged_first_key_frame(tmp_path):
    whole = make_movie(tmp_path / "whole.mp4", 120, 30, gop=40)
    start = whole.read_bytes().index(b"mdat") / whole.stat().st_size
    path = damage(whole, tmp_path / "damaged.mp4", start + 0.02, start + 0.1)
    with VideoReader(path) as reader:
        numbers = painted_numbers(reader.read(np.arange(0, 120, 5) / 30).frames)
    assert numbers[:8] == [40] * 8
    assert numbers[8:] == list(range(40, 120, 5))


def test_movie_cut_short(tmp_path):
    whole = make_movie(tmp_path / "whole.mkv", 300, 30, gop=60).read_bytes()
    path = tmp_path / "cut.mkv"
    path.write_bytes(whole[: len(whole) // 2])
    with VideoReader(path) as reader:
        last = round(reader.duration * 30) - 1
        assert 100 < last < 200
        numbers = painted_numbers(
            reader.read(np.asarray([0, 99, last - 1, last + 40, 299]) / 30).frames
        )
    assert numbers[:2] == [0, 99]
    assert all(last - 2 <= number <= last for number in numbers[2:])
    assert numbers[3] == numbers[4]


@needs_ffmpeg
def test_mp4_cut_short_whose_index_names_the_rest(tmp_path):
    whole = make_movie(tmp_path / "whole.mp4", 300, 30, gop=60)
    run_ffmpeg("-i", whole, "-c", "copy", "-movflags", "faststart", tmp_path / "fast.mp4")
    data = (tmp_path / "fast.mp4").read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(data[: len(data) * 6 // 10])
    with VideoReader(path) as reader:
        assert 3 < reader.duration < 8
        numbers = painted_numbers(reader.read(np.asarray([0, 90, 250, 299]) / 30).frames)
    assert numbers[:2] == [0, 90]
    assert 90 < numbers[2] == numbers[3] < 200


@pytest.mark.parametrize("claim", [90000.0, 200.0])
def test_header_lies_about_the_length(tmp_path, claim):
    path = make_movie(tmp_path / "movie.mkv", 120, 30, gop=50)
    data = bytearray(path.read_bytes())
    place = data.index(b"\x44\x89\x88") + 3
    data[place : place + 8] = struct.pack(">d", claim)
    path.write_bytes(bytes(data))
    with VideoReader(path) as reader:
        assert reader.duration == pytest.approx(4.0, abs=0.01)
        frames = reader.read(np.asarray([0, 60, 119, 500, 2000]) / 30).frames
    assert painted_numbers(frames) == [0, 60, 119, 119, 119]


def test_sound_alone_is_an_error_that_says_so(tmp_path):
    path = tmp_path / "sound.m4a"
    with av.open(str(path), "w") as output:
        _add_sound(output, output.add_stream("aac", rate=16000, layout="mono"), 0.0, 16000)
    with pytest.raises(UserError, match=r"sound\.m4a: has no picture \(1 audio"):
        VideoReader(path).read([0])


@pytest.mark.parametrize("content", [b"", b"no movie " * 100, bytes(5000)])
def test_what_is_no_movie_is_one_clear_error(tmp_path, content):
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    for use in (
        lambda: VideoReader(path).read([0]),
        lambda: next(VideoReader(path).stream([0])),
        lambda: VideoReader(path).width,
        lambda: VideoReader(path).duration,
        lambda: VideoReader(path).fps,
    ):
        with pytest.raises(UserError, match=r"broken\.mp4: cannot be read as a movie"):
            use()


def test_mp4_without_its_index(tmp_path):
    path = make_movie(tmp_path / "movie.mp4", 60, 30)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(UserError, match=r"movie\.mp4: cannot be read.*complete"):
        VideoReader(path).read([0])


def test_nothing_decodable(tmp_path):
    whole = make_movie(tmp_path / "whole.mp4", 40, 30)
    data = whole.read_bytes()
    low, high = data.index(b"mdat") + 4, data.index(b"moov") - 4
    path = tmp_path / "noise.mp4"
    path.write_bytes(data[:low] + bytes(high - low) + data[high:])
    for use in (
        lambda: VideoReader(path).read([0.5]),
        lambda: next(VideoReader(path).stream([0.5])),
        lambda: VideoReader(path).height,
    ):
        with pytest.raises(UserError, match=r"noise\.mp4: not one frame"):
            use()


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"none\.mp4: there is no such movie"):
        VideoReader(tmp_path / "none.mp4").read([0])
    with pytest.raises(UserError, match="holds no frames"):
        open_video(tmp_path)


def test_opening_many_movies_leaks_nothing(tmp_path):
    path = make_movie(tmp_path / "movie.mp4", 30, 30)

    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    def use(times: int) -> None:
        for _ in range(times):
            with VideoReader(path) as reader:
                reader.read([0.2, 0.5], short_side=48)
                # Abandoned half-way.
                stream = reader.stream([0.1, 0.2, 0.3])
                next(stream)
                stream.close()

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    use(20)
    files, memory = open_files(), resident()
    use(150)
    assert open_files() <= files
    assert resident() - memory < 24 << 20
