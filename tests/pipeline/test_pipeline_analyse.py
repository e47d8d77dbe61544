"""The movie path gives the data set's numbers, decodes once, and stays small."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pipeline_movies import NAMES, SquareDetector, square_left, tiny_model, tiny_scorer, write_movie

from avadet.data.ava import AvaDataset
from avadet.data.ava_csv import read_proposals
from avadet.data.transforms import TestPolicy
from avadet.errors import UserError
from avadet.pipeline import (
    ActionScorer,
    DetectedPeople,
    GivenPeople,
    ShotCuts,
    analyse,
    keyframe_seconds,
)
from avadet.structures import Detections, Keyframe
from avadet.video.reader import VideoReader, open_video


def test_keyframes_are_whole_seconds_at_one_a_second() -> None:
    assert keyframe_seconds(0, 3.0) == [0, 1, 2]
    assert keyframe_seconds(0.5, 3.2) == [1, 2, 3]
    assert keyframe_seconds(902, 904.5, 2) == [902, 902.5, 903, 903.5, 904]


@pytest.mark.parametrize(("start", "end"), [(0.2, 0.5), (0.1, 0.1), (7.25, 7.5)])
def test_a_stretch_without_a_whole_second_has_its_middle(start: float, end: float) -> None:
    assert keyframe_seconds(start, end) == [(start + end) / 2]


def boxes_file(path: Path, video: str, seconds: list[float]) -> Path:
    rng = np.random.default_rng(3)
    lines = []
    for second in seconds:
        for _ in range(rng.integers(1, 4)):
            x1, y1 = rng.uniform(0, 0.6, 2)
            x2, y2 = x1 + rng.uniform(0.1, 0.4), y1 + rng.uniform(0.1, 0.4)
            lines.append(f"{video},{second:g},{x1:.4f},{y1:.4f},{x2:.4f},{y2:.4f},,0.95")
    path.write_text("\n".join(lines) + "\n")
    return path


def by_data_set(
    movies: Path, proposals: Path, scorer: ActionScorer, movie_start: float = 0.0
) -> list[Detections]:
    """Clip by clip through the data set, as an evaluation does."""
    shape = scorer.preprocessing
    dataset = AvaDataset(
        movies,
        proposals=proposals,
        policy=TestPolicy(short_side=shape.test_short_side),
        num_frames=shape.num_frames,
        frame_stride=shape.frame_stride,
        fps=shape.fps,
        first_second=None,
        last_second=None,
        keyframe_rate=20,
        movie_start=movie_start,
        score_threshold=0.0,
    )
    return [scorer.score([dataset[index]])[0] for index in range(len(dataset))]


def assert_equal(a: list[Detections], b: list[Detections]) -> None:
    assert [d.keyframe for d in a] == [d.keyframe for d in b]
    for one, other in zip(a, b):
        np.testing.assert_array_equal(one.boxes_norm, other.boxes_norm)
        np.testing.assert_array_equal(one.person_scores, other.person_scores)
        np.testing.assert_array_equal(one.scores, other.scores)


@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.parametrize(
    ("fps", "frames", "seconds"),
    [
        (30, 90, [0, 1, 2]),
        (25, 80, [0.5, 1, 1.4, 3]),
        (29.97, 60, [1]),
        (12, 30, [0, 0.1, 2.4]),
        (30, 1, [0]),
        (60, 90, [0, 1.25]),
    ],
)
def test_scores_are_bit_equal_to_those_of_the_data_set(
    tmp_path: Path,
    scorer: ActionScorer,
    fps: float,
    frames: int,
    seconds: list[float],
    ahead: bool,
) -> None:
    movie = write_movie(tmp_path / "movies" / "clip.mp4", fps=fps, frames=frames)
    proposals = boxes_file(tmp_path / "boxes.csv", "clip", seconds)
    people = GivenPeople(read_proposals(proposals), "clip")
    with open_video(movie) as reader:
        got = list(analyse(reader, "clip", people.seconds, people, scorer, ahead=ahead))
    want = by_data_set(tmp_path / "movies", proposals, scorer)
    assert_equal(got, want)
    # The comparison means something: boxes and keyframes differ in their scores.
    scores = np.concatenate([d.scores for d in got])
    assert len(np.unique(scores.round(5), axis=0)) == len(scores)


def test_bit_equal_where_clips_do_not_touch_and_in_reduced_precision(tmp_path: Path) -> None:
    movie = write_movie(tmp_path / "movies" / "clip.mp4", frames=150, width=90, height=130)
    proposals = boxes_file(tmp_path / "boxes.csv", "clip", [0.3, 2, 4.5])
    people = GivenPeople(read_proposals(proposals), "clip")
    half = ActionScorer(tiny_model(num_frames=4, frame_stride=1), precision="bf16")
    with open_video(movie) as reader:
        cuts = ShotCuts()
        got = list(analyse(reader, "clip", people.seconds, people, half, cuts=cuts))
    assert half.score_change is not None
    assert 0 < half.score_change < 0.05
    assert_equal(got, by_data_set(tmp_path / "movies", proposals, half))


def test_bit_equal_where_the_file_begins_within_the_source(
    tmp_path: Path, scorer: ActionScorer
) -> None:
    movie = write_movie(tmp_path / "movies" / "clip.mp4", frames=100)
    proposals = boxes_file(tmp_path / "boxes.csv", "clip", [902, 902.7, 903])
    people = GivenPeople(read_proposals(proposals), "clip")
    with open_video(movie) as reader:
        got = list(analyse(reader, "clip", people.seconds, people, scorer, movie_start=900.1))
    assert_equal(got, by_data_set(tmp_path / "movies", proposals, scorer, 900.1))


def test_batches_of_keyframes_agree_up_to_rounding(tmp_path: Path, scorer: ActionScorer) -> None:
    movie = write_movie(tmp_path / "clip.mp4", visible=lambda second: not 1.5 < second < 2.5)
    with open_video(movie) as reader:
        results = [
            list(
                analyse(
                    reader,
                    "clip",
                    keyframe_seconds(0, 3, 2),
                    DetectedPeople(SquareDetector(), 0.5),
                    scorer,
                    batch_size=size,
                )
            )
            for size in (1, 4, 64)
        ]
    assert [len(d) for d in results[0]] == [1, 1, 1, 1, 0, 1]
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a.boxes_norm, b.boxes_norm)
            np.testing.assert_allclose(a.scores, b.scores, atol=1e-4)


def test_the_detector_sees_whole_frames_and_boxes_are_where_people_are(movie: Path) -> None:
    detector = SquareDetector()
    with open_video(movie) as reader:
        found = list(analyse(reader, "square", [0, 1, 2], DetectedPeople(detector, 0.5), None))
    assert detector.calls == [1, 1, 1]
    for detections in found:
        left = round(square_left(detections.keyframe.second, 96)) / 96
        np.testing.assert_allclose(
            detections.boxes_norm[0], (left, 0.25, left + 0.25, 0.875), atol=0.03
        )
        assert detections.scores.shape == (1, 0)


def test_people_below_the_threshold_are_left_out(movie: Path) -> None:
    with open_video(movie) as reader:
        (found,) = analyse(reader, "square", [1], DetectedPeople(SquareDetector(), 0.95), None)
    assert len(found) == 0


def test_nobody_costs_no_run_of_the_network(tmp_path: Path, scorer: ActionScorer) -> None:
    movie = write_movie(tmp_path / "empty.mp4", visible=lambda second: False)

    def refuse(*_: object) -> None:
        raise AssertionError("the network ran")

    scorer.score = refuse
    with open_video(movie) as reader:
        found = list(
            analyse(reader, "empty", [0, 1], DetectedPeople(SquareDetector(), 0.5), scorer)
        )
    assert [d.scores.shape for d in found] == [(0, len(NAMES))] * 2


class CountingReader:
    """A reader of empty pictures that counts what is asked of it and what is still held."""

    width, height, fps, duration = 64, 48, 30.0, 7200.0

    def __init__(self) -> None:
        self.asked: list[list[float]] = []
        self.alive = 0
        self.most_alive = 0

    def stream(
        self, seconds: list[float], *, short_side=None, size=None, fps=30.0
    ) -> Iterator[tuple[float, np.ndarray]]:
        self.asked.append(list(seconds))
        for second in seconds:
            yield second, _Counted.make(self)


class _Counted(np.ndarray):
    @classmethod
    def make(cls, reader: CountingReader) -> np.ndarray:
        frame = np.zeros((48, 64, 3), np.uint8).view(cls)
        frame.reader = reader
        reader.alive += 1
        reader.most_alive = max(reader.most_alive, reader.alive)
        return frame

    def __array_finalize__(self, other: object) -> None:
        self.reader = None

    def __del__(self) -> None:
        if self.reader is not None:
            self.reader.alive -= 1


def test_each_frame_is_asked_for_once_and_memory_does_not_grow() -> None:
    reader = CountingReader()
    seconds = keyframe_seconds(0, 600)
    people = DetectedPeople(SquareDetector(), 0.5)
    scorer = tiny_scorer(num_frames=16, frame_stride=4)
    count = sum(1 for _ in analyse(reader, "long", seconds, people, scorer, cuts=ShotCuts()))
    assert count == 600
    for asked in reader.asked:
        assert len(set(asked)) == len(asked)
    # A clip's 16 frames and those between them for cuts, the queue, and a keyframe or two.
    assert reader.most_alive < 110


def test_given_boxes_of_another_movie_are_refused(tmp_path: Path) -> None:
    table = read_proposals(boxes_file(tmp_path / "boxes.csv", "holiday", [1]))
    with pytest.raises(UserError, match="Did you mean 'holiday'"):
        GivenPeople(table, "holidays")


def test_given_boxes_are_found_by_keyframe(tmp_path: Path) -> None:
    table = read_proposals(boxes_file(tmp_path / "boxes.csv", "a", [1, 1.5]))
    people = GivenPeople(table, "a", threshold=0.9)
    assert people.seconds == [1, 1.5]
    found = people.find([Keyframe("a", 1), Keyframe("a", 1.2)])
    assert len(found[0][0]) >= 1
    assert len(found[1][0]) == 0
    assert len(GivenPeople(table, "a", threshold=0.99).find([Keyframe("a", 1)])[0][0]) == 0


def test_a_model_without_description_or_of_clips_is_refused(scorer: ActionScorer) -> None:
    scorer.model.description = None
    with pytest.raises(UserError, match="does not say"):
        ActionScorer(scorer.model)


def test_a_damaged_movie_ends_with_its_own_error(tmp_path: Path, scorer: ActionScorer) -> None:
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"nothing of a movie" * 100)
    people = DetectedPeople(SquareDetector(), 0.5)
    with pytest.raises(UserError, match=r"broken\.mp4"):
        list(analyse(VideoReader(path), "broken", [0], people, scorer))
