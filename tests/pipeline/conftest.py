"""A small movie and a tiny action model."""

from __future__ import annotations

from pathlib import Path

import pytest
from pipeline_movies import tiny_scorer, write_movie

from avadet.pipeline import ActionScorer


@pytest.fixture
def movie(tmp_path: Path) -> Path:
    """Three seconds of a square that moves."""
    return write_movie(tmp_path / "square.mp4")


@pytest.fixture
def scorer() -> ActionScorer:
    """A SlowFast of a few thousand weights, in float32."""
    return tiny_scorer()
