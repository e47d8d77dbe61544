"""A proxy shows the frames of its original, at any time, in any size asked for."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from painted_movies import make_movie, painted_numbers, set_rotation

from avadet.errors import UserError
from avadet.video.proxy import ProxySettings, UnreadableMovie, read_note, write_proxy
from avadet.video.proxy_note import ProxyNote
from avadet.video.reader import VideoReader

NTSC = Fraction(30000, 1001)
SMALL = ProxySettings(short_side=48)


def check_alike(original: Path, proxy: Path) -> None:
    """The same frame numbers and times at every grid point, by reading and by streaming."""
    with VideoReader(original) as one, VideoReader(proxy) as other:
        assert other.duration == one.duration
        assert other.fps == one.fps
        assert (other.height, other.width) == (one.height, one.width)
        grid = np.arange(-7, int(one.duration * 30) + 12) / 30
        wanted, got = one.read(grid, short_side=48), other.read(grid, short_side=48)
        assert got.frames.shape == wanted.frames.shape
        assert painted_numbers(got.frames) == painted_numbers(wanted.frames)
        np.testing.assert_allclose(got.seconds, wanted.seconds, rtol=0, atol=1e-9)
        streamed = [frame for _, frame in other.stream(grid, short_side=48)]
        assert np.array_equal(np.stack(streamed), got.frames)
        rng = np.random.default_rng(0)
        for _ in range(8):
            places = np.sort(rng.integers(0, len(grid), 6))
            again = other.read(grid[places], short_side=48)
            assert np.array_equal(again.frames, got.frames[places])


@pytest.mark.parametrize("fps", [24, 25, NTSC, 30, Fraction(24000, 1001), 60])
def test_constant_rates(tmp_path, fps):
    movie = make_movie(tmp_path / "movie.mp4", 110, fps)
    assert write_proxy(movie, tmp_path / "proxy.mp4", SMALL) == 0
    check_alike(movie, tmp_path / "proxy.mp4")


@pytest.mark.parametrize("base", [Fraction(1, 1000), Fraction(1, 90000)])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_variable_rate(tmp_path, suffix, base):
    rng = np.random.default_rng(3)
    steps = rng.integers(base.denominator // 200, base.denominator // 11, 90)
    ticks = np.cumsum(steps).tolist()
    movie = make_movie(tmp_path / f"movie.{suffix}", 90, 30, ticks=ticks, time_base=base)
    write_proxy(movie, tmp_path / "proxy.mp4", SMALL)
    check_alike(movie, tmp_path / "proxy.mp4")


@pytest.mark.parametrize("suffix", ["ts", "avi", "mov"])
def test_other_containers(tmp_path, suffix):
    movie = make_movie(tmp_path / f"movie.{suffix}", 80, NTSC, gop=30)
    write_proxy(movie, tmp_path / "proxy.mp4", SMALL)
    check_alike(movie, tmp_path / "proxy.mp4")


def test_picture_that_starts_after_the_sound(tmp_path):
    ticks = [12 + number for number in range(60)]  # 0.48 s
    movie = make_movie(tmp_path / "movie.mp4", 60, 25, ticks=ticks, sound_from=0.0)
    with VideoReader(movie) as reader:
        assert reader.read([0.0]).seconds[0] == pytest.approx(0.48)
    write_proxy(movie, tmp_path / "proxy.mp4", SMALL)
    check_alike(movie, tmp_path / "proxy.mp4")


def test_turned_pictures_stand_upright(tmp_path):
    movie = make_movie(tmp_path / "movie.mp4", 20, 25)
    set_rotation(movie, (0, 1, -1, 0))
    write_proxy(movie, tmp_path / "proxy.mp4", ProxySettings(short_side=80))
    with VideoReader(movie) as one, VideoReader(tmp_path / "proxy.mp4") as other:
        wanted, got = one.read([0.2], short_side=64), other.read([0.2], short_side=64)
    assert wanted.size == got.size == (128, 64)
    assert np.abs(wanted.frames.astype(int) - got.frames).mean() < 4


@pytest.mark.parametrize(("matrix", "coded_range"), [(1, 1), (5, 1), (1, 2)])
def test_colours_are_kept(tmp_path, matrix, coded_range):
    """Whatever matrix and range the movie is coded with, red stays the same red."""
    path = tmp_path / "movie.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_range = coded_range
        picture = np.full((96, 128, 3), (200, 40, 60), np.uint8)
        picture[:, 64:] = (30, 180, 90)
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
                format="yuv420p", dst_colorspace=matrix, dst_color_range=coded_range
            )
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    write_proxy(path, tmp_path / "proxy.mp4", SMALL)
    with VideoReader(path) as one, VideoReader(tmp_path / "proxy.mp4") as other:
        wanted = one.read([0.1], short_side=48).frames[0].astype(int)
        got = other.read([0.1], short_side=48).frames[0].astype(int)
    assert np.abs(wanted[20, 10] - got[20, 10]).max() <= 4
    assert np.abs(wanted[20, -10] - got[20, -10]).max() <= 4


def test_the_coding_is_cheap_to_read(tmp_path):
    movie = make_movie(tmp_path / "movie.mp4", 70, 25)
    write_proxy(movie, tmp_path / "proxy.mp4", ProxySettings(short_side=64, gop=16))
    with av.open(str(tmp_path / "proxy.mp4")) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        keys = [number for number, packet in enumerate(packets) if packet.is_keyframe]
        assert keys == list(range(0, 70, 16))
        assert all(packet.pts == packet.dts for packet in packets)  # no B-frames
        assert (stream.height, stream.width) == (64, 128)
        assert not container.streams.audio
    # A clip in the middle decodes no more than it must: its frames, and those since a key frame.
    decoded = {}
    for name in ("movie", "proxy"):
        with VideoReader(tmp_path / f"{name}.mp4") as reader:
            reader.read(np.arange(48, 60) / 25, short_side=48)
            decoded[name] = reader.frames_decoded
    assert decoded["proxy"] <= 16 + 14 < decoded["movie"]


def test_small_movies_keep_their_size(tmp_path):
    movie = make_movie(tmp_path / "movie.mp4", 10, 25)
    write_proxy(movie, tmp_path / "proxy.mp4", ProxySettings())
    with av.open(str(tmp_path / "proxy.mp4")) as container:
        assert container.streams.video[0].height == 96


def test_a_proxy_of_a_proxy_is_one_of_the_original(tmp_path):
    ticks = [12 + number for number in range(30)]
    movie = make_movie(tmp_path / "movie.mp4", 30, 25, ticks=ticks, sound_from=0.0)
    write_proxy(movie, tmp_path / "one.mp4", ProxySettings(short_side=80))
    write_proxy(tmp_path / "one.mp4", tmp_path / "two.mp4", SMALL)
    check_alike(movie, tmp_path / "two.mp4")


def test_movies_that_cannot_be_read_leave_nothing(tmp_path):
    empty, text, sound = (tmp_path / name for name in ("a.mp4", "b.mp4", "c.mp4"))
    empty.touch()
    text.write_text("no movie")
    with av.open(str(sound), "w") as output:
        stream = output.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 16000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    for path in (empty, text, sound, tmp_path / "none.mp4"):
        with pytest.raises(UnreadableMovie, match=path.name):
            write_proxy(path, tmp_path / "out" / "proxy.mp4", SMALL)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("values", [{"short_side": 2}, {"gop": 0}, {"crf": 52}])
def test_settings_out_of_range(values):
    with pytest.raises(UserError, match="proxy"):
        ProxySettings(**values)


def test_notes_survive_the_file_and_nonsense_is_no_note(tmp_path):
    movie = make_movie(tmp_path / "movie.mp4", 10, NTSC)
    write_proxy(movie, tmp_path / "proxy.mp4", SMALL)
    note = read_note(tmp_path / "proxy.mp4")
    assert note is not None
    assert (note.height, note.width, note.settings) == (96, 192, str(SMALL))
    assert note.source_bytes == movie.stat().st_size
    assert ProxyNote.find({"comment": note.comment()}) == note
    assert read_note(movie) is None
    for text in ("avadet proxy", "avadet proxy {}", 'avadet proxy {"start": "x"}', "holiday"):
        assert ProxyNote.find({"comment": text}) is None
    bad = note.comment().replace('"fps":29.97002997002997', '"fps":0.0')
    assert bad != note.comment()
    assert ProxyNote.find({"comment": bad}) is None
