"""An open movie: seeking that is checked, decoding that survives damage, exact timestamps.

What was measured before choosing this: one decoder thread, frames chosen by timestamp and
non-reference frames skipped outside the wanted moments is the cheapest reader that returns the
right frames on every kind of file; seeking alone cannot be trusted (MPEG-TS lands after the
target, the index of an mp4 is in decoding order).
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np

from avadet.errors import UserError
from avadet.video.sampling import SAME_TIME

# libavformat's AVFMT_TS_DISCONT: formats such as MPEG-TS whose clock may jump.
_CLOCK_MAY_JUMP = 0x0200

# A reader that fails this often in a row will not recover.
_MAX_READ_ERRORS = 64


class Movie:
    """The picture of one movie file.

    Time zero is where the ffmpeg program starts to extract: the start of the file, which is the
    earliest start of all its streams, so that a movie whose sound begins half a second before
    its picture has its first frame at 0.5 s. In formats whose clock may jump (MPEG-TS) only the
    picture counts, as in ffmpeg.

    Attributes:
        damage: packets and reads that failed since the last ``seek``.
        skipped: display times of the packets that were not fully decoded since the last ``seek``.
        start: time of the first frame by the header.

    Raises:
        UserError: no such file, not a movie, or a movie without a picture.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage = 0
        self.skipped: list[float] = []
        self._pristine = False
        self._open()

    def _open(self) -> None:
        try:
            self.container = av.open(str(self.path), metadata_errors="ignore")
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
        self._zero = self._find_zero()
        self.start = self._time(self.stream.start_time) if self.stream.start_time else 0.0
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
            return own * self._tick
        if self.container.start_time is not None:
            return self.container.start_time / av.time_base
        return own * self._tick if own is not None else 0.0

    def _time(self, pts: int) -> float:
        return pts * self._tick - self._zero

    @property
    def fps(self) -> float:
        """Frames per second by the header; 30 where it says nothing."""
        for rate in (self.stream.average_rate, self.stream.guessed_rate):
            if rate:
                return float(rate)
        return 30.0

    def close(self) -> None:
        """Closes the file."""
        self.container.close()

    def seek(self, second: float) -> None:
        """Moves to the last key frame at or before ``second``, as far as the index knows.

        Where the landing really is shows in ``frames``.
        """
        self.damage, self.skipped = 0, []
        try:
            offset = int((second + self._zero) // self._tick)
            self.container.seek(offset, stream=self.stream, backward=True)
            self._pristine = False
        except (av.FFmpegError, OSError, OverflowError):
            self.rewind()

    def rewind(self) -> None:
        """Moves to the very first packet, by opening anew: the one way that never misses."""
        self.damage, self.skipped = 0, []
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
        claims = [0.0]
        if self.stream.duration:
            claims.append(self.start + self.stream.duration * self._tick)
        if self.container.duration:
            claims.append(self.container.duration / av.time_base)
        back = 1.0
        while max(claims) - back > self.start:
            self.seek(max(claims) - back)
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
                end = max(end or 0.0, self._time(packet.pts) + length)
        return end

    def frames(
        self,
        wanted: np.ndarray | None = None,
        from_key_before: float | None = None,
    ) -> Iterator[tuple[float, av.VideoFrame]]:
        """Decodes from here on, in display order.

        Args:
            wanted: increasing times; where given, frames further from all of them than a good
                half frame may be left out where no other frame depends on them (``skipped``
                tells which).
            from_key_before: the time that the first key frame must not exceed. Packets before
                that key frame belong to pictures whose references were not read and are dropped;
                a key frame that comes later ends the iteration without a frame: the seek landed
                too late.

        Yields:
            (seconds, frame), strictly increasing.
        """
        wants = _wanted_test(wanted, 0.55 / self.fps + 0.001) if wanted is not None else None
        context = self.stream.codec_context
        context.skip_frame = "DEFAULT"
        earliest = -np.inf
        waiting = from_key_before is not None
        latest_key = np.inf if from_key_before is None else from_key_before + SAME_TIME
        skipping = False
        last = -np.inf
        for packet in self.packets():
            time = None if packet.pts is None else self._time(packet.pts)
            if waiting:
                if not packet.is_keyframe or time is None:
                    continue
                if time > latest_key:
                    return
                waiting, earliest = False, time - SAME_TIME
            if wants is not None:
                skip = time is not None and not packet.is_discard and not wants(time)
                if skip and time is not None:
                    bisect.insort(self.skipped, time)
                if skip != skipping:
                    context.skip_frame = "NONREF" if skip else "DEFAULT"
                    skipping = skip
            for frame in self._decode(packet):
                now = self._frame_time(frame, last)
                if now > last + SAME_TIME and now >= earliest:
                    last = now
                    yield now, frame

    def _decode(self, packet: av.Packet[av.VideoStream]) -> list[av.VideoFrame]:
        try:
            return packet.decode()
        except (av.FFmpegError, OSError, ValueError):
            self.damage += 1
            return []

    def _frame_time(self, frame: av.VideoFrame, last: float) -> float:
        if frame.pts is not None:
            return self._time(frame.pts)
        if frame.dts is not None:
            return self._time(frame.dts)
        return (last if np.isfinite(last) else self.start) + 1 / self.fps


def _wanted_test(wanted: np.ndarray, margin: float) -> Callable[[float], bool]:
    times = wanted.tolist()

    def test(time: float) -> bool:
        place = bisect.bisect_left(times, time - margin)
        return place < len(times) and times[place] <= time + margin

    return test


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
