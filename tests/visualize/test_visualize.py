"""Drawing: legible, inside the frame, not over each other, cached."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from avadet.errors import UserError
from avadet.visualize import PALETTE, Painter, Person, color_of, font_size_for, short_names

GREY = 120


def frame(height: int = 240, width: int = 320) -> np.ndarray:
    return np.full((height, width, 3), GREY, np.uint8)


def person(box, identity=1, labels=(("stand", 0.97), ("talk to", 0.4)), opacity=1.0) -> Person:
    return Person(box, identity, f"person {identity}", tuple(labels), opacity)


def changed(out: np.ndarray) -> np.ndarray:
    return (out != GREY).any(axis=2)


def test_the_frame_given_is_left_alone_and_nobody_means_nothing() -> None:
    image = frame()
    out = Painter(240, 320).draw(image, [person((50, 100, 120, 220))])
    assert (image == GREY).all()
    assert changed(out).any()
    assert not changed(Painter(240, 320).draw(image, [])).any()


def test_the_box_has_its_colour_where_it_should() -> None:
    out = Painter(240, 320).draw(frame(), [person((50, 100, 120, 220), 3, labels=())])
    assert tuple(out[219, 80]) == color_of(3)
    assert tuple(out[150, 50]) == color_of(3)
    assert tuple(out[150, 119]) == color_of(3)
    assert (out[150, 60:110] == GREY).all()


def test_labels_show_white_text_on_dark_and_dark_text_on_colour() -> None:
    out = Painter(240, 320).draw(frame(), [person((50, 120, 120, 220))])
    label = out[:118]
    assert (label.min(axis=2) > 225).any()  # white ink
    assert (label.max(axis=2) < 60).any()  # dark ink or panel
    assert (label == np.array(color_of(1), np.uint8)).all(axis=2).any()


@pytest.mark.parametrize("size", [(1080, 1920), (432, 768), (97, 131), (24, 40), (8, 8), (1, 1)])
@pytest.mark.parametrize("box", [(-30, -20, 5000, 5000), (0, 0, 1, 1), (3.2, 2.1, 7.9, 6.5)])
def test_any_frame_size_and_any_box(size: tuple[int, int], box: tuple[float, ...]) -> None:
    names = [(f"a very long name of an action {k}" * 3, k / 30) for k in range(30)]
    painter = Painter(*size)
    out = painter.draw(frame(*size), [person(box, 1, names), person(box, 2, names)])
    assert out.shape == (*size, 3)
    assert out.dtype == np.uint8


def extents(painter: Painter, people: list[Person]) -> list[tuple[int, int, int, int]]:
    """Where the labels went: those drawn in one painter with and without boxes differ by them."""
    spots = []
    original = painter._blend

    def record(out, block, x, y, opacity):
        spots.append((x, y, x + block.size[1], y + block.size[0]))
        original(out, block, x, y, opacity)

    painter._blend = record
    painter.draw(frame(painter.height, painter.width), people)
    return spots


def overlap(a, b) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def test_labels_stay_inside_and_apart() -> None:
    rng = np.random.default_rng(1)
    for _ in range(30):
        people = []
        for identity in range(1, 6):
            x, y = rng.uniform(0, 600), rng.uniform(0, 250)
            people.append(
                person((x, y, x + rng.uniform(40, 160), y + rng.uniform(90, 180)), identity)
            )
        spots = extents(Painter(432, 768), people)
        for index, spot in enumerate(spots):
            assert 0 <= spot[0] < spot[2] <= 768
            assert 0 <= spot[1] < spot[3] <= 432
            assert not any(overlap(spot, other) for other in spots[:index])


def test_a_label_does_not_flicker_between_places() -> None:
    """A step of a pixel that makes another place slightly better does not move the label."""
    painter = Painter(432, 768)
    rows = []
    for step in range(12):
        top = 70 - step  # room above runs out on the way
        (spot,) = extents(painter, [person((300, top, 400, top + 200))])
        rows.append(spot[1] - top)
    moves = sum(abs(a - b) > 20 for a, b in itertools.pairwise(rows))
    assert moves <= 1


def test_opacity_blends_towards_the_frame() -> None:
    box = (50, 120, 120, 220)
    full = Painter(240, 320).draw(frame(), [person(box)]).astype(int)
    half = Painter(240, 320).draw(frame(), [person(box, opacity=0.5)]).astype(int)
    expected = (full + GREY) / 2
    inside = changed(full.astype(np.uint8))
    # The halo under the line is itself translucent, so corners may differ; text may not.
    assert np.abs(half - expected)[inside].mean() < 12
    none = Painter(240, 320).draw(frame(), [person(box, opacity=0.0)])
    assert np.abs(none.astype(int) - GREY).max() <= 1


def test_scores_are_shown_as_percentages_and_many_labels_are_counted() -> None:
    """Two blocks differ when the rounded score does, and are the same object when it does not."""
    painter = Painter(480, 640)
    maker = painter._labels
    a = maker.block(PALETTE[0], "person 1", [("stand", 0.971)])
    assert maker.block(PALETTE[0], "person 1", [("stand", 0.969)]) is a
    assert maker.block(PALETTE[0], "person 1", [("stand", 0.96)]) is not a
    rows = [(f"action {k}", 0.5) for k in range(10)]
    shown = Painter(480, 640, max_labels=4)._labels.block(PALETTE[0], "person", rows)
    assert shown.size[0] == round(font_size_for(480) * 1.45) * 6  # title, 4 labels, "+ 6 more"


def test_caches_are_bounded() -> None:
    painter = Painter(240, 320)
    for k in range(700):
        painter.draw(frame(), [person((50, 120, 120, 220), labels=[(f"action {k}", 0.5)])])
    assert len(painter._labels._blocks) <= 256
    assert len(painter._labels._masks) <= 256


@pytest.mark.parametrize(
    "name", ["говорить", "歩く", "naïve café — “½”", "a\nb\t", "", "\ud83d\ude00"]
)
def test_any_script_draws_something(name: str) -> None:
    out = Painter(240, 320).draw(frame(), [person((50, 120, 120, 220), labels=[(name, 0.5)])])
    assert changed(out).any()


def test_a_font_of_ones_own(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a font"):
        Painter(240, 320, font=tmp_path / "missing.ttf")


def test_a_frame_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="painter"):
        Painter(240, 320).draw(frame(320, 240), [])


def test_neighbouring_ids_have_distinct_colours() -> None:
    colors = [color_of(k) for k in range(1, 13)]
    assert len(set(colors)) == 12
    for a, b in itertools.pairwise(colors):
        assert np.abs(np.subtract(a, b)).sum() > 120


def test_short_names_drop_explanations_but_stay_distinct() -> None:
    names = ["watch (a person)", "push (an object)", "push (another person)", "stand", "(odd)"]
    assert short_names(names) == (
        "watch",
        "push (an object)",
        "push (another person)",
        "stand",
        "(odd)",
    )
    assert short_names(["take (an object) from (a person)"]) == ("take from",)


def test_text_grows_with_the_frame() -> None:
    assert [font_size_for(h) for h in (120, 240, 432, 720, 1080, 2160)] == [12, 12, 15, 20, 26, 44]
