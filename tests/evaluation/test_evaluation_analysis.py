"""Error kinds, bootstrap and breakdowns on a case that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from avadet.evaluation.ava import FrameMap, frame_map
from avadet.evaluation.bootstrap import compare, map_interval
from avadet.evaluation.breakdown import (
    by_frequency,
    by_persons,
    by_size,
    confusions,
    curves,
    worst_frames,
)
from avadet.evaluation.cap import keep_best, kth_best
from avadet.evaluation.error_kinds import DETECTION_KINDS, find_errors

LEFT, RIGHT = (0.0, 0.0, 0.4, 1.0), (0.6, 0.0, 1.0, 1.0)
STAND, SIT = 12, 11


def table(rows) -> dict:
    names = ("video", "second", "boxes", "label", "score")
    return dict(zip(names, zip(*rows)))


@pytest.fixture
def result() -> FrameMap:
    truth = [
        ("v", 902, LEFT, STAND, 1), ("v", 902, RIGHT, SIT, 1),
        ("v", 903, LEFT, STAND, 1), ("w", 902, LEFT, STAND, 1), ("w", 903, LEFT, SIT, 1),
    ]  # fmt: skip
    found = [
        ("v", 902, LEFT, STAND, 0.9),  # hit
        ("v", 902, (0.02, 0.0, 0.4, 1.0), STAND, 0.8),  # duplicate
        ("v", 902, RIGHT, STAND, 0.7),  # wrong action
        ("v", 903, (0.3, 0.0, 0.7, 1.0), STAND, 0.6),  # wrong box
        ("v", 903, (0.8, 0.0, 1.0, 1.0), STAND, 0.5),  # background
        ("w", 903, LEFT, SIT, 0.4),  # hit
        ("w", 903, LEFT, STAND, 0.3),  # wrong action
    ]
    return frame_map(table(truth), table(found), {STAND: "stand", SIT: "sit"})


def test_error_kinds_by_hand(result: FrameMap) -> None:
    errors = find_errors(result.rows)
    kinds = [DETECTION_KINDS[k] if k >= 0 else "hit" for k in errors.det_kind]
    assert kinds == [
        "hit", "duplicate", "wrong action", "wrong box", "background", "hit", "wrong action",
    ]  # fmt: skip
    # Missed: stand at v903 (box overlaps by 1/7 only), stand at w902 (nothing there), sit at v902.
    assert errors.counts["missed person"] == 2
    assert errors.counts["missed action"] == 1
    # stand has 1 of 3 at precision 1, sit 1 of 2 at precision 1: mAP (1/3 + 1/2) / 2.
    assert result.mAP == pytest.approx(5 / 12)
    # All kinds of false positive come after the only hit of their class: they cost nothing,
    # but the wrong box moved onto its person is a hit at rank 4 of stand.
    for kind in ("duplicate", "wrong action", "background"):
        assert errors.cost[kind] == pytest.approx(0)
    assert errors.cost["wrong box"] == pytest.approx((1 / 3) * (2 / 4) / 2)
    assert errors.cost["missed person"] == pytest.approx((1 - 1 / 3) / 2)
    assert errors.cost["missed action"] == pytest.approx((1 - 1 / 2) / 2)


def test_curves_confusions_and_worst_frames(result: FrameMap) -> None:
    lines = curves(result.rows)
    # stand: best F1 after the first detection (precision 1, recall 1/3).
    assert lines[STAND].threshold == pytest.approx(0.9)
    assert lines[STAND].best_f1 == pytest.approx(0.5)
    assert confusions(result.rows, find_errors(result.rows), lines) == []
    lines[STAND] = type(lines[STAND])(*([np.zeros(1)] * 2), threshold=0.0, best_f1=0.5)
    pairs = confusions(result.rows, find_errors(result.rows), lines)
    assert [(p.actual, p.said, p.count, p.share) for p in pairs] == [(SIT, STAND, 2, 1.0)]
    frames = worst_frames(result.rows, lines)
    assert (frames[0].video, frames[0].second) == ("v", 902.0)
    assert len(frames[0].misses) == 1
    assert len(frames[0].false_alarms) == 2


def test_breakdowns_cover_the_groundtruth(result: FrameMap) -> None:
    averages = {key: row.AP for key, row in result.per_class.items()}
    assert sum(part.num_gt for part in by_size(result.rows)) == 5
    assert [part.num_gt for part in by_persons(result.rows)] == [3, 2, 0, 0]
    rare = by_frequency(result.rows, averages)[0]
    assert (rare.num_gt, rare.num_classes) == (5, 2)
    assert rare.mAP == pytest.approx(result.mAP)


def test_bootstrap_value_and_interval(result: FrameMap) -> None:
    interval = map_interval(result.rows, draws=50, seed=1)
    assert interval.value == pytest.approx(result.mAP)
    assert interval.low <= interval.value <= interval.high
    assert interval.movies == 2
    assert map_interval(result.rows, draws=50, seed=1) == interval


def test_comparison_of_a_run_with_itself_and_with_a_better_one(result: FrameMap) -> None:
    same = compare(result.rows, result.rows, draws=30)
    assert (same.difference.low, same.difference.value, same.difference.high) == (0, 0, 0)
    truth = [("v", 902 + i, LEFT, STAND, 1) for i in range(4)]
    truth += [("w", 902 + i, LEFT, STAND, 1) for i in range(4)]
    good = [(*row[:4], 0.5 + i / 100) for i, row in enumerate(truth)]
    runs = [frame_map(table(truth), table(rows), [STAND]).rows for rows in (good[::2], good)]
    gap = compare(*runs, draws=40)
    assert gap.difference.value == pytest.approx(0.5)
    assert gap.difference.low > 0
    assert gap.share_better == 1.0


@pytest.mark.parametrize("order", ["contiguous", "shuffled"])
def test_kth_best_and_cap_agree_with_sorting(order: str) -> None:
    draw = np.random.default_rng(0)
    frame = np.repeat(np.arange(40), draw.integers(1, 300, 40))
    if order == "shuffled":
        frame = draw.permutation(frame)
    score = draw.random(len(frame))
    keep = keep_best(frame, frame, score, lambda rows: np.zeros((len(rows), 4)), 50)
    for value in range(40):
        marks = np.sort(score[frame == value])[::-1]
        assert set(score[keep & (frame == value)]) == set(marks[:50])
    values = np.array([3.0, 1.0, 2.0, 5.0])
    best = kth_best(values, np.array([0, 3]), np.array([3, 1]), 2)
    np.testing.assert_array_equal(best, [2.0, -np.inf])
