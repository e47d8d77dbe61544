"""Writing h264 movies that browsers play."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np

from avadet.errors import UserError
from avadet.files import atomic_path

# Audio codecs that both the mp4 container and browsers take as they are; others become AAC.
_COPIED_AUDIO = ("aac", "mp3")
# Frame rates whose exact value is a fraction of 1001, by the rounded figure people write.
_NTSC = {23.976: Fraction(24000, 1001), 29.97: Fraction(30000, 1001), 59.94: Fraction(60000, 1001)}


def exact_rate(fps: float | Fraction) -> Fraction:
    """The frame rate as a fraction; 23.976, 29.97 and 59.94 mean the rates over 1001.

    Raises:
        UserError: not a positive number.
    """
    if not 0 < fps < 1000:
        raise UserError(f"frame rate {fps}: must be above 0 and below 1000 frames per second")
    for written, exact in _NTSC.items():
        if abs(float(fps) - written) < 2e-3:
            return exact
    return Fraction(fps).limit_denominator(1001)


class VideoWriter:
    """Writes RGB frames as an mp4 (h264, yuv420p), with the sound of another movie if wanted.

    A context manager. The file appears under its name only when the block ends without an
    exception, so that nobody reads half a movie. yuv420p stores colour for 2x2 pixels: an odd
    width or height is padded to even by repeating the last column or row, so that boxes in
    pixels stay where they are (boxes divided by the size must use ``width`` and ``height``
    of the written movie, see ``padded_size``).

    Args:
        path: the movie to write.
        width: width in pixels of the frames given to ``write``.
        height: height in pixels.
        fps: frames per second, constant.
        crf: x264 quality, 0 (lossless) to 51 (worst).
        preset: x264 speed.
        gop: most frames between key frames; x264's own choice (250) when None.
        bframes: most B-frames in a row; the preset's when None.
        audio_from: movie whose first sound track is kept: copied where it is AAC or MP3, else
            turned into AAC. A movie without sound is fine. The sound ends with the picture.
        audio_start: second of that movie at which the first written frame stands.
        faststart: puts the index first, so that a browser plays before all is loaded.
        threads: encoder threads; 0 lets x264 choose.
        lossless: keeps every value of the frames, of any size (x264 in RGB, which few players
            show); ``crf`` plays no part.
        reproducible: the same frames always give the same bytes. One thread, and without x264's
            macroblock tree: with it, the assembler code of x264 gave one of two files from run
            to run (a quarter of the runs at 96x80 pixels; without it or without assembler code,
            always one).
        tune: x264 tuning such as "animation" or "fastdecode".

    Raises:
        UserError: a setting is out of range, the file cannot be written, the encoder refuses,
            or ``audio_from`` cannot be read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        width: int,
        height: int,
        fps: float | Fraction,
        *,
        crf: int = 23,
        preset: str = "veryfast",
        gop: int | None = None,
        audio_from: str | os.PathLike[str] | None = None,
        audio_start: float = 0.0,
        bframes: int | None = None,
        faststart: bool = True,
        threads: int = 0,
        tune: str | None = None,
        reproducible: bool = False,
        lossless: bool = False,
    ) -> None:
        self.path = Path(path)
        if width < 1 or height < 1:
            raise UserError(f"{self.path}: a movie of {width}x{height} pixels; both must be >= 1")
        if not 0 <= crf <= 51:
            raise UserError(f"{self.path}: crf {crf}: must lie in 0..51")
        self.width, self.height = width, height
        self.rate = exact_rate(fps)
        self.frames_written = 0
        self._options = {"crf": "0" if lossless else str(crf), "preset": preset}
        self._lossless = lossless
        if tune is not None:
            self._options["tune"] = tune
        if reproducible:
            threads = 1
            self._options["x264-params"] = "mbtree=0"
        self._gop, self._bframes, self._threads = gop, bframes, threads
        self._faststart = faststart
        self._audio_from = None if audio_from is None else Path(audio_from)
        self._audio_start = audio_start
        self._audio: _AudioFeed | None = None
        self._stack: ExitStack | None = None

    @property
    def padded_size(self) -> tuple[int, int]:
        """(width, height) of the written movie: the given ones, made even unless lossless."""
        if self._lossless:
            return self.width, self.height
        return self.width + self.width % 2, self.height + self.height % 2

    @property
    def has_audio(self) -> bool:
        """Whether the movie gets sound; known inside the block."""
        return self._audio is not None

    def __enter__(self) -> VideoWriter:
        if self._stack is not None:
            raise RuntimeError(f"{self.path}: this writer is already open")
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_path(self.path))
            self._open(stack, temporary)
            self._stack = stack.pop_all()
        return self

    def _open(self, stack: ExitStack, temporary: Path) -> None:
        flags = {"movflags": "+faststart"} if self._faststart else {}
        if self._audio_from is not None:
            source = stack.enter_context(_open_source(self._audio_from))
        try:
            self._container = av.open(str(temporary), "w", format="mp4", options=flags)
            stack.callback(self._container.close)
            stream: Any = self._container.add_stream(
                "libx264rgb" if self._lossless else "libx264",
                rate=self.rate,
                options=self._options,
            )
            stream.width, stream.height = self.padded_size
            stream.pix_fmt = "rgb24" if self._lossless else "yuv420p"
            context = stream.codec_context
            context.time_base = 1 / self.rate
            context.thread_count = self._threads
            if not self._lossless:
                # Say which matrix made the colours; else players guess one by the picture's size.
                context.colorspace, context.color_primaries, context.color_trc = 6, 6, 6
                context.color_range = 1
            if self._gop is not None:
                context.gop_size = self._gop
            if self._bframes is not None:
                context.max_b_frames = self._bframes
            self._stream = stream
            if self._audio_from is not None and source.streams.audio:
                self._audio = _AudioFeed(source, self._container, self._audio_start)
        except (av.FFmpegError, ValueError) as error:
            raise UserError(f"{self.path}: cannot start an h264 movie: {error}") from error

    def write(self, frame: np.ndarray) -> None:
        """Appends one frame.

        Args:
            frame: (height, width, 3) uint8, RGB.

        Raises:
            UserError: the encoder or the disk refuses.
            ValueError: the frame has another shape or type.
        """
        if self._stack is None:
            raise RuntimeError(f"{self.path}: write inside a `with VideoWriter(...)` block")
        if frame.shape != (self.height, self.width, 3) or frame.dtype != np.uint8:
            raise ValueError(
                f"frame must be ({self.height},{self.width},3) uint8: {frame.shape} {frame.dtype}"
            )
        width, height = self.padded_size
        if (width, height) != (self.width, self.height):
            pad = ((0, height - self.height), (0, width - self.width), (0, 0))
            frame = np.pad(frame, pad, mode="edge")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture.pts = self.frames_written
        picture.time_base = 1 / self.rate
        try:
            self._container.mux(self._stream.encode(picture))
            self.frames_written += 1
            if self._audio is not None:
                self._audio.feed(float(self.frames_written / self.rate))
        except (av.FFmpegError, ValueError) as error:
            raise UserError(
                f"{self.path}: cannot write frame {self.frames_written}: {error}"
            ) from error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        stack, self._stack = self._stack, None
        assert stack is not None
        if kind is None:
            try:
                self._finish()
            except BaseException as failure:
                # Unwind with the failure, so that the half-written file goes.
                if not stack.__exit__(type(failure), failure, failure.__traceback__):
                    raise
                return
        try:
            stack.__exit__(kind, error, trace)
        except av.FFmpegError as failure:
            raise UserError(f"{self.path}: cannot finish the movie: {failure}") from failure

    def _finish(self) -> None:
        if not self.frames_written:
            raise UserError(f"{self.path}: no frame was written, so there is no movie to keep")
        try:
            if self._audio is not None:
                self._audio.feed(float(self.frames_written / self.rate), last=True)
            self._container.mux(self._stream.encode(None))
            # Writes the index; a full disk shows here at the latest.
            self._container.close()
        except (av.FFmpegError, ValueError) as error:
            raise UserError(f"{self.path}: cannot finish the movie: {error}") from error


