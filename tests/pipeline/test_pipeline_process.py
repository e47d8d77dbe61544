"""A movie from end to end: what is written, for any movie, and what goes wrong."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import av
import numpy as np
import pytest
from pipeline_movies import NAMES, SquareDetector, square_left, write_movie

from avadet.data.ava_csv import read_proposals
from avadet.errors import UserError
from avadet.pipeline import (
    ActionScorer,
    DetectedPeople,
    GivenPeople,
    Labels,
    MovieJob,
    Outcome,
    Stretch,
    process,
    weights_of_run,
)
from avadet.video.reader import open_video
from avadet.video.writer import VideoWriter


def add_sound(movie: Path, out: Path, seconds: float) -> Path:
    """The movie with a tone of a given length."""
    rate = 8000
    with av.open(str(out), "w") as target, av.open(str(movie)) as source:
        picture = target.add_stream_from_template(source.streams.video[0])
        sound = target.add_stream("aac", rate=rate)
        sound.layout = "mono"
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = picture
                target.mux(packet)
        tone = np.sin(np.arange(int(rate * seconds)) * 2 * np.pi * 440 / rate).astype(np.float32)
        for start in range(0, len(tone), 1024):
            frame = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], "fltp", "mono")
            frame.sample_rate, frame.pts = rate, start
            target.mux(sound.encode(frame))
        target.mux(sound.encode(None))
    return out


def probe(path: Path) -> dict[str, object]:
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video)]
        audio = container.streams.audio
        return {
            "codec": video.codec_context.name,
            "pixels": video.codec_context.pix_fmt,
            "frames": frames,
            "rate": float(video.average_rate),
            "sound": float(audio[0].duration * audio[0].time_base) if audio else None,
        }


def run(movie: Path, scorer: ActionScorer | None, **options: object) -> tuple[Outcome, MovieJob]:
    out = movie.parent / "out"
    files = {"out": out / "o.mp4", "csv": out / "o.csv", "json": out / "o.json"}
    job = MovieJob(movie, **{**files, **options})
    with open_video(movie) as reader:
        job.check(reader)
        return process(reader, job, DetectedPeople(SquareDetector(), 0.5), scorer), job


@pytest.mark.parametrize("overlap", [True, False])
def test_everything_is_written(movie: Path, scorer: ActionScorer, overlap: bool) -> None:
    outcome, job = run(movie, scorer, overlap=overlap)
    assert (outcome.keyframes, outcome.people, outcome.tracks, outcome.frames) == (3, 3, 1, 90)
    assert not outcome.interrupted

    result = json.loads(job.json.read_text())
    assert [c["name"] for c in result["classes"]] == list(NAMES)
    assert [c["id"] for c in result["classes"]] == [12, 14, 80]
    assert [k["second"] for k in result["keyframes"]] == [0, 1, 2]
    people = [k["people"][0] for k in result["keyframes"]]
    assert {p["track"] for p in people} == {1}
    assert all(len(p["scores"]) == len(NAMES) for p in people)

    rows = [line.split(",") for line in job.csv.read_text().splitlines()]
    assert len(rows) == 9
    assert [row[:2] for row in rows[:4]] == [["square", "0000"]] * 3 + [["square", "0001"]]
    assert [row[6] for row in rows[:3]] == ["12", "14", "80"]
    for person, start in zip(people, range(0, 9, 3)):
        written = [np.float32(row[7]) for row in rows[start : start + 3]]
        assert written == [np.float32(score) for score in person["scores"]]
        assert [np.float32(v) for v in rows[start][2:6]] == [np.float32(v) for v in person["box"]]

    movie_out = probe(job.out)
    assert (movie_out["codec"], movie_out["pixels"]) == ("h264", "yuv420p")
    assert movie_out["frames"][0].shape == (360, 480, 3)  # enlarged, so that labels fit
    assert len(movie_out["frames"]) == 90
    assert movie_out["rate"] == 30


def test_boxes_follow_people_between_keyframes(movie: Path, scorer: ActionScorer) -> None:
    """On every frame the drawn line stands where the square does, not only once a second."""
    _, job = run(movie, scorer, scale=8.0, top_k=1)
    frames = probe(job.out)["frames"]
    for index in (0, 8, 15, 22, 30, 45, 52):
        left = 8 * square_left(index / 30, 96)
        row = frames[index][500].astype(int)  # below the label, across the square
        yellow = np.flatnonzero((row[:, 0] > 180) & (row[:, 2] < 130))
        assert len(yellow), index
        assert abs(yellow.min() - left) < 8, index


@pytest.mark.parametrize(
    ("frames", "fps", "width", "height"),
    [(1, 30, 64, 48), (2, 10, 50, 50), (7, 60, 33, 17), (40, 23.976, 200, 40), (5, 100, 64, 48)],
)
def test_short_odd_and_fast_movies(
    tmp_path: Path, scorer: ActionScorer, frames: int, fps: float, width: int, height: int
) -> None:
    movie = write_movie(tmp_path / "m.mp4", frames=frames, fps=fps, width=width, height=height)
    outcome, job = run(movie, scorer)
    written = probe(job.out)
    assert outcome.keyframes >= 1
    assert len(written["frames"]) == (frames if fps <= 60 else (frames + 1) // 2)
    assert written["frames"][0].shape[0] >= 360
    assert written["rate"] == pytest.approx(fps if fps <= 60 else fps / 2, rel=1e-3)


@pytest.mark.parametrize(("seconds", "kept"), [(2.0, 2.0), (7.0, 3.0)])
def test_sound_is_kept_and_ends_with_the_picture(
    movie: Path, scorer: ActionScorer, seconds: float, kept: float
) -> None:
    loud = add_sound(movie, movie.with_name("loud.mp4"), seconds)
    _, job = run(loud, scorer)
    assert probe(job.out)["sound"] == pytest.approx(kept, abs=0.3)
    _, job = run(loud, scorer, sound=False)
    assert probe(job.out)["sound"] is None


def test_part_of_a_movie_keeps_the_times_of_the_source(movie: Path, scorer: ActionScorer) -> None:
    outcome, job = run(movie, scorer, start=0.9, end=2.1, rate=2)
    assert outcome.frames == 36
    seconds = [k["second"] for k in json.loads(job.json.read_text())["keyframes"]]
    assert seconds == [1, 1.5, 2]
    assert "square,1.5," in job.csv.read_text()


def test_gaps_and_cuts(tmp_path: Path) -> None:
    """Seen at 0, 1 and 3, missed at 2: one track; another shot: another track."""
    movie = write_movie(tmp_path / "gap.mp4", frames=120, visible=lambda s: not 1.8 < s < 2.2)
    outcome, job = run(movie, None)
    assert outcome.tracks == 1
    frames = probe(job.out)["frames"]
    missed = frames[60].astype(int)
    assert ((missed[:, :, 0] > 180) & (missed[:, :, 2] < 130)).sum() > 300  # a box is drawn

    path = tmp_path / "cut.mp4"
    with VideoWriter(path, 96, 72, 30, crf=12) as writer:
        for k in range(90):
            frame = np.full((72, 96, 3), (20, 90, 30) if k < 45 else (130, 20, 20), np.uint8)
            frame[18:60, 30:54] = 250
            writer.write(frame)
    outcome, job = run(path, None)
    assert outcome.tracks == 2
    cuts = [k["cuts"] for k in json.loads(job.json.read_text())["keyframes"]]
    assert cuts[:2] == [[], []]
    assert cuts[2] == [pytest.approx(1.5, abs=0.1)]


def test_known_boxes_instead_of_a_detector(movie: Path, scorer: ActionScorer) -> None:
    boxes = movie.with_suffix(".csv")
    boxes.write_text("square,0.5,0.1,0.2,0.4,0.9,,0.9\nsquare,2,0.2,0.2,0.5,0.9,,0.8\n")
    job = MovieJob(movie, json=movie.parent / "o.json")
    with open_video(movie) as reader:
        people = GivenPeople(read_proposals(boxes), "square")
        outcome = process(reader, job, people, scorer)
    assert (outcome.keyframes, outcome.people) == (2, 2)
    result = json.loads(job.json.read_text())
    assert [k["second"] for k in result["keyframes"]] == [0.5, 2]


def test_people_without_actions_are_written_as_proposals(movie: Path) -> None:
    _, job = run(movie, None)
    assert len(read_proposals(job.csv)) == 3


class Interrupts(SquareDetector):
    """Ctrl-C at the second keyframe."""

    def detect(self, frames):
        if len(self.calls) == 2:
            raise KeyboardInterrupt
        return super().detect(frames)


def test_an_interrupt_keeps_what_was_done(tmp_path: Path, scorer: ActionScorer) -> None:
    movie = write_movie(tmp_path / "long.mp4", frames=240)
    files = {name: tmp_path / f"o.{name}" for name in ("csv", "json")}
    job = MovieJob(movie, out=tmp_path / "o.mp4", **files)
    with open_video(movie) as reader:
        outcome = process(reader, job, DetectedPeople(Interrupts(), 0.5), scorer)
    assert outcome.interrupted
    assert outcome.keyframes == 2
    assert 1 <= len(probe(job.out)["frames"]) == outcome.frames < 240
    assert len(json.loads(job.json.read_text())["keyframes"]) == 2
    assert len(job.csv.read_text().splitlines()) == 6


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.exists() else []


def test_a_failure_leaves_no_half_file(movie: Path, scorer: ActionScorer) -> None:
    class Fails(SquareDetector):
        def detect(self, frames):
            if len(self.calls) == 1:
                raise UserError("the detector broke")
            return super().detect(frames)

    out = movie.parent / "out"
    job = MovieJob(movie, out=out / "o.mp4", csv=out / "o.csv", json=out / "o.json")
    with open_video(movie) as reader, pytest.raises(UserError, match="detector broke"):
        process(reader, job, DetectedPeople(Fails(), 0.5), scorer)
    assert leftovers(out) == []


def test_a_full_disk_is_said_in_one_line(
    movie: Path, scorer: ActionScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: VideoWriter, frame: np.ndarray) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(VideoWriter, "write", full)
    with pytest.raises(UserError, match="disk is full"):
        run(movie, scorer)
    assert set(leftovers(movie.parent / "out")) <= {"o.csv", "o.json"}  # whole, or not there


def test_an_output_folder_that_cannot_be_written(movie: Path, scorer: ActionScorer) -> None:
    (movie.parent / "out").write_text("a file")
    with pytest.raises(UserError, match="cannot write"):
        run(movie, scorer)


def test_a_start_after_the_end(movie: Path, scorer: ActionScorer) -> None:
    with pytest.raises(UserError, match="after its end"):
        run(movie, scorer, start=30.0)


def test_labels_by_threshold_or_by_rank() -> None:
    names, scores = ("a", "b", "c"), np.array([0.2, 0.9, 0.6], np.float32)
    assert [n for n, _ in Labels(names, 0.5).of(scores)] == ["b", "c"]
    assert [n for n, _ in Labels(names, 0.5, top_k=1).of(scores)] == ["b"]
    assert [n for n, _ in Labels(names, 0.99).of(scores)] == []
    assert Labels(()).of(np.zeros(0, np.float32)) == ()


class Shape:
    def __init__(self, width: int, height: int, fps: float, duration: float) -> None:
        self.width, self.height, self.fps, self.duration = width, height, fps, duration


def test_sizes_and_rates_of_the_written_movie() -> None:
    small = Stretch.of(Shape(160, 120, 25, 4), min_height=360)
    assert (small.width, small.height, small.fps, len(small.seconds)) == (480, 360, 25, 100)
    large = Stretch.of(Shape(1921, 1081, 30, 4), min_height=360)
    assert (large.width % 2, large.height % 2) == (0, 0)
    assert abs(large.width - 1921) <= 1
    assert Stretch.of(Shape(100, 100, 240, 1)).fps == 60
    assert Stretch.of(Shape(100, 100, 59.94, 1)).fps == pytest.approx(59.94)
    assert Stretch.of(Shape(640, 480, 30, 10), scale=0.5).height == 240
    part = Stretch.of(Shape(640, 480, 30, 10), 4, 99)
    assert (part.seconds[0], len(part.seconds)) == (4, 180)
    assert len(Stretch.of(Shape(640, 480, 30, 0.001)).seconds) == 1


def test_weights_of_a_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        weights_of_run(tmp_path / "none")
    with pytest.raises(UserError, match="holds neither"):
        weights_of_run(tmp_path)
    (tmp_path / "action").mkdir()
    (tmp_path / "action" / "model.safetensors").touch()
    assert weights_of_run(tmp_path) == (tmp_path / "action" / "model.safetensors", None)
    (tmp_path / "persons.safetensors").touch()
    assert weights_of_run(tmp_path)[1] == tmp_path / "persons.safetensors"
