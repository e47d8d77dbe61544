"""Which moments of a movie make a clip: index arithmetic only, no files.

Time runs in seconds of the movie. Clips are cut on a regular grid (30 points per second unless
said otherwise), because the public weights were trained on frames extracted at 30 per second;
grid point ``k`` lies at ``k / fps``. Halves are always rounded up, as the extraction did.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

GRID_FPS = 30.0

# Two moments closer than this are one: well under the finest time base in use (1/90000 s), well
# over the error of float64 seconds in a movie of a day.
SAME_TIME = 1e-6


def grid_indices(seconds: ArrayLike, fps: float = GRID_FPS) -> NDArray[np.int64]:
    """The nearest grid points, halves up.

    Shape: (...) seconds -> (...) int64.
    """
    times = np.asarray(seconds, dtype=np.float64)
    return np.floor(times * fps + 0.5 + SAME_TIME * fps).astype(np.int64)


def grid_index(second: float, fps: float = GRID_FPS) -> int:
    """The nearest grid point, halves up."""
    return int(grid_indices(second, fps))


def clip_seconds(
    second: float, num_frames: int, frame_stride: int, fps: float = GRID_FPS
) -> NDArray[np.float64]:
    """Grid times of the clip of ``num_frames`` whose frame ``num_frames // 2`` is the keyframe.

    For an even number of frames this is PySlowFast's ``range(centre - span // 2, centre +
    span // 2, stride)``. Times before the start or after the end of the movie are left as they
    are: readers repeat the edge frames.

    Shape: (num_frames,) seconds.

    Raises:
        ValueError: a count below 1.
    """
    _check_counts(num_frames, frame_stride)
    first = grid_index(second, fps) - frame_stride * (num_frames // 2)
    return (first + frame_stride * np.arange(num_frames)) / fps


def view_seconds(
    duration: float,
    num_frames: int,
    frame_stride: int,
    view: int,
    num_views: int,
    fps: float = GRID_FPS,
    reach_end: bool = False,
) -> NDArray[np.float64]:
    """Grid times of one of ``num_views`` clips spread over a whole video, for classification.

    As in PySlowFast: with ``slack = frames - num_frames * frame_stride`` the view starts at
    ``slack * view / num_views`` (the last view does not reach the end) or, with ``reach_end``
    (its "offset sampling"), at ``view * floor(slack / (num_views - 1))``, or at half the slack
    for a single view; its frames are ``num_frames`` points spread evenly from the start to
    ``num_frames * frame_stride - 1`` later, truncated to the grid.

    Args:
        duration: length of the video in seconds.

    Shape: (num_frames,) seconds.

    Raises:
        ValueError: a count below 1, or a view that does not exist.
    """
    _check_counts(num_frames, frame_stride)
    if not 0 <= view < num_views:
        raise ValueError(f"view {view} of {num_views} does not exist")
    slack = max(_length(duration, fps) - num_frames * frame_stride, 0)
    if not reach_end:
        start = slack * view / num_views
    elif num_views == 1:
        start = float(slack // 2)
    else:
        start = float(view * (slack // (num_views - 1)))
    return _spread(start, duration, num_frames, frame_stride, fps)


def random_view_seconds(
    duration: float,
    num_frames: int,
    frame_stride: int,
    position: float,
    fps: float = GRID_FPS,
) -> NDArray[np.float64]:
    """Grid times of a training clip that starts at the share ``position`` of the slack.

    Args:
        position: in [0,1), drawn uniformly by the caller.

    Shape: (num_frames,) seconds.
    """
    _check_counts(num_frames, frame_stride)
    slack = max(_length(duration, fps) - num_frames * frame_stride, 0)
    return _spread(slack * position, duration, num_frames, frame_stride, fps)


def strided_view_seconds(
    duration: float,
    num_frames: int,
    frame_stride: int,
    view: int,
    num_views: int,
    fps: float = GRID_FPS,
) -> NDArray[np.float64]:
    """Grid times of one of ``num_views`` clips from the first frame to the last, for Charades.

    As in PySlowFast's Charades reader: a clip spans ``(num_frames - 1) * frame_stride + 1`` grid
    points, view ``i`` starts at ``i / (num_views - 1)`` of the slack (halves to even, as Python
    rounds), and its frames are exactly ``frame_stride`` apart, the last frame repeated where the
    video is too short. A single view lies in the middle.

    Shape: (num_frames,) seconds.

    Raises:
        ValueError: a count below 1, or a view that does not exist.
    """
    _check_counts(num_frames, frame_stride)
    if not 0 <= view < num_views:
        raise ValueError(f"view {view} of {num_views} does not exist")
    slack = max(_length(duration, fps) - ((num_frames - 1) * frame_stride + 1), 0)
    start = slack // 2 if num_views == 1 else round(slack / (num_views - 1) * view)
    return _strided(start, duration, num_frames, frame_stride, fps)


def random_strided_seconds(
    duration: float,
    num_frames: int,
    frame_stride: int,
    position: float,
    fps: float = GRID_FPS,
) -> NDArray[np.float64]:
    """Grid times of a training clip of Charades; all whole starts are as likely.

    In a video shorter than the clip the start may lie before the first frame, which then repeats.

    Args:
        position: in [0,1), drawn uniformly by the caller.

    Shape: (num_frames,) seconds.
    """
    _check_counts(num_frames, frame_stride)
    slack = _length(duration, fps) - ((num_frames - 1) * frame_stride + 1)
    start = int(position * (abs(slack) + 1)) + min(slack, 0)
    return _strided(start, duration, num_frames, frame_stride, fps)


def nearest_indices(frame_seconds: ArrayLike, wanted: ArrayLike) -> NDArray[np.int64]:
    """For each wanted moment the index of the nearest frame; the later one of two as near.

    Args:
        frame_seconds: (M,) increasing, at least one.
        wanted: (T,) in any order.

    Shape: (T,) int64.
    """
    frames = np.asarray(frame_seconds, dtype=np.float64)
    times = np.asarray(wanted, dtype=np.float64)
    right = np.clip(np.searchsorted(frames, times - SAME_TIME), 0, len(frames) - 1)
    left = np.maximum(right - 1, 0)
    take_left = times - frames[left] < frames[right] - times - SAME_TIME
    return np.where(take_left, left, right).astype(np.int64)


def clamp_to_window(
    indices: NDArray[np.int64], window: tuple[float, float] | None, fps: float = GRID_FPS
) -> NDArray[np.int64]:
    """Grid points held inside ``[start, end)`` seconds: what lies outside repeats the edge.

    AVA's extracted frames cover the seconds 900 to 1801 of a movie, so that
    ``window=(900, 1801)`` gives their edges.

    Raises:
        ValueError: the window holds no grid point.
    """
    if window is None:
        return indices
    first, last = grid_index(window[0], fps), grid_index(window[1], fps) - 1
    if last < first:
        raise ValueError(f"window {window} is empty")
    return np.clip(indices, first, last)


def _check_counts(num_frames: int, frame_stride: int) -> None:
    if num_frames < 1 or frame_stride < 1:
        raise ValueError(f"num_frames {num_frames} and frame_stride {frame_stride} must be >= 1")


def _length(duration: float, fps: float) -> int:
    return max(grid_index(duration, fps), 1)


def _spread(
    start: float, duration: float, num_frames: int, frame_stride: int, fps: float
) -> NDArray[np.float64]:
    points = np.linspace(start, start + num_frames * frame_stride - 1, num_frames)
    return np.clip(points, 0, _length(duration, fps) - 1).astype(np.int64) / fps


def _strided(
    start: int, duration: float, num_frames: int, frame_stride: int, fps: float
) -> NDArray[np.float64]:
    points = start + frame_stride * np.arange(num_frames)
    return np.clip(points, 0, _length(duration, fps) - 1) / fps