def _open_source(path: Path) -> Any:
    try:
        return av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"{path}: cannot read its sound: {error}") from error


class _AudioFeed:
    """Moves the sound of a movie into a container, step by step with the picture.

    Feeding along with the frames keeps both streams interleaved in the file, so that no player
    has to seek between them and the muxer holds little in memory.
    """

    def __init__(self, source: Any, target: Any, start: float) -> None:
        self._target = target
        self._source = source.streams.audio[0]
        # Times count from the earliest stream's start, as ffmpeg does.
        begin = 0.0 if source.start_time is None else source.start_time / 1e6
        self._begin = begin + start
        self._copies = self._source.codec_context.name in _COPIED_AUDIO
        if start > 0:
            source.seek(round(self._begin * 1e6))
        if self._copies:
            self._stream = target.add_stream_from_template(self._source)
            self._items = self._packets(source)
        else:
            rate = self._source.codec_context.sample_rate
            self._stream = target.add_stream("aac", rate=rate)
            self._stream.layout = "mono" if self._source.codec_context.channels == 1 else "stereo"
            self._items = self._frames(source)
        self._pending: tuple[float, Any] | None = None

    def _packets(self, source: Any) -> Iterator[tuple[float, Any]]:
        base = self._source.time_base
        shift = round(self._begin / base)
        for packet in source.demux(self._source):
            if packet.pts is None or packet.pts < shift:
                continue
            packet.pts -= shift
            packet.dts = packet.pts
            packet.stream = self._stream
            yield float(packet.pts * base), packet

    def _frames(self, source: Any) -> Iterator[tuple[float, Any]]:
        for packet in source.demux(self._source):
            try:
                decoded = packet.decode()
            except av.FFmpegError:  # a damaged stretch of sound is left out
                continue
            for frame in decoded:
                if frame.time is None or frame.time < self._begin:
                    continue
                second = frame.time - self._begin
                frame.time_base = Fraction(1, frame.sample_rate)
                frame.pts = round(second * frame.sample_rate)
                yield second, frame

    def feed(self, until: float, last: bool = False) -> None:
        """Moves the sound before second ``until`` of the picture; ``last`` ends the track."""
        while True:
            item = self._pending or next(self._items, None)
            if item is None or item[0] >= until:
                self._pending = item
                break
            self._pending = None
            self._target.mux(item[1] if self._copies else self._stream.encode(item[1]))
        if last and not self._copies:
            self._target.mux(self._stream.encode(None))
