"""An open movie file: its picture, its clock, its packets."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import av

from avadet.errors import UserError
from avadet.video.proxy_note import ProxyNote
from avadet.video.sampling import SAME_TIME

# libavformat's AVFMT_TS_DISCONT: formats such as MPEG-TS whose clock may jump.
_CLOCK_MAY_JUMP = 0x0200

# AVI stores no display times: those that libavformat makes up run in decoding order.
_NO_DISPLAY_TIMES = {"avi"}

# A reader that fails this often in a row will not recover.
_MAX_READ_ERRORS = 64


# Tags that are not UTF-8 are no reason to refuse a movie; PyAV 19 no longer raises on them.
_OPEN_OPTIONS = {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}


class Movie:
    """The picture of one movie file.

    Time zero is where the ffmpeg program starts to extract: the start of the file, which is the
    earliest start of all its streams, so that a movie whose sound begins half a second before
    its picture has its first frame at 0.5 s. In formats whose clock may jump (MPEG-TS) only the
    picture counts, and where there is nothing else, its first frame that can be decoded.

    Attributes:
        damage: packets and reads that failed since the last ``seek`` or ``rewind``.
        has_display_times: whether packets say when they are shown (AVI does not).
        start: time of the first frame by the header.
        same: times no further apart than this are one, in seconds.
        note: where the file is a proxy, what it says of its original; clock and size are taken
            from it.
        decoded: frames that came out of the decoder since the file was opened first.

    Raises:
        UserError: no such file, not a movie, or a movie without a picture.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage = 0
        self.decoded = 0
        self._pristine = True
        self._zero = 0.0
        self._open()
        self._zero = -self.note.start if self.note else self._find_zero()
        self.start = max(self.time(self.stream.start_time or 0), 0.0)

    def _open(self) -> None:
        try:
            self.container = av.open(str(self.path), **_OPEN_OPTIONS)
        except FileNotFoundError as error:
            raise UserError(f"{self.path}: there is no such movie file") from error
        except (av.FFmpegError, OSError, ValueError) as error:
            raise UserError(
                f"{self.path}: cannot be read as a movie ({_reason(error)}); is it complete?"
            ) from error
        try:
            self.stream = self._choose_stream()
        except UserError:
            self.container.close()
            raise
        self.stream.thread_type = "NONE"
        self.stream.codec_context.thread_count = 1
        self._tick = float(self.stream.time_base or 1 / av.time_base)
        # Where times are rounded to ticks (Matroska: 1 ms), two frames are as near to a moment
        # when their distances differ by no more than the rounding.
        self.same = SAME_TIME + (self._tick if self._tick < 1.1e-3 else 0.0)
        self.note = ProxyNote.find(self.container.metadata)
        if self.note is not None:
            self.same = self.note.same
        self.has_display_times = _NO_DISPLAY_TIMES.isdisjoint(self.container.format.name.split(","))
        self._pristine = True

    def _choose_stream(self) -> av.VideoStream:
        cover = getattr(av.stream.Disposition, "attached_pic", 0)
        streams = [s for s in self.container.streams.video if not s.disposition & cover]
        if not streams:
            raise UserError(
                f"{self.path}: has no picture ({len(self.container.streams.audio)} audio streams, "
                "no video stream)"
            )
        usable = [s for s in streams if s.codec_context is not None]
        if not usable:
            raise UserError(f"{self.path}: its video codec is not known to PyAV's FFmpeg")
        # The largest picture, as ffmpeg chooses.
        return max(usable, key=lambda s: (s.codec_context.width or 0) * s.codec_context.height)

    def _find_zero(self) -> float:
        own = self.stream.start_time
        if own is not None and self.container.format.flags & _CLOCK_MAY_JUMP:
            first = self._first_decodable() if len(self.container.streams) == 1 else None
            return (own if first is None else first) * self._tick
        if self.container.start_time is not None:
            return self.container.start_time / av.time_base
        return own * self._tick if own is not None else 0.0

    def _first_decodable(self) -> int | None:
        """The first frame's timestamp, where it is not simply the first packet's."""
        packets = self.packets()
        first = next(packets, None)
        if first is None or first.is_keyframe or not self.has_display_times:
            return None
        # A recording that starts between key frames.
        for packet in itertools.chain([first], packets):
            for frame in self.decode(packet):
                if frame.pts is not None:
                    return frame.pts
        return None

    def time(self, pts: int) -> float:
        """Seconds of a timestamp of the picture."""
        return pts * self._tick - self._zero

    def decode(self, packet: av.Packet[av.VideoStream]) -> list[av.VideoFrame]:
        """The frames that the packet releases; none where it is damaged (counted)."""
        try:
            frames = packet.decode()
        except (av.FFmpegError, OSError, ValueError):
            self.damage += 1
            return []
        self.decoded += len(frames)
        return frames

    @property
    def shape(self) -> tuple[int, int] | None:
        """(height, width) that count instead of the frames' own; None but for proxies."""
        return (self.note.height, self.note.width) if self.note else None

    @property
    def fps(self) -> float:
        """Frames per second by the header; 30 where it says nothing."""
        if self.note is not None:
            return self.note.fps
        for rate in (self.stream.average_rate, self.stream.guessed_rate):
            if rate:
                return float(rate)
        return 30.0

    @property
    def end_by_header(self) -> float:
        """When the last frame ends by the header, which may be wrong; 0 where it is silent."""
        if self.note is not None:
            return self.note.end
        if self.stream.duration:
            return self.start + self.stream.duration * self._tick
        return (self.container.duration or 0) / av.time_base

    def close(self) -> None:
        """Closes the file."""
        self.container.close()

    def seek(self, second: float) -> None:
        """Moves to the last key frame at or before ``second``, as far as the index knows.

        Where the landing really is shows in the packets.
        """
        self.damage = 0
        try:
            offset = int((second + self._zero) // self._tick)
            self.container.seek(offset, stream=self.stream, backward=True)
            self._pristine = False
        except (av.FFmpegError, OSError, OverflowError):
            self.rewind()

    def rewind(self) -> None:
        """Moves to the very first packet, by opening anew: the one way that never misses."""
        self.damage = 0
        if not self._pristine:
            self.container.close()
            self._open()

    def packets(self) -> Iterator[av.Packet[av.VideoStream]]:
        """Packets of the picture from here on, the last of them the empty one that flushes."""
        self._pristine = False
        errors = 0
        while errors < _MAX_READ_ERRORS:
            try:
                for packet in self.container.demux(self.stream):
                    errors = 0
                    yield packet
                return
            except (av.FFmpegError, OSError):
                errors += 1
                self.damage += 1

    def find_end(self) -> float:
        """Display time at which the last packet in the file ends, found from the end backwards.

        Headers may claim more than the file holds (a recording or a download cut short).
        """
        if self.note is not None:
            return self.note.end
        claimed = max(self.end_by_header, (self.container.duration or 0) / av.time_base)
        back = 1.0
        while claimed - back > self.start:
            self.seek(claimed - back)
            end = self._last_end()
            if end is not None:
                return end
            back *= 4
        self.rewind()
        return self._last_end() or 0.0

    def _last_end(self) -> float | None:
        end = None
        for packet in self.packets():
            if packet.pts is not None and not packet.is_discard:
                length = (packet.duration or 0) * self._tick or 1 / self.fps
                end = max(end or 0.0, self.time(packet.pts) + length)
        return end


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
