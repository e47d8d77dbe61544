"""Movies whose frame number is painted into the picture, for tests of the readers."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

BITS = 12
BLOCK = 16
WIDTH, HEIGHT = BITS * BLOCK, 96

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg program")


def paint(number: int) -> np.ndarray:
    """(96,192,3) uint8: the number as black and white blocks over a moving background."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    waves = 128 + 60 * np.sin((rows + 3 * number) / 9.0) * np.cos((columns - 5 * number) / 13.0)
    picture = np.repeat(waves[..., None].astype(np.uint8), 3, axis=2)
    for bit in range(BITS):
        picture[:32, bit * BLOCK : (bit + 1) * BLOCK] = 235 if number >> bit & 1 else 20
    return picture


def painted_number(picture: np.ndarray) -> int:
    """The number in a picture of any size."""
    height, width = picture.shape[:2]
    number = 0
    for bit in range(BITS):
        left, right = (bit + 0.25) * width / BITS, (bit + 0.75) * width / BITS
        block = picture[height // 12 : height // 4, int(left) : max(int(right), int(left) + 1)]
        number |= int(block.mean() > 128) << bit
    return number


def painted_numbers(pictures: np.ndarray) -> list[int]:
    """The numbers in (T,H,W,3) pictures."""
    return [painted_number(picture) for picture in pictures]


def make_movie(
    path: Path,
    count: int,
    fps: Fraction | int = 30,
    *,
    ticks: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    gop: int = 250,
    codec: str = "libx264",
    sound_from: float | None = None,
    **options: str,
) -> Path:
    """Writes frames 0..count-1.

    Args:
        ticks: timestamps in ``time_base`` where the rate is not constant or does not start at 0.
        sound_from: adds a sound track that starts at this second.
        options: of the encoder; x264 makes B-frames by default.
    """
    base = time_base or 1 / Fraction(fps)
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=Fraction(fps), options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.gop_size = gop
        stream.codec_context.time_base = base
        stream.time_base = base
        sound = (
            output.add_stream("aac", rate=16000, layout="mono") if sound_from is not None else None
        )
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(paint(number), format="rgb24")
            frame.pts = ticks[number] if ticks is not None else number
            frame.time_base = base
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if sound is not None:
            _add_sound(output, sound, sound_from or 0.0, 16 * 1000)
    return path


def _add_sound(
    output: av.container.OutputContainer, sound: av.AudioStream, start: float, samples: int
) -> None:
    for begin in range(0, samples, 1024):
        tone = np.sin(np.arange(begin, begin + 1024) / 10.0).astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, begin + int(start * 16000)
        frame.time_base = Fraction(1, 16000)
        output.mux(sound.encode(frame))
    output.mux(sound.encode(None))


def run_ffmpeg(*arguments: str | Path) -> None:
    """Runs the ffmpeg program quietly."""
    command = ["ffmpeg", "-v", "error", "-y", *map(str, arguments)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def extract_numbers(path: Path, fps: int = 30) -> list[int]:
    """The painted numbers of the frames that ``ffmpeg -r`` extracts."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-map", "0:v:0", "-r", str(fps)]
    command += ["-pix_fmt", "rgb24", "-f", "image2pipe", "-c:v", "ppm", "-"]
    raw = subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL).stdout
    header = f"P6\n{WIDTH} {HEIGHT}\n255\n".encode()
    size = len(header) + WIDTH * HEIGHT * 3
    assert len(raw) % size == 0
    assert raw[: len(header)] == header
    frames = [raw[start + len(header) : start + size] for start in range(0, len(raw), size)]
    return [
        painted_number(np.frombuffer(frame, np.uint8).reshape(HEIGHT, WIDTH, 3)) for frame in frames
    ]


def set_rotation(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Writes (a, b, c, d) of the display matrix into the track header of an mp4."""
    data = bytearray(path.read_bytes())
    box = data.index(b"tkhd")
    assert data[box + 4] == 0, "expects version 0"
    start = box + 4 + 40
    a, b, c, d = (value << 16 for value in matrix)
    data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(bytes(data))
