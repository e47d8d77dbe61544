"""One pass over the movie where it fits, the same results however the work is arranged."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from pipeline_movies import SquareDetector, write_movie

from avadet.pipeline import (
    ActionScorer,
    DetectedPeople,
    MovieJob,
    StageClock,
    passes,
    process,
)
from avadet.pipeline.passes import TimedReader, waiting_bytes
from avadet.video.reader import VideoReader, open_video
from avadet.video.shared import SharedPass
from avadet.video.writer import VideoWriter


def arranged(movie: Path, scorer: ActionScorer, name: str, **options: object) -> tuple:
    folder = movie.parent / name
    job = MovieJob(
        movie, out=folder / "o.mp4", csv=folder / "o.csv", json=folder / "o.json", **options
    )
    with VideoReader(movie) as reader:
        outcome = process(reader, job, DetectedPeople(SquareDetector(), 0.5), scorer)
        decoded = reader.frames_decoded
    return outcome, job, decoded


@pytest.mark.parametrize("rate", [1.0, 5.0])
def test_no_arrangement_changes_a_bit(
    tmp_path: Path, scorer: ActionScorer, rate: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    movie = write_movie(tmp_path / "movie.mp4", frames=150, fps=24)
    # What goes into the encoder: the bytes that x264 makes of it differ from run to run.
    drawn: dict[str, list[bytes]] = {}
    write = VideoWriter.write

    def record(self: VideoWriter, frame: np.ndarray) -> None:
        drawn.setdefault(self.path.parent.name, []).append(sha256(frame).digest())
        write(self, frame)

    monkeypatch.setattr(VideoWriter, "write", record)
    results = {
        "overlap": arranged(movie, scorer, "overlap", rate=rate),
        "one by one": arranged(movie, scorer, "one by one", rate=rate, overlap=False),
    }
    monkeypatch.setattr("avadet.pipeline.passes._MOST_WAITING", 0)
    results["two passes"] = arranged(movie, scorer, "two passes", rate=rate)
    (_, first, _) = results["overlap"]
    assert len(set(drawn["overlap"])) > 100
    for outcome, job, decoded in results.values():
        assert outcome.frames == len(drawn[job.out.parent.name]) == 150
        assert job.csv.read_bytes() == first.csv.read_bytes()
        assert job.json.read_bytes() == first.json.read_bytes()
        assert drawn[job.out.parent.name] == drawn["overlap"]
        assert set(outcome.clock.seconds) == {"decode", "people", "actions", "draw", "encode"}
        # The movie, and one frame that tells its size.
        assert decoded <= (151 if job is not results["two passes"][1] else 2 * 151)


def test_readers_are_shared_where_what_waits_is_small(movie: Path, tmp_path: Path) -> None:
    with VideoReader(movie) as reader:
        with passes.passes(reader, StageClock(), 1e6) as (analysis, drawing):
            assert analysis is drawing
            assert isinstance(drawing, SharedPass)
        with passes.passes(reader, StageClock(), 1e12) as (analysis, drawing):
            assert isinstance(analysis, SharedPass)
            assert isinstance(drawing, TimedReader)
            assert drawing.width == 96
        small = waiting_bytes(reader, 30.0, None, interval=1, gap=2, batch_size=1)
        slow = waiting_bytes(reader, 30.0, None, interval=10, gap=20, batch_size=1)
        assert 5 * small < slow
    (tmp_path / "frames").mkdir()
    from PIL import Image

    Image.new("RGB", (32, 32)).save(tmp_path / "frames" / "0001.png")
    with (
        open_video(tmp_path / "frames") as frames,
        passes.passes(frames, StageClock(), 0) as (analysis, drawing),
    ):
        assert isinstance(drawing, TimedReader)
        assert len(list(analysis.stream([0.0]))) == 1
