"""Following people: ids, boxes in between, gaps, cuts, bounded memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avadet.structures import Detections, Keyframe
from avadet.tracking import Timeline, Tracker, follow


def found(second: float, *boxes: tuple[float, float, float, float], scores=None) -> Detections:
    return Detections(
        Keyframe("movie", second),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.full(len(boxes), 0.9, np.float32),
        np.zeros((len(boxes), 2), np.float32) if scores is None else np.array(scores, np.float32),
    )


def walker(second: float, speed: float, top: float = 0.2) -> tuple[float, float, float, float]:
    left = 0.05 + speed * second
    return (left, top, left + 0.1, top + 0.6)


def track(*sequence: Detections, **options) -> list[list[int]]:
    return [list(d.track_ids) for d in follow(sequence, Tracker(**options))]


def test_ids_stay_whatever_the_order_of_boxes() -> None:
    a, b = (0.1, 0.1, 0.3, 0.9), (0.6, 0.1, 0.8, 0.9)
    assert track(found(0, a, b), found(1, b, a), found(2, a)) == [[1, 2], [2, 1], [1]]


def test_a_person_walking_a_body_width_a_second_keeps_the_id() -> None:
    assert track(*(found(s, walker(s, 0.12)) for s in range(6))) == [[1]] * 6


def test_two_people_who_pass_each_other_are_told_apart_by_their_speed() -> None:
    """At second 3 each stands where the other is expected by plain overlap."""
    sequence = []
    for second in range(7):
        right = walker(second, 0.1)
        left = (0.7 - 0.1 * second, 0.2, 0.8 - 0.1 * second, 0.8)
        sequence.append(found(second, right, left))
    assert track(*sequence) == [[1, 2]] * 7


def test_the_best_assignment_as_a_whole_is_taken() -> None:
    """Greedy matching would give box 0 to track 2 (IoU 0.6) and leave track 1 without any."""
    first = found(0, (0.0, 0.0, 0.4, 0.4), (0.2, 0.0, 0.6, 0.4))
    second = found(1, (0.12, 0.0, 0.52, 0.4), (0.34, 0.0, 0.74, 0.4))
    assert track(first, second) == [[1, 2], [1, 2]]


def test_a_jump_across_the_picture_or_another_size_is_another_person() -> None:
    assert track(found(0, (0.0, 0.2, 0.1, 0.8)), found(1, (0.85, 0.2, 0.95, 0.8))) == [[1], [2]]
    small = (0.12, 0.4, 0.14, 0.5)
    assert track(found(0, (0.0, 0.2, 0.1, 0.8)), found(1, small)) == [[1], [2]]


def test_a_missed_person_comes_back_under_the_same_id_until_the_gap_is_too_long() -> None:
    box = (0.4, 0.2, 0.6, 0.8)
    ids = track(found(0, box), found(1), found(2, box), max_gap=2)
    assert ids == [[1], [], [1]]
    assert track(found(0, box), found(1), found(2), found(3, box), max_gap=2)[-1] == [2]


def test_nobody_is_followed_across_a_cut() -> None:
    box = (0.4, 0.2, 0.6, 0.8)
    sequence = [found(s, box) for s in range(4)]
    ids = [list(d.track_ids) for d in follow(sequence, Tracker(), cut_seconds=[1.5])]
    assert ids == [[1], [1], [2], [2]]


def test_ids_are_unique_within_a_keyframe_even_with_equal_boxes() -> None:
    box = (0.4, 0.2, 0.6, 0.8)
    for ids in track(found(0, box, box), found(1, box, box, box), found(2, box)):
        assert len(set(ids)) == len(ids)


def timeline(*tracked: Detections, interval=1.0, max_gap=2.0, cuts=()) -> Timeline:
    line = Timeline(interval=interval, max_gap=max_gap)
    last = -np.inf
    for item in follow(tracked, Tracker(max_gap=max_gap), cuts):
        second = item.keyframe.second
        line.add(item, cuts=[c for c in cuts if last < c <= second])
        last = second
    return line


def test_boxes_move_linearly_between_keyframes_and_take_the_nearest_scores() -> None:
    line = timeline(
        found(0, (0.0, 0.2, 0.2, 0.8), scores=[[0.1, 0.9]]),
        found(1, (0.1, 0.2, 0.3, 0.6), scores=[[0.8, 0.2]]),
    )
    (box,) = line.at(0.25)
    np.testing.assert_allclose(box.box_norm, (0.025, 0.2, 0.225, 0.75), atol=1e-6)
    assert box.opacity == 1
    np.testing.assert_allclose(box.scores, (0.1, 0.9), atol=1e-6)
    (box,) = line.at(0.75)
    np.testing.assert_allclose(box.scores, (0.8, 0.2), atol=1e-6)
    (box,) = line.at(1.0)
    np.testing.assert_allclose(box.box_norm, (0.1, 0.2, 0.3, 0.6), atol=1e-6)


def test_a_track_fades_at_its_ends_and_goes_on_at_its_speed() -> None:
    line = timeline(found(5, (0.1, 0.2, 0.3, 0.8)), found(6, (0.2, 0.2, 0.4, 0.8)))
    (box,) = line.at(6.25)
    assert box.opacity == pytest.approx(0.5)
    np.testing.assert_allclose(box.box_norm, (0.225, 0.2, 0.425, 0.8), atol=1e-6)
    assert line.at(6.5) == []
    assert line.at(4.5) == []
    (box,) = line.at(4.75)
    assert box.opacity == pytest.approx(0.5)
    np.testing.assert_allclose(box.box_norm, (0.075, 0.2, 0.275, 0.8), atol=1e-6)


def test_a_box_that_leaves_the_picture_is_gone() -> None:
    line = timeline(found(0, (0.6, 0.2, 0.8, 0.8)), found(1, (0.9, 0.2, 1.0, 0.8)))
    (box,) = line.at(1.2)
    assert box.box_norm.min() >= 0
    assert box.box_norm.max() <= 1
    assert line.at(1.4) == []


def test_a_short_gap_is_bridged() -> None:
    line = timeline(found(0, (0.1, 0.2, 0.3, 0.8)), found(1), found(2, (0.3, 0.2, 0.5, 0.8)))
    (box,) = line.at(1.0)
    assert box.opacity == 1
    np.testing.assert_allclose(box.box_norm, (0.2, 0.2, 0.4, 0.8), atol=1e-6)


def test_at_a_cut_boxes_end_and_begin_at_once() -> None:
    box = (0.4, 0.2, 0.6, 0.8)
    line = timeline(found(0, box), found(1, box), found(2, box), cuts=[1.7])
    assert [(b.track_id, b.opacity) for b in line.at(1.65)] == [(1, 1.0)]
    assert [(b.track_id, b.opacity) for b in line.at(1.7)] == [(2, 1.0)]
    assert [(b.track_id, b.opacity) for b in line.at(0.5)] == [(1, 1.0)]


def test_settled_moments_never_change() -> None:
    rng = np.random.default_rng(0)
    sequence = [
        found(s, *(walker(s, 0.05, top) for top in (0.0, 0.3) if rng.random() < 0.7))
        for s in range(12)
    ]
    tracker = Tracker(max_gap=2)
    growing, whole = Timeline(interval=1, max_gap=2), timeline(*sequence)
    whole.finish()
    asked = -0.4
    for item in sequence:
        growing.add(tracker.update(item))
        while asked < growing.settled_until:
            now, later = growing.at(asked), whole.at(asked)
            assert [b.track_id for b in now] == [b.track_id for b in later]
            for a, b in zip(now, later):
                np.testing.assert_array_equal(a.box_norm, b.box_norm)
                assert a.opacity == b.opacity
            growing.forget(asked)
            asked += 0.1
    assert asked > 9


def test_memory_does_not_grow_with_the_movie() -> None:
    tracker, line = Tracker(), Timeline(interval=1, max_gap=2)
    most = 0
    for second in range(500):
        line.add(
            tracker.update(found(second, *((x / 10, 0.1, x / 10 + 0.1, 0.9) for x in range(10))))
        )
        line.forget(line.settled_until - 0.1)
        most = max(most, len(line))
    assert most <= 60


def test_untracked_detections_are_refused() -> None:
    with pytest.raises(ValueError, match="track ids"):
        Timeline(interval=1, max_gap=1).add(found(0))


box_strategy = st.tuples(
    st.floats(0, 0.8), st.floats(0, 0.8), st.floats(0.05, 0.2), st.floats(0.05, 0.2)
).map(lambda v: (v[0], v[1], v[0] + v[2], v[1] + v[3]))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(box_strategy, max_size=4), min_size=1, max_size=6))
def test_any_sequence_gives_valid_boxes_everywhere(frames: list) -> None:
    line = timeline(*(found(s, *boxes) for s, boxes in enumerate(frames)))
    for second in np.linspace(-1, len(frames) + 1, 40):
        people = line.at(float(second))
        assert len({p.track_id for p in people}) == len(people)
        for person in people:
            assert 0 < person.opacity <= 1
            assert (person.box_norm >= 0).all()
            assert (person.box_norm <= 1).all()
            assert (person.box_norm[2:] > person.box_norm[:2]).all()
