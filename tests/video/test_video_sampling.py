"""Index arithmetic against numbers written out and a second, naive implementation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avadet.video.sampling import (
    clamp_to_window,
    clip_seconds,
    grid_index,
    grid_indices,
    nearest_indices,
    random_view_seconds,
    view_seconds,
)


def test_grid_rounds_halves_up():
    assert grid_index(902.0) == 27060
    assert grid_index(0.05) == 2  # 1.5
    assert grid_index(-0.05) == -1  # -1.5
    assert grid_index(0.0499) == 1
    assert grid_index(0.5, fps=25) == 13
    assert grid_indices([0, 1 / 30, 0.999]).tolist() == [0, 1, 30]


def test_clip_is_that_of_pyslowfast():
    for frames, stride in [(32, 2), (8, 8), (64, 1), (4, 16), (16, 4)]:
        centre, half = 902 * 30, frames * stride // 2
        expected = list(range(centre - half, centre + half, stride))
        got = np.rint(clip_seconds(902, frames, stride) * 30).astype(int).tolist()
        assert got == expected
        assert got[frames // 2] == centre


def test_clip_of_an_odd_number_of_frames_has_them_all():
    assert np.rint(clip_seconds(1, 5, 3) * 30).astype(int).tolist() == [24, 27, 30, 33, 36]
    assert np.rint(clip_seconds(1, 1, 7) * 30).astype(int).tolist() == [30]


def test_views_start_as_published():
    # 300 frames, clips of 64: slack 236, 10 views start at 0, 23.6, 47.2, ...
    first = [view_seconds(10, 32, 2, view, 10)[0] * 30 for view in range(10)]
    assert np.allclose(first, np.floor(np.arange(10) * 23.6))
    # Points are spread from the start to 63 later, truncated: not a stride of 8.
    assert np.rint(view_seconds(10, 8, 8, 0, 10) * 30).tolist() == [0, 9, 18, 27, 36, 45, 54, 63]
    ends = [view_seconds(10, 32, 2, view, 10, reach_end=True)[0] * 30 for view in range(10)]
    assert np.allclose(ends, np.arange(10) * 26)
    assert view_seconds(10, 32, 2, 0, 1, reach_end=True)[0] * 30 == pytest.approx(118)


def test_views_of_short_videos_repeat_the_last_frame():
    times = view_seconds(1.0, 32, 2, 9, 10)
    assert times[0] == 0
    assert times[-1] == pytest.approx(29 / 30)
    assert random_view_seconds(1.0, 32, 2, 0.9).max() == pytest.approx(29 / 30)


@given(st.floats(0.1, 60), st.floats(0, 0.999), st.integers(1, 40), st.integers(1, 9))
def test_random_views_stay_inside(duration, position, frames, stride):
    times = random_view_seconds(duration, frames, stride, position)
    assert len(times) == frames
    assert times.min() >= 0
    assert times.max() <= max(duration, 1 / 30)
    assert (np.diff(times) >= 0).all()


@given(
    st.lists(st.integers(0, 2000), min_size=1, max_size=40, unique=True),
    st.lists(st.integers(-50, 2100), min_size=1, max_size=40),
)
def test_nearest_against_a_loop(frames, wanted):
    frames = sorted(frames)
    expected = [
        max(range(len(frames)), key=lambda place: (-abs(frames[place] - time), place))
        for time in wanted
    ]
    got = nearest_indices(np.asarray(frames) / 600, np.asarray(wanted) / 600)
    assert got.tolist() == expected


@pytest.mark.parametrize("fps", [24, 25, 30000 / 1001, 30, 60])
def test_nearest_is_the_published_rounding(fps):
    grid = np.arange(3000)
    frames = np.arange(int(3100 * fps / 30) + 5)
    got = nearest_indices(frames / fps, grid / 30)
    assert (got == np.floor(grid * fps / 30 + 0.5 + 1e-9)).all()


def test_window_repeats_its_edges():
    indices = np.arange(26998, 27004)
    window = (900, 901)
    assert clamp_to_window(indices, window).tolist() == [27000, 27000, 27000, 27001, 27002, 27003]
    assert clamp_to_window(np.asarray([27031]), window).tolist() == [27029]
    assert clamp_to_window(indices, None) is indices
    with pytest.raises(ValueError, match="empty"):
        clamp_to_window(indices, (1, 1))


def test_counts_below_one_are_refused():
    with pytest.raises(ValueError, match="num_frames"):
        clip_seconds(1, 0, 1)
    with pytest.raises(ValueError, match="view 3 of 3"):
        view_seconds(1, 8, 1, 3, 3)
