"""Drawn people for the tests: bright upright bars on a dark ground, and movies of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from avadet.persons.base import PersonBoxes
from avadet.structures import Keyframe
from avadet.video.writer import VideoWriter


def picture(rng: np.random.Generator, people: int, height: int = 96, width: int = 128):
    """An RGB picture (H,W,3) uint8 and its people (N,4) float32 px."""
    frame = rng.integers(0, 60, (height, width, 3)).astype(np.uint8)
    boxes = []
    for place in range(people):
        side = width // max(people, 1)
        x1 = place * side + int(rng.integers(0, side // 4 + 1))
        y1 = int(rng.integers(4, height // 4))
        x2 = x1 + side // 2
        y2 = int(rng.integers(3 * height // 4, height - 2))
        frame[y1:y2, x1:x2] = rng.integers(180, 250, 3)
        boxes.append([x1, y1, x2, y2])
    return frame, np.asarray(boxes, np.float32).reshape(-1, 4)


class DrawnPictures:
    """A source of pictures as the training wants it."""

    def __init__(self, count: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.drawn = [picture(rng, int(rng.integers(1, 3))) for _ in range(count)]
        self.keyframes = [Keyframe("drawn", float(i)) for i in range(count)]

    def __len__(self) -> int:
        return len(self.drawn)

    def picture(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.drawn[index]


def write_movie(path: Path, seconds: float, fps: int = 10, size: tuple[int, int] = (48, 64)):
    """A movie whose grey grows by 10 every second."""
    with VideoWriter(path, size[1], size[0], fps) as writer:
        for index in range(round(seconds * fps)):
            value = 20 + 10 * (index // fps)
            writer.write(np.full((*size, 3), value, np.uint8))
    return path


class CountingDetector:
    """Finds one person per frame, whose box tells how bright the frame is."""

    def __init__(self, fail_after: int | None = None) -> None:
        self.frames = 0
        self.fail_after = fail_after

    def detect(self, frames: Sequence[np.ndarray]) -> list[PersonBoxes]:
        self.frames += len(frames)
        if self.fail_after is not None and self.frames > self.fail_after:
            raise KeyboardInterrupt
        answers = []
        for frame in frames:
            side = float(round(float(frame.mean()))) / 10
            answers.append(
                PersonBoxes(np.array([[0, 0, side, side]], np.float32), np.array([0.9], np.float32))
            )
        return answers
