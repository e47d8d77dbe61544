"""Changes of shot, found in passing.

Nobody is followed across a cut and no box glides over one, so the demo must know where they are.
The colours of a picture (a histogram of 4x4x4 bins) hardly change under motion and camera pans,
but jump at a cut. A single threshold would call every flash or fast pan a cut, so a jump must
also stand out from the changes just before it.
"""

from __future__ import annotations

from collections import deque

import numpy as np


class ShotCuts:
    """Collects cuts from frames shown in movie order.

    A cut is certain once the frame after it differs from the frame before it as well; the light
    of a flash is gone by then.

    Args:
        threshold: share of pixels that must change their colour bin, 0..1.
        contrast: how many times the usual change of the last frames it must be.
    """

    def __init__(self, threshold: float = 0.35, contrast: float = 4.0) -> None:
        self.threshold, self.contrast = threshold, contrast
        self.seconds: list[float] = []
        self._last: tuple[float, np.ndarray] | None = None
        self._changes: deque[float] = deque(maxlen=15)
        # The time of a cut that is not certain yet, and the colours before it.
        self._possible: tuple[float, np.ndarray] | None = None

    def see(self, second: float, frame: np.ndarray) -> None:
        """Takes the next frame (H,W,3) uint8; a cut is put half-way to the frame before."""
        colors = _colors(frame)
        flash = False
        if self._possible is not None:
            cut, before = self._possible
            flash = _change(colors, before) <= self.threshold
            if not flash:
                self.seconds.append(cut)
            self._possible = None
        if self._last is not None:
            change = _change(colors, self._last[1])
            usual = float(np.median(self._changes)) if self._changes else 0.0
            if change > self.threshold and change > self.contrast * usual and not flash:
                self._possible = ((self._last[0] + second) / 2, self._last[1])
            self._changes.append(change)
        self._last = (second, colors)

    def between(self, after: float, until: float) -> list[float]:
        """Cuts in (``after``, ``until``]; those before are forgotten."""
        self.seconds = [cut for cut in self.seconds if cut > after]
        return [cut for cut in self.seconds if cut <= until]


def _change(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).sum()) / 2


def _colors(frame: np.ndarray) -> np.ndarray:
    """(64,) shares of the pixels in each bin; about 4,000 pixels are looked at."""
    step = max(1, round((frame.shape[0] * frame.shape[1] / 4000) ** 0.5))
    pixels = frame[::step, ::step].reshape(-1, 3) >> 6
    bins = (pixels[:, 0] << 4) | (pixels[:, 1] << 2) | pixels[:, 2]
    return np.bincount(bins, minlength=64) / len(bins)
