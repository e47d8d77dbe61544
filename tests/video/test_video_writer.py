"""VideoWriter: what it writes can be read back, whole or not at all."""

from __future__ import annotations

import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from avadet.errors import UserError
from avadet.video.writer import VideoWriter, exact_rate


def _ramp(index: int, width: int, height: int) -> np.ndarray:
    """A smooth picture that differs from frame to frame."""
    x = np.linspace(20, 200, width)[None, :, None]
    y = np.linspace(0, 30, height)[:, None, None]
    colour = np.array([1.0, 0.8, 0.6])
    return np.clip((x + y) * colour + 4 * index, 0, 255).astype(np.uint8)


def _write(path: Path, count: int = 20, width: int = 64, height: int = 48, **kwargs) -> None:
    with VideoWriter(path, width, height, kwargs.pop("fps", 30), **kwargs) as writer:
        for index in range(count):
            writer.write(_ramp(index, width, height))


def _source(path: Path, codec: str) -> Path:
    """A two-second movie with a 440 Hz tone, made by the ffmpeg program."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("the ffmpeg program is not installed")
    command = ["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", "testsrc=s=64x48:r=30:d=2"]
    command += ["-f", "lavfi", "-i", "sine=440:d=2", "-c:v", "libx264", "-c:a", codec]
    subprocess.run([*command, str(path)], check=True)
    return path


def test_frames_read_back_in_order_with_exact_times(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    _write(path, crf=10)
    with av.open(str(path)) as movie:
        stream = movie.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == 30
        frames = list(movie.decode(stream))
    assert [f.time for f in frames] == pytest.approx([k / 30 for k in range(20)])
    for index, frame in enumerate(frames):
        error = np.abs(frame.to_ndarray(format="rgb24").astype(int) - _ramp(index, 64, 48))
        assert error.mean() < 3, index
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # faststart


def test_odd_sizes_are_padded_to_even_by_repeating_the_edge(tmp_path: Path) -> None:
    path = tmp_path / "odd.mp4"
    _write(path, count=3, width=63, height=47, crf=5)
    with av.open(str(path)) as movie:
        picture = next(movie.decode(video=0)).to_ndarray(format="rgb24")
    assert picture.shape == (48, 64, 3)
    assert np.abs(picture[:47, :63].astype(int) - _ramp(0, 63, 47)).mean() < 3
    assert VideoWriter(path, 63, 47, 30).padded_size == (64, 48)


def test_gop_and_b_frames_are_obeyed(tmp_path: Path) -> None:
    path = tmp_path / "g.mp4"
    _write(path, count=30, gop=10, bframes=0)
    with av.open(str(path)) as movie:
        packets = [p for p in movie.demux(video=0) if p.size]
    assert [p.pts for p in packets] == sorted(p.pts for p in packets)
    assert sum(p.is_keyframe for p in packets) >= 3


def test_a_reproducible_movie_has_the_same_bytes_each_time(tmp_path: Path) -> None:
    contents = set()
    for turn in range(8):
        scratch = [np.full(40_000, turn, np.uint8) for _ in range(50)]  # other memory each time
        del scratch
        _write(tmp_path / "a.mp4", count=60, width=96, height=80, reproducible=True)
        contents.add((tmp_path / "a.mp4").read_bytes())
    assert len(contents) == 1


@pytest.mark.parametrize(
    ("name", "codec"), [("s.mp4", "aac"), ("s.mkv", "libvorbis"), ("s.mkv", "pcm_s16le")]
)
def test_sound_is_kept_and_ends_with_the_picture(tmp_path: Path, name: str, codec: str) -> None:
    source = _source(tmp_path / name, codec)
    path = tmp_path / "out.mp4"
    with VideoWriter(path, 64, 48, 30, audio_from=source) as writer:
        assert writer.has_audio
        for index in range(30):
            writer.write(_ramp(index, 64, 48))
    with av.open(str(path)) as movie:
        audio = movie.streams.audio[0]
        assert audio.codec_context.name == "aac"
        rate = audio.codec_context.sample_rate
        sound = np.concatenate([f.to_ndarray()[0] for f in movie.decode(audio)])
    assert len(sound) / rate == pytest.approx(1.0, abs=0.1)
    middle = sound[len(sound) // 4 : len(sound) // 4 + rate // 2]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert np.argmax(spectrum) * rate / len(middle) == pytest.approx(440, abs=5)


def test_sound_may_start_later(tmp_path: Path) -> None:
    source = _source(tmp_path / "s.mp4", "aac")
    path = tmp_path / "out.mp4"
    _write(path, count=60, audio_from=source, audio_start=1.5)
    with av.open(str(path)) as movie:
        last = max(p.pts * p.time_base for p in movie.demux(audio=0) if p.pts is not None)
    assert float(last) < 0.6


def test_a_silent_source_is_fine_and_an_unreadable_one_is_named(tmp_path: Path) -> None:
    _write(tmp_path / "silent.mp4")
    _write(tmp_path / "out.mp4", audio_from=tmp_path / "silent.mp4")
    with av.open(str(tmp_path / "out.mp4")) as movie:
        assert not movie.streams.audio
    with pytest.raises(UserError, match=r"gone\.mp4"):
        _write(tmp_path / "never.mp4", audio_from=tmp_path / "gone.mp4")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.mp4", "silent.mp4"]


def test_a_failed_block_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")

    def stopped() -> None:
        with VideoWriter(path, 64, 48, 30) as writer:
            writer.write(_ramp(0, 64, 48))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stopped()
    assert path.read_bytes() == b"old"
    with pytest.raises(UserError, match="no frame"), VideoWriter(path, 64, 48, 30):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_bad_input_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with pytest.raises(UserError, match="crf 99"):
        VideoWriter(path, 64, 48, 30, crf=99)
    with pytest.raises(UserError, match="frame rate 0"):
        VideoWriter(path, 64, 48, 0)
    with pytest.raises(UserError, match=r"a\.mp4"):
        _write(path, preset="nosuchpreset")
    with pytest.raises(ValueError, match="uint8"), VideoWriter(path, 64, 48, 30) as writer:
        writer.write(np.zeros((48, 64, 3), np.float32))
    assert not list(tmp_path.iterdir())


def test_written_rates_mean_the_exact_ones() -> None:
    assert exact_rate(29.97) == Fraction(30000, 1001)
    assert exact_rate(23.976) == Fraction(24000, 1001)
    assert exact_rate(12.5) == Fraction(25, 2)
    assert exact_rate(30) == 30
