"""Small copies of movies that decode fast and show every frame at its original time."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter

from avadet.errors import UserError
from avadet.files import atomic_path
from avadet.video.decoding import FrameDecoder
from avadet.video.movie import Movie
from avadet.video.proxy_note import ProxyNote
from avadet.video.scaling import SCALING, display_size, quarter_turns, scaled_size


class UnreadableMovie(UserError):
    """The movie to copy is at fault, not the place where the copy goes."""


@dataclass(frozen=True)
class ProxySettings:
    """How proxies are made. The defaults were measured, see ``docs/benchmarks.md``.

    Attributes:
        short_side: pixels of the shorter side; smaller movies keep their size.
        gop: frames between key frames. A clip is read from the key frame before it.
        crf: x264 quality, 0 (lossless) to 51.
        preset: x264 speed.
    """

    short_side: int = 320
    gop: int = 16
    crf: int = 20
    preset: str = "veryfast"

    def __post_init__(self) -> None:
        if self.short_side < 16 or self.gop < 1 or not 0 <= self.crf <= 51:
            raise UserError(
                f"a proxy of short side {self.short_side}, gop {self.gop}, crf {self.crf}: needs "
                "16 pixels and a gop of 1 at least, and a crf in 0..51"
            )

    def __str__(self) -> str:
        return f"short {self.short_side} gop {self.gop} crf {self.crf} {self.preset}"


def read_note(path: str | os.PathLike[str]) -> ProxyNote | None:
    """The note of a proxy; None for other files and for what is no movie."""
    try:
        movie = Movie(Path(path))
    except UserError:
        return None
    movie.close()
    return movie.note


def write_proxy(
    source: str | os.PathLike[str], target: str | os.PathLike[str], settings: ProxySettings
) -> int:
    """Copies the picture of a movie; returns how many packets of it could not be decoded.

    No frame is left out, doubled or moved: times keep the ticks of the original, so that a
    reader chooses the same frames, also at variable rates and where the picture starts late.
    No B-frames, no arithmetic coding and no loop filter: what is stored in more bytes is read
    in a fraction of the time. Pictures stand upright; there is no sound. One thread is used.

    Raises:
        UnreadableMovie: not a movie, or not one frame of it can be decoded.
        UserError: the copy cannot be written.
    """
    source, target = Path(source), Path(target)
    try:
        movie = Movie(source)
    except UserError as error:
        raise UnreadableMovie(str(error)) from error
    try:
        with atomic_path(target) as temporary:
            return _copy(movie, temporary, target, settings)
    finally:
        movie.close()


def _copy(movie: Movie, temporary: Path, target: Path, settings: ProxySettings) -> int:
    end = movie.find_end()
    frames = _all_frames(movie)
    try:
        start, first = next(frames)
    except StopIteration:
        raise UnreadableMovie(
            f"{movie.path}: not one frame can be decoded; the file is damaged or empty"
        ) from None
    height, width = movie.shape or display_size(first)
    note = ProxyNote(
        start=start,
        same=movie.same,
        end=end,
        fps=movie.fps,
        height=height,
        width=width,
        source_bytes=movie.path.stat().st_size,
        settings=str(settings),
    )
    try:
        with av.open(str(temporary), "w", format="mp4") as output:
            output.metadata["comment"] = note.comment()
            stream = _add_stream(output, movie, first, settings)
            shrink = _Shrinker(stream.height, stream.width)
            base = stream.codec_context.time_base
            for time, frame in itertools.chain([(start, first)], frames):
                output.mux(stream.encode(_stamped(shrink(frame), time - start, base)))
            output.mux(stream.encode(None))
    except (av.FFmpegError, ValueError) as error:
        raise UserError(f"{target}: cannot write a proxy of {movie.path}: {error}") from error
    return movie.damage


def _all_frames(movie: Movie) -> Iterator[tuple[float, av.VideoFrame]]:
    """Every sound frame; those made from damage only where there are no others."""
    for trusting in (False, True):
        movie.rewind()
        frames = iter(FrameDecoder(movie, trusting=trusting))
        first = next(frames, None)
        if first is not None:
            yield first
            yield from frames
            return
        if not movie.damage:
            return


def _add_stream(output: Any, movie: Movie, first: av.VideoFrame, settings: ProxySettings) -> Any:
    height, width = display_size(first)
    if min(height, width) > settings.short_side:
        height, width = scaled_size(height, width, settings.short_side)
    options = {"crf": str(settings.crf), "preset": settings.preset, "tune": "fastdecode"}
    rate = Fraction(movie.fps).limit_denominator(1001)
    stream = output.add_stream("libx264", rate=rate, options=options)
    # 4:2:0 stores colour for 2x2 pixels.
    stream.height, stream.width = height + height % 2, width + width % 2
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.gop_size, context.max_b_frames, context.thread_count = settings.gop, 0, 1
    context.time_base = movie.stream.time_base or Fraction(1, av.time_base)
    # The same matrix on both sides: pixels come out of the reader as the original's do.
    context.colorspace, context.color_range = first.colorspace, 1
    stream.time_base = context.time_base
    return stream


def _stamped(frame: av.VideoFrame, time: float, base: Fraction) -> av.VideoFrame:
    frame.pts, frame.time_base = round(time / base), base
    # Decoded frames remember what they were; the encoder would take that for an order.
    frame.pict_type = PictureType.NONE
    return frame


class _Shrinker:
    """Scales frames without leaving their colour space; turned ones go by way of RGB."""

    def __init__(self, height: int, width: int) -> None:
        self._size = height, width
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        turns = quarter_turns(frame)
        if turns:
            upright = np.rot90(frame.to_ndarray(format="rgb24"), turns)
            colorspace = frame.colorspace
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(upright), format="rgb24")
            return self._reformat(frame, dst_colorspace=colorspace)
        return self._reformat(frame)

    def _reformat(self, frame: av.VideoFrame, **colors: Any) -> av.VideoFrame:
        height, width = self._size
        return self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="yuv420p",
            interpolation=SCALING,
            dst_color_range=1,
            **colors,
        )
