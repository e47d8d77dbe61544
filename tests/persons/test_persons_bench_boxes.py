"""What boxes do to the action mAP, and what more looks do to the boxes: the arithmetic."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
from persons_drawn import CountingDetector, write_movie

from avadet.cli import main
from avadet.commands import bench_boxes, bench_person_views
from avadet.errors import UserError
from avadet.persons.base import PersonBoxes
from avadet.persons.proposals import Proposals
from avadet.persons.smoothing import link, smooth, smooth_sequence
from avadet.structures import Keyframe


def people(*rows: tuple[float, float, float, float, float]) -> PersonBoxes:
    table = np.asarray(rows, np.float32).reshape(-1, 5)
    return PersonBoxes(table[:, :4].copy(), table[:, 4].copy())


def test_recall_and_precision_by_hand() -> None:
    one, two, empty = (Keyframe("a", float(second)) for second in (1, 2, 3))
    truth = {
        one: np.array([[0, 0, 10, 10], [20, 0, 30, 10]], np.float32),
        two: np.array([[0, 0, 10, 10]], np.float32),
        empty: np.zeros((0, 4), np.float32),
    }
    found = {
        # A hit, the same person again (false), and one that overlaps too little (false).
        one: (
            np.array([[0, 0, 10, 9], [0, 0, 10, 10], [24, 0, 40, 10]], np.float32),
            np.array([0.7, 0.9, 0.6], np.float32),
        ),
        empty: (np.array([[0, 0, 5, 5]], np.float32), np.array([0.8], np.float32)),
        Keyframe("other", 1.0): (np.ones((1, 4), np.float32), np.ones(1, np.float32)),
    }
    count, recall, precision = bench_boxes.person_quality(truth, found)
    assert (count, recall, precision) == (4, pytest.approx(1 / 3), pytest.approx(1 / 4))


def test_the_best_box_takes_a_person_before_a_worse_one() -> None:
    key = Keyframe("a", 1.0)
    truth = {key: np.array([[0, 0, 10, 10], [4, 0, 14, 10]], np.float32)}
    boxes = np.array([[1, 0, 11, 10], [0, 0, 10, 10]], np.float32)
    # The worse box lies exactly on the first person, whom the better one has taken; the second
    # person is overlapped by 6 of 14 only.
    count, recall, _ = bench_boxes.person_quality(truth, {key: (boxes, np.array([0.9, 0.8]))})
    assert (count, recall) == (2, 0.5)


def test_tables_have_a_row_for_each_set_of_boxes() -> None:
    runs = [
        [bench_boxes.Row(10, 1.0, 1.0, 0.9), bench_boxes.Row(12, 0.9, 0.8, 0.5)],
        [bench_boxes.Row(20, 1.0, 1.0, 0.8), bench_boxes.Row(22, 0.7, 0.6, 0.7)],
    ]
    lines = bench_boxes.make_table(runs, [0.5]).splitlines()
    assert lines[2] == "| ground truth | 15 | 100.0 | 100.0 | 85.0 | 90.0 | 80.0 |"
    assert lines[3] == "| detected, score >= 0.5 | 17 | 80.0 | 70.0 | 60.0 | 50.0 | 70.0 |"
    assert len(bench_boxes.make_table(runs[:1], [0.5]).splitlines()[0].split("|")) == 7


def test_a_folder_without_a_run_is_told(tmp_path: Path) -> None:
    args = argparse.Namespace(run=[str(tmp_path)], cuts=[0.5])
    with pytest.raises(UserError, match="avadet quickstart"):
        bench_boxes.run(args)


def test_links_are_mutual_bests() -> None:
    earlier = people((0, 0, 10, 10, 0.9), (2, 0, 12, 10, 0.8), (50, 0, 60, 10, 0.7))
    later = people((3, 0, 13, 10, 0.9), (0, 0, 10, 10, 0.9), (54, 0, 64, 10, 0.7))
    assert link(earlier, later, 0.3).tolist() == [1, 0, 2]
    assert link(earlier, later, 0.5).tolist() == [1, 0, -1]
    assert link(people(), later, 0.3).tolist() == []
    assert link(earlier, people(), 0.3).tolist() == [-1, -1, -1]


def test_a_half_hidden_person_is_helped_by_both_neighbours() -> None:
    frames = [
        people((0, 0, 10, 20, 0.8)),
        people((2, 4, 12, 24, 0.2), (80, 0, 90, 20, 0.4)),
        people((4, 0, 14, 20, 0.6)),
    ]
    first, middle, last = smooth_sequence(frames)
    # Weights 0.2 of itself and 0.5 * 0.6 of the middle (2, 0, 12, 20): 4 px become 4 * 0.4.
    np.testing.assert_allclose(middle.boxes_px, [[2, 1.6, 12, 21.6]], atol=1e-5)
    np.testing.assert_allclose(middle.scores, [0.7], atol=1e-6)
    assert len(first) == len(last) == 1
    assert frames[1].boxes_px[0, 1] == 4  # what was given stays as it was


def test_sure_boxes_without_neighbours_stay_and_are_not_moved() -> None:
    frames = [people(), people((0, 0, 10, 20, 0.9), (40, 0, 50, 20, 0.3)), people()]
    (box,) = smooth_sequence(frames)[1].boxes_px
    assert box.tolist() == [0, 0, 10, 20]


def test_movies_and_gaps_are_kept_apart() -> None:
    box = np.array([[0.1, 0.1, 0.3, 0.5]], np.float32)
    keys = [Keyframe("a", 1.0), Keyframe("a", 2.0), Keyframe("a", 9.0), Keyframe("b", 3.0)]
    marks = dict(zip(keys, (0.9, 0.2, 0.9, 0.9)))
    given = Proposals(
        dict.fromkeys(keys, box), {k: np.array([v], np.float32) for k, v in marks.items()}, {}
    )
    result = smooth(given)
    assert list(result.boxes_norm) == keys
    # 2.0 is the last before a gap: nobody follows it, so it is left as it was.
    assert result.scores[keys[1]].tolist() == pytest.approx([0.2])
    joined = smooth(given, max_gap=10)
    assert joined.scores[keys[1]].tolist() == pytest.approx([0.9])


def test_the_command_smooths_boxes_that_are_there(tmp_path: Path) -> None:
    rows = [(1, 0.9), (2, 0.2), (3, 0.7)]
    given, out = tmp_path / "given.csv", tmp_path / "out.csv"
    given.write_text("".join(f"a,{second:04d},0.1,0.1,0.3,0.5,,{s}\n" for second, s in rows))
    assert main(["detect", "--proposals", str(given), "--smooth", "--out", str(out)]) == 0
    scores = [float(line.rsplit(",", 1)[1]) for line in out.read_text().splitlines()]
    assert scores == pytest.approx([0.9, 0.8, 0.7])


def test_each_way_of_looking_is_measured(tmp_path: Path) -> None:
    movie = write_movie(tmp_path / "grey.mp4", 3)
    # The stand-in answers a square whose side tells the brightness: 2, 3 and 4 px of 48x64.
    truth = {Keyframe("grey", 1.0): np.array([[0, 0, 3 / 64, 3 / 48]], np.float32)}
    rows = bench_person_views.measure(
        lambda **views: CountingDetector(), [movie], truth, scales=[32, 48], rate=2
    )
    assert [name for name, _, _ in rows] == [
        "one look",
        "one look, smoothed at 1 Hz",
        "+ mirror image",
        "+ short sides 32, 48",
        "+ both",
        "one look, smoothed at 2 Hz",
    ]
    assert all(quality["AP50"] == pytest.approx(1.0) for _, quality, _ in rows[:1])
    assert len(bench_person_views.make_table(rows).splitlines()) == 8
