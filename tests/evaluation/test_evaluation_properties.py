"""Properties of every frame-mAP, and agreement with the naive second implementation."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_frame_map import score as naive_score

from avadet.evaluation.ava import frame_map

CLASSES = (1, 11, 12, 80)
PROTOCOLS = ("official", "head", "r2019", "r2018", "pyslowfast", "mmaction2")
COLUMNS = ("video", "second", "x1", "y1", "x2", "y2", "label", "score")


def make(seed: int, detections: int = 250) -> tuple[list[tuple], list[tuple], list[tuple]]:
    """Random rows on a coarse grid, so that equal boxes and IoUs of exactly one half occur."""
    draw = random.Random(seed)
    grid = draw.choice([4, 8, 1000])
    coarse_scores = draw.random() < 0.5
    person_ids = draw.random() < 0.5

    def box() -> tuple[float, ...]:
        x, y = (sorted(draw.sample(range(grid + 1), 2)) for _ in range(2))
        return x[0] / grid, y[0] / grid, x[1] / grid, y[1] / grid

    def spot() -> tuple[str, str]:
        return f"v{draw.randrange(3)}", draw.choice(["902", "0903", "904"])

    places = [(*spot(), *box()) for _ in range(12)]
    truth = [
        (*draw.choice(places), draw.choice([*CLASSES, 2]), draw.choice([0, 1, 2]))
        for _ in range(draw.randrange(1, 40))
    ]
    if not person_ids:
        truth = [(*row[:7], None) for row in truth]
    found = []
    for _ in range(detections):
        place = draw.choice(places) if draw.random() < 0.7 else (*spot(), *box())
        mark = draw.random() * 2 - 0.5
        mark = round(mark, 1) if coarse_scores else mark
        found.append((*place, draw.choice([*CLASSES, 2]), mark))
    excluded = [spot()] if draw.random() < 0.5 else []
    return truth, found, excluded


def table(rows: list[tuple]) -> dict[str, np.ndarray]:
    columns = {}
    for name, values in zip(COLUMNS, zip(*rows)):
        if name == "score" and any(value is None for value in values):
            continue
        columns[name] = np.array(values, dtype=object if name in COLUMNS[:2] else None)
    return columns


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("seed", range(12))
def test_agrees_with_the_naive_implementation(seed: int, protocol: str) -> None:
    truth, found, excluded = make(seed)
    if protocol == "mmaction2":
        # float32 and float64 scores tie differently; the grid's boxes are exact in both.
        found = [(*row[:7], float(np.float32(row[7]))) for row in found]
        truth, found = (
            [(*r[:2], *(float(np.float32(v)) for v in r[2:6]), *r[6:]) for r in rows]
            for rows in (truth, found)
        )
    expected = naive_score(truth, found, CLASSES, excluded, protocol)
    if protocol == "mmaction2" and not any(row[6] in CLASSES for row in truth):
        pytest.skip("mmaction2 refuses this input")
    result = frame_map(table(truth), table(found), CLASSES, excluded, protocol)
    for key, row in result.per_class.items():
        if expected[key] is None:
            assert row.AP is None
        else:
            assert row.AP_lo == pytest.approx(expected[key][0], abs=1e-6)
            assert row.AP_hi == pytest.approx(expected[key][1], abs=1e-6)
            assert row.AP_lo - 1e-12 <= row.AP <= row.AP_hi + 1e-12


@given(seed=st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_order_is_irrelevant_for_distinct_scores_and_single_boxes(seed: int) -> None:
    truth, found, _ = make(seed, detections=150)
    truth = list({(row[0], int(row[1]), row[6]): (*row[:7], None) for row in truth}.values())
    found = [(*row[:7], index / 1000) for index, row in enumerate(found)]
    first = frame_map(table(truth), table(found), CLASSES)
    random.Random(seed).shuffle(found)
    second = frame_map(table(truth), table(found), CLASSES)
    assert first.per_class == second.per_class


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_perfect_detections_give_one(seed: int) -> None:
    truth, _, _ = make(seed)
    truth = list({(*row[:2], row[2:6], row[6]): row for row in truth}.values())
    truth = [(*row[:1], str(int(row[1])), *row[2:7], None) for row in truth]
    truth = list(dict.fromkeys(truth))[:40]
    found = [(*row[:7], 1.0 - i / 1000) for i, row in enumerate(truth)]
    for protocol in PROTOCOLS:
        if protocol == "mmaction2" and not any(row[6] in CLASSES for row in truth):
            continue
        result = frame_map(table(truth), table(found), CLASSES, protocol=protocol)
        assert result.mAP in (None, pytest.approx(1.0))


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_a_last_ranked_false_positive_never_raises_ap(seed: int) -> None:
    truth, found, _ = make(seed, detections=30)
    before = frame_map(table(truth), table(found), CLASSES, protocol="r2018")
    video, time = truth[0][:2]
    more = [*found, (video, time, 5.0, 5.0, 6.0, 6.0, 12, -5.0)]
    after = frame_map(table(truth), table(more), CLASSES, protocol="r2018")
    if before.per_class[12].AP is not None:
        assert after.per_class[12].AP <= before.per_class[12].AP + 1e-12
        assert after.per_class[12].num_det == before.per_class[12].num_det + 1


def test_equal_scores_do_not_depend_on_row_order() -> None:
    box = (0.25, 0.25, 0.75, 0.75)
    truth = [("v", f"{902 + i}", *box, 12, None) for i in range(6)]
    found = [("v", f"{902 + i}", *box, 12, 0.5) for i in range(1, 6, 2)]
    found += [("v", f"{902 + i}", 0.0, 0.0, 0.1, 0.1, 12, 0.5) for i in range(0, 6, 2)]
    values = set()
    for seed in range(8):
        random.Random(seed).shuffle(found)
        result = frame_map(table(truth), table(found), CLASSES)
        values.add(result.mAP)
        assert result.mAP_lo < result.mAP < result.mAP_hi
    # Later seconds first: hit, miss, hit, miss, hit, miss.
    assert len(values) == 1
    assert values.pop() == pytest.approx((1 + 2 / 3 + 3 / 5) / 6)
