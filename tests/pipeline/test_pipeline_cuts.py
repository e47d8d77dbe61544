"""Cuts are found; motion, pans, noise and slow fades are not taken for cuts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avadet.pipeline import ShotCuts
from avadet.video.reader import open_video


def seen(frames: list[np.ndarray], fps: float = 10.0) -> list[float]:
    cuts = ShotCuts()
    for k, frame in enumerate(frames):
        cuts.see(k / fps, frame)
    return cuts.seconds


def place(seed: int) -> np.ndarray:
    """A wall of a few colours, twice as wide as the picture."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (4, 12, 3), np.uint8)
    return np.kron(small, np.ones((20, 20, 1), np.uint8))


def test_a_cut_is_put_between_the_two_frames() -> None:
    a, b = place(0)[:, :120], place(1)[:, :120]
    assert seen([a] * 10 + [b] * 10) == [pytest.approx(0.95)]


def test_camera_pans_and_noise_are_no_cuts() -> None:
    rng = np.random.default_rng(0)
    wall = place(2)
    frames = []
    for k in range(60):
        frame = wall[:, 2 * k : 2 * k + 120].astype(int) + rng.integers(-20, 20, (80, 120, 3))
        frames.append(np.clip(frame, 0, 255).astype(np.uint8))
    assert seen(frames) == []


def test_a_slow_fade_is_no_cut_and_a_flicker_of_changes_raises_the_bar() -> None:
    wall = place(3)[:, :120]
    assert seen([(wall * (1 - k / 40)).astype(np.uint8) for k in range(40)]) == []
    busy = [place(k)[:, :120] for k in range(20)]
    assert len(seen(busy)) < 10


def test_a_flash_is_no_cut() -> None:
    wall = place(4)[:, :120]
    flash = np.full_like(wall, 255)
    assert seen([wall] * 10 + [flash] + [wall] * 10) == []


def test_cuts_are_handed_out_once() -> None:
    cuts = ShotCuts()
    for k, frame in enumerate([place(0)] * 5 + [place(1)] * 5 + [place(2)] * 5):
        cuts.see(float(k), frame)
    assert cuts.between(-np.inf, 6) == [4.5]
    assert cuts.between(6, 20) == [9.5]
    assert cuts.between(20, 30) == []


def test_a_single_shot_with_people_walking_through_has_no_cut(shared: Path) -> None:
    path = shared / "data" / "clips" / "intel_one-by-one-person-detection.mp4"
    cuts = ShotCuts()
    with open_video(path) as reader:
        for second, frame in reader.stream(np.arange(0, 40, 0.2), short_side=64):
            cuts.see(second, frame)
    assert cuts.seconds == []
