"""Decoding from where a movie stands, in display order, surviving damage.

What was measured before choosing this: one decoder thread, frames chosen by timestamp and
non-reference frames skipped outside the wanted moments is the cheapest reader that returns the
right frames on every kind of file; seeking alone cannot be trusted (MPEG-TS lands after the
target, the index of an mp4 is in decoding order).
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator

import av
import numpy as np
from av.video.frame import PictureType

from avadet.video.movie import Movie
from avadet.video.sampling import SAME_TIME

# After so many frames without a key frame a damaged picture has been repainted or never will be.
_LONGEST_DISTRUST = 300


class FrameDecoder:
    """One pass over the frames of a movie.

    Args:
        movie: decoding starts where it stands.
        wanted: increasing times; where given, frames further from all of them than a good half
            frame may be left out where no other frame depends on them.
        from_key_before: the time that the first key frame must not exceed. Packets before that
            key frame belong to pictures whose references were not read and are dropped; a key
            frame that comes later ends the pass without a frame: the seek landed too late.
        trusting: also give the pictures made from damaged ones. Otherwise nothing is shown from
            a failure on until the next intra frame: decoders conceal damage by repeating old
            pictures under new timestamps.

    Attributes:
        skipped: display times of the packets that were left out, sorted.
    """

    def __init__(
        self,
        movie: Movie,
        wanted: np.ndarray | None = None,
        from_key_before: float | None = None,
        trusting: bool = False,
    ) -> None:
        self.skipped: list[float] = []
        self._movie = movie
        # Without display times nobody knows which packet is wanted.
        may_skip = wanted is not None and movie.has_display_times
        self._wanted = wanted.tolist() if wanted is not None and may_skip else None
        self._margin = 0.55 / movie.fps + 0.001
        self._from_key_before = from_key_before
        self._trusting = trusting
        # Time from which pictures are made of damaged ones, and how many were dropped.
        self._damaged_from = np.inf
        self._distrusted = 0
        self._first_sent: int | None = None
        self._delay: int | None = None
        self._last = -np.inf

    def __iter__(self) -> Iterator[tuple[float, av.VideoFrame]]:
        """Yields (seconds, frame), strictly increasing."""
        context = self._movie.stream.codec_context
        context.skip_frame = "DEFAULT"
        skipping = False
        earliest = -np.inf
        waiting = self._from_key_before is not None
        for packet in self._movie.packets():
            time = self._packet_time(packet)
            if waiting:
                if not packet.is_keyframe or time is None:
                    continue
                if self._from_key_before is None or time > self._from_key_before + SAME_TIME:
                    return
                waiting, earliest = False, time - SAME_TIME
            if self._wanted is not None:
                skip = time is not None and not packet.is_discard and not self._is_wanted(time)
                if skip and time is not None:
                    bisect.insort(self.skipped, time)
                if skip != skipping:
                    context.skip_frame = "NONREF" if skip else "DEFAULT"
                    skipping = skip
            if self._first_sent is None:
                self._first_sent = packet.dts
            before = self._movie.damage
            frames = self._movie.decode(packet)
            if self._movie.damage > before and time is not None:
                self._damaged_from = min(self._damaged_from, time)
            for frame in frames:
                now = self._frame_time(frame)
                if now > self._last + SAME_TIME and now >= earliest and self._is_sound(frame, now):
                    self._last = now
                    yield now, frame

    def _packet_time(self, packet: av.Packet[av.VideoStream]) -> float | None:
        stamp = packet.pts if self._movie.has_display_times else packet.dts
        return None if stamp is None else self._movie.time(stamp)

    def _is_wanted(self, time: float) -> bool:
        assert self._wanted is not None
        place = bisect.bisect_left(self._wanted, time - self._margin)
        return place < len(self._wanted) and self._wanted[place] <= time + self._margin

    def _frame_time(self, frame: av.VideoFrame) -> float:
        if self._delay is None:
            # A frame's dts is that of the packet whose arrival released it.
            self._delay = (frame.dts or 0) - (self._first_sent or 0)
        if frame.pts is not None and self._movie.has_display_times:
            return self._movie.time(frame.pts)
        if frame.dts is not None:
            return self._movie.time(frame.dts - self._delay)
        known = self._last if np.isfinite(self._last) else self._movie.start
        return float(known) + 1 / self._movie.fps

    def _is_sound(self, frame: av.VideoFrame, now: float) -> bool:
        if self._trusting:
            return True
        if frame.is_corrupt:
            self._movie.damage += 1
            self._damaged_from = min(self._damaged_from, now)
            return False
        if now < self._damaged_from:
            return True
        self._distrusted += 1
        intra = frame.key_frame or frame.pict_type == PictureType.I
        if not intra and self._distrusted <= _LONGEST_DISTRUST:
            return False
        self._damaged_from, self._distrusted = np.inf, 0
        return True
