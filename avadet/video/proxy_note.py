"""What a proxy movie says of the movie it stands for, written into the comment of the file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

_MARK = "avadet proxy "


@dataclass(frozen=True)
class ProxyNote:
    """The clock and the size of the original: readers of the proxy answer with these.

    Attributes:
        start: time of the original's first frame in its own clock; the proxy's is at tick 0.
        same: times no further apart than this are one, see ``Movie.same``.
        end: when the last packet of the original ends.
        fps: frames per second by the original's header.
        height, width: pixels of the original as displayed; sizes asked for by the short side
            follow its shape, whatever the proxy was rounded to.
        source_bytes: size of the original's file.
        settings: how the proxy was made.
    """

    start: float
    same: float
    end: float
    fps: float
    height: int
    width: int
    source_bytes: int
    settings: str

    def comment(self) -> str:
        """The text kept in the file. Numbers are read back as they were."""
        return _MARK + json.dumps(asdict(self), allow_nan=False, separators=(",", ":"))

    @classmethod
    def find(cls, metadata: Mapping[str, str]) -> ProxyNote | None:
        """The note in a file's metadata; None where there is none that makes sense."""
        text = metadata.get("comment", "")
        if not text.startswith(_MARK):
            return None
        try:
            values = json.loads(text[len(_MARK) :])
            note = cls(**values)
            numbers = (note.start, note.same, note.end, note.fps)
            sound = all(math.isfinite(number) for number in numbers) and note.fps > 0
            sound &= min(int(note.height), int(note.width)) > 0 <= note.same
        except (ValueError, TypeError, OverflowError):
            return None
        return note if sound else None
