"""From wanted times to the frames nearest to them, in one pass over a movie."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from typing import NamedTuple

import av
import numpy as np

from avadet.video.decoding import FrameDecoder
from avadet.video.movie import Movie
from avadet.video.sampling import SAME_TIME

# First step back, in seconds, where a seek landed after its target; doubled until it does not.
_STEP_BACK = 0.5


class Choice(NamedTuple):
    """The frame for one wanted time.

    Attributes:
        place: of the wanted time.
        time: of the frame.
        frame: the decoded frame.
        exact: false where a frame that was left out lies nearer; decode again without leaving out.
    """

    place: int
    time: float
    frame: av.VideoFrame
    exact: bool


def choose_frames(movie: Movie, wanted: np.ndarray, skip: bool = True) -> Iterator[Choice]:
    """Yields the choice for each wanted time, in order; nothing where no frame can be decoded.

    The nearest frame is chosen, the later one of two as near; before the first and after the last
    frame the edge repeats. Pictures made from damaged ones are used only where there are no
    others in the whole movie.

    Args:
        wanted: (T,) increasing times.
        skip: leave out frames that are not wanted and that no other frame depends on.
    """
    found = False
    for trusting in (False, True):
        for choice in _choose(movie, wanted, skip, trusting):
            found = True
            yield choice
        if found or not movie.damage:
            return


def _choose(movie: Movie, wanted: np.ndarray, skip: bool, trusting: bool) -> Iterator[Choice]:
    decoder, frames = _start(movie, wanted, skip, trusting)
    margin = 0.5 / movie.fps + 0.001
    times = wanted.tolist()
    place = 0
    before: tuple[float, av.VideoFrame] | None = None

    def choice(now: tuple[float, av.VideoFrame]) -> Choice:
        return Choice(place, *now, _is_exact(times[place], now[0], decoder.skipped, margin))

    for now in frames:
        while place < len(times) and times[place] <= now[0] + SAME_TIME:
            to_next = now[0] - times[place] - movie.same
            is_past = before is not None and times[place] - before[0] < to_next
            yield choice(before if before is not None and is_past else now)
            place += 1
        if place == len(times):
            return
        before = now
    while before is not None and place < len(times):
        yield choice(before)
        place += 1


def _start(
    movie: Movie, wanted: np.ndarray, skip: bool, trusting: bool
) -> tuple[FrameDecoder, Iterator[tuple[float, av.VideoFrame]]]:
    """Frames from one at or before the first wanted time on, else from the first there is."""
    target = max(float(wanted[0]), movie.start)
    keep = _kept(movie, wanted) if skip else None
    back = 0.0
    while target - back >= movie.start - SAME_TIME:
        movie.seek(target - back)
        decoder = FrameDecoder(movie, keep, from_key_before=target, trusting=trusting)
        frames = iter(decoder)
        first = next(frames, None)
        if first is not None and first[0] <= target + SAME_TIME:
            return decoder, _chain(first, frames)
        # The seek landed after the target, or where nothing can be decoded.
        back = 2 * back if back else _STEP_BACK
    movie.rewind()
    decoder = FrameDecoder(movie, keep, trusting=trusting)
    return decoder, iter(decoder)


def _kept(movie: Movie, wanted: np.ndarray) -> np.ndarray:
    """The times whose frames must not be left out, increasing.

    What is wanted after the end is answered by the last frame, which would seem to be wanted by
    nobody.
    """
    last = movie.end_by_header - 1 / movie.fps
    return wanted if wanted[-1] <= last else np.sort(np.append(wanted, last))


def _chain(
    first: tuple[float, av.VideoFrame], rest: Iterator[tuple[float, av.VideoFrame]]
) -> Iterator[tuple[float, av.VideoFrame]]:
    yield first
    yield from rest


def _is_exact(wanted: float, chosen: float, skipped: list[float], margin: float) -> bool:
    """Whether none of the frames that were left out lies nearer to ``wanted``."""
    distance = abs(wanted - chosen)
    if distance <= margin:
        return True
    place = bisect.bisect_left(skipped, wanted - distance - SAME_TIME)
    return place == len(skipped) or skipped[place] > wanted + distance + SAME_TIME
