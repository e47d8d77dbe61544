"""Frame keys: when two rows of two files speak of the same keyframe.

A key is the video id and the timestamp brought to one spelling: six decimals in the current
official revision (902, 0902, 902.0 and 902.0000001 are one frame), a whole number with four
digits in all older ones (where 902.0 is an error).
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation

import numpy as np

from avadet.errors import UserError
from avadet.evaluation.tables import Bools, BoxTable, Codes, Ints

# Above this many (video, time) pairs the table of frames is searched instead of indexed.
_DENSE_LIMIT = 50_000_000


def spell_time(text: str, whole_seconds: bool) -> str:
    """Brings a timestamp to the spelling that keys are compared by.

    Raises:
        ValueError: it is no finite number, or no whole one where that is asked.
    """
    if whole_seconds:
        return f"{int(text):04d}"
    try:
        number = float(Decimal(text))
    except (InvalidOperation, OverflowError) as error:
        raise ValueError(text) from error
    if not np.isfinite(number):
        raise ValueError(text)
    return f"{number:.6f}"


class FrameIndex:
    """Numbers the frames of several tables with one numbering."""

    def __init__(self, tables: list[BoxTable], whole_seconds: bool) -> None:
        self._whole = whole_seconds
        self._videos: dict[str, int] = {}
        self._times: dict[str, int] = {}
        self._maps: dict[int, tuple[Ints, Ints]] = {}
        for table in tables:
            video_map = [self._videos.setdefault(v, len(self._videos)) for v in table.videos]
            time_map = [
                self._times.setdefault(self._spell(table, i), len(self._times))
                for i in range(len(table.times))
            ]
            self._maps[id(table)] = (
                np.array(video_map, dtype=np.int64),
                np.array(time_map, dtype=np.int64),
            )
        self.videos = tuple(self._videos)
        self.times = tuple(self._times)

    def _spell(self, table: BoxTable, code: int) -> str:
        text = table.times[code]
        try:
            return spell_time(text, self._whole)
        except ValueError:
            rows = np.flatnonzero(table.time == code)
            if len(rows):
                where = table.where(int(rows[0]))
            else:
                bare = int(table.bare_lines[table.bare_time == code][0])
                where = f"{table.source}:{bare}"
        try:
            spell_time(text, False)
        except ValueError:
            raise UserError(
                f"{where}: timestamp {text!r} is no number of seconds; write 902 or 902.5"
            ) from None
        raise UserError(
            f"{where}: timestamp {text!r} is no whole number, which this protocol needs; "
            "write 902, or use protocol official or head"
        )

    @property
    def size(self) -> int:
        """The number of (video, time) pairs, present or not."""
        return max(1, len(self.videos) * len(self.times))

    def ids(self, table: BoxTable, piece: slice = slice(None)) -> Ints:
        """Frame ids (N,) of the rows of a table given at construction, or of some of them."""
        return self._combine(table, table.video[piece], table.time[piece])

    def bare_ids(self, table: BoxTable) -> Ints:
        """Frame ids (B,) of its rows that only name a keyframe."""
        return self._combine(table, table.bare_video, table.bare_time)

    def _combine(self, table: BoxTable, video: Codes, time: Codes) -> Ints:
        video_map, time_map = self._maps[id(table)]
        if not len(video):
            return np.zeros(0, dtype=np.int64)
        return np.asarray((video_map * len(self.times))[video] + time_map[time])

    def name(self, frame: int) -> tuple[str, float]:
        """The video and second of a frame id."""
        video, time = divmod(int(frame), len(self.times))
        return self.videos[video], float(self.times[time])

    def tie_keys(self, ids: Ints) -> Ints:
        """A number per frame id that grows with the second and, among equal seconds, the video."""
        by_time = sorted(range(len(self.times)), key=lambda i: float(self.times[i]))
        by_video = sorted(range(len(self.videos)), key=lambda i: self.videos[i])
        time_place = np.empty(len(by_time), dtype=np.int64)
        time_place[by_time] = np.arange(len(by_time)) * len(by_video)
        video_place = np.empty(len(by_video), dtype=np.int64)
        video_place[by_video] = np.arange(len(by_video))
        if not len(ids):
            return ids
        if self.size <= _DENSE_LIMIT:
            return np.add.outer(video_place, time_place).reshape(-1)[ids]
        video, time = np.divmod(ids, len(self.times))
        return np.asarray(video_place[video] + time_place[time])

    def membership(self, chosen: Ints) -> Callable[[Ints], Bools]:
        """A function that tells which frame ids are among ``chosen``."""
        if self.size > _DENSE_LIMIT:
            distinct = np.unique(chosen)
            return lambda ids: np.isin(ids, distinct)
        present = np.zeros(self.size, dtype=bool)
        present[chosen] = True
        return lambda ids: present[ids]
