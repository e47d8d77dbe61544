"""Small movies, a person detector that knows the answer, and a tiny action model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from avadet.models.description import ModelDescription, create
from avadet.models.preprocess import Preprocessing
from avadet.persons import PersonBoxes
from avadet.pipeline import ActionScorer
from avadet.video.writer import VideoWriter

NAMES = ("stand", "walk", "watch (a person)")


class SquareDetector:
    """Finds the bright squares that ``write_movie`` draws."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def detect(self, frames: Sequence[np.ndarray]) -> list[PersonBoxes]:
        self.calls.append(len(frames))
        found = []
        for frame in frames:
            rows, columns = np.nonzero(frame.min(axis=2) > 200)
            boxes = np.zeros((0, 4), np.float32)
            if len(rows):
                box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
                boxes = np.array([box], np.float32)
            found.append(PersonBoxes(boxes, np.full(len(boxes), 0.9, np.float32)))
        return found


def square_left(second: float, width: int) -> float:
    """Where the square stands: it crosses the picture in ten seconds."""
    return width * (0.1 + 0.06 * second)


def write_movie(
    path: Path,
    *,
    frames: int = 90,
    fps: float = 30.0,
    width: int = 96,
    height: int = 72,
    visible: Callable[[float], bool] = lambda second: True,
) -> Path:
    rng = np.random.default_rng(0)
    background = rng.integers(0, 120, (height, width, 3), np.uint8)
    with VideoWriter(path, width, height, fps, crf=12, gop=12) as writer:
        for k in range(frames):
            frame = np.roll(background, k, axis=1)
            if visible(k / fps):
                left = round(square_left(k / fps, width))
                frame[height // 4 : -height // 8, left : left + width // 4] = 250
            writer.write(frame)
    return path


def tiny_model(
    *, num_frames: int = 8, frame_stride: int = 2, short_side: int = 64, seed: int = 0
) -> torch.nn.Module:
    """An action detector as it is trained and saved."""
    torch.manual_seed(seed)
    description = ModelDescription(
        name="tiny",
        task="detection",
        backbone="slowfast_r50",
        backbone_args={"depths": [1, 1, 1, 1], "width": 16, "beta_inv": 4, "fusion_kernel": 5},
        num_classes=len(NAMES),
        class_names=NAMES,
        class_ids=(12, 14, 80),
        preprocessing=Preprocessing(num_frames, frame_stride, short_side),
        activation="sigmoid",
    )
    model = create(description)
    # Fresh heads answer 0.5 to everything; spread the scores so that mistakes show.
    torch.nn.init.normal_(model.head.projection.weight, std=0.1)
    return model


def tiny_scorer(**options: int) -> ActionScorer:
    """``tiny_model``, ready to score."""
    return ActionScorer(tiny_model(**options))
