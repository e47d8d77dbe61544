"""Clips cut from frames that pass once: what neighbouring clips share is decoded once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np


class FrameRing:
    """Holds the frames of the present clip while a movie passes.

    Args:
        passing: (grid point, (H,W,3) frame), each grid point that some clip needs once, in
            increasing order.
    """

    def __init__(self, passing: Iterator[tuple[int, np.ndarray]]) -> None:
        self._passing = passing
        self._frames: dict[int, np.ndarray] = {}
        self._newest = -np.inf

    def clip(self, points: np.ndarray) -> np.ndarray:
        """The frames at increasing grid points, repeats allowed; a clip never begins before the
        one asked for last.

        Shape: (T,) -> (T,H,W,3).

        Raises:
            ValueError: a point did not pass.
        """
        self.advance(int(points[-1]), keep_from=int(points[0]))
        try:
            return np.stack([self._frames[point] for point in points.tolist()])
        except KeyError as error:
            raise ValueError(f"grid point {error} does not pass, or has passed") from None

    def advance(self, until: int, keep_from: float = np.inf) -> None:
        """Lets frames pass up to a grid point; holds those from ``keep_from`` on, no others."""
        for old in [point for point in self._frames if point < keep_from]:
            del self._frames[old]
        while self._newest < until:
            point, frame = next(self._passing, (None, None))
            if point is None or frame is None:
                return
            self._newest = point
            if point >= keep_from:
                self._frames[point] = frame


def points_of_all(clips: Sequence[np.ndarray]) -> list[int]:
    """The grid points of all clips, each once, in order."""
    return np.unique(np.concatenate(clips)).tolist() if clips else []
