"""A small annotated data set of two drawn movies."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from avadet.video.writer import VideoWriter

SECONDS = 8


def picture(number: int, shade: int) -> np.ndarray:
    """(72,128,3): grey that tells the frame, and a white block at a known place."""
    frame = np.full((72, 128, 3), shade + number % 40, np.uint8)
    frame[18:54, 32:64] = 255
    return frame


@pytest.fixture(scope="session")
def small_ava(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Movies ``a`` and ``b`` of 8 seconds; the block fills the box (0.25, 0.25, 0.5, 0.75)."""
    folder: Path = tmp_path_factory.mktemp("small_ava")
    for name, shade in (("a", 20), ("b", 90)):
        with VideoWriter(folder / f"{name}.mp4", 128, 72, 30) as writer:
            for number in range(SECONDS * 30):
                writer.write(picture(number, shade))
    truth, found = [], []
    for name in "ab":
        for second in range(2, 7):
            truth.append(f"{name},{second:04d},0.25,0.25,0.5,0.75,{1 + second % 3},0")
            truth.append(f"{name},{second:04d},0.25,0.25,0.5,0.75,12,0")
            found.append(f"{name},{second:04d},0.25,0.25,0.502,0.75,,0.97")
            found.append(f"{name},{second:04d},0.25,0.25,0.5,0.6,,0.95")
            found.append(f"{name},{second:04d},0.7,0.7,0.9,0.9,,0.85")
            found.append(f"{name},{second:04d},0.7,0.1,0.9,0.3,,0.3")
    truth.append("a,0003,0.6,0.5,0.9,0.9,80,1")
    (folder / "truth.csv").write_text("\n".join(truth) + "\n")
    (folder / "found.csv").write_text("\n".join(found) + "\n")
    (folder / "excluded.csv").write_text("b,0004\nb,0005\n")
    return SimpleNamespace(
        folder=folder,
        truth=folder / "truth.csv",
        found=folder / "found.csv",
        excluded=folder / "excluded.csv",
        times={"first_second": 2, "last_second": 6},
    )
