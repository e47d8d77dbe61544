"""Shots: boxes that fit, labels that tell what the limbs do, people who are hidden."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from avadet.synthetic.actions import ACTIONS, BY_KEY
from avadet.synthetic.contact_sheet import contact_sheet
from avadet.synthetic.figures import disc
from avadet.synthetic.scenes import Shot
from avadet.synthetic.settings import MINI_AVA_PRESETS, Settings

SMALL = MINI_AVA_PRESETS["small"]


def _shot(seed: int, settings: Settings = SMALL, frames: int = 60, **kwargs) -> Shot:
    return Shot(np.random.default_rng(seed), settings, frames, **kwargs)


@pytest.mark.parametrize("seed", range(12))
def test_boxes_are_the_extent_of_what_a_person_changes_in_the_picture(seed: int) -> None:
    """Second opinion: the frame with the person against the same frame without."""
    settings = replace(SMALL, people=(1, 1), width=240, height=180, classes=(10, 12, 14, 69, 67))
    shot = _shot(seed, settings, frames=40)
    shot._passers, shot._occluders = [], []
    for index in (0, 17, 39):
        (found,) = shot.annotate(index)
        drawn = shot.frame(index).astype(int)
        people, shot._people = shot._people, []
        empty = shot.frame(index).astype(int)
        shot._people = people
        rows, columns = np.nonzero(np.abs(drawn - empty).max(axis=-1) > 12)
        seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        box = np.array(found.box) * [240, 180, 240, 180]
        assert np.abs(box - seen).max() <= 1.5


def test_a_person_behind_another_or_out_of_the_frame_has_no_box() -> None:
    settings = replace(SMALL, people=(2, 2), classes=(12,))
    shot = _shot(1, settings)
    assert [found.person for found in shot.annotate(30)] == [0, 1]
    front, back = shot._people
    moved = back.at["hip"] - front.at["hip"]
    # Exactly in front, and larger.
    back.at = {name: point + 0 for name, point in front.at.items()}
    back.ground = front.ground - 1
    front.scale *= 1.3
    hidden = shot.annotate(30)
    assert [found.person for found in hidden] == [0]
    back.at = {name: point + 10 * np.abs(moved) for name, point in back.at.items()}
    assert [found.person for found in shot.annotate(30)] == [0]


def test_boxes_of_people_at_the_edge_stay_inside_the_frame() -> None:
    settings = replace(MINI_AVA_PRESETS["large"], width=160, height=120)
    boxes = []
    for seed in range(15):
        boxes += [found.box for found in _shot(seed, settings, 31).annotate(30)]
    boxes = np.array(boxes)
    assert len(boxes) > 15
    assert boxes.min() >= 0
    assert boxes.max() <= 1
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_labels_tell_what_the_limbs_do() -> None:
    """Turning points of the near knee about the hip, counted, against the label."""
    settings = replace(SMALL, people=(1, 1), classes=(10, 12, 14))
    counts: dict[int, list[int]] = {10: [], 12: [], 14: []}
    for seed in range(60):
        shot = _shot(seed, settings, frames=180)
        (found,) = shot.annotate(90)
        (label,) = found.ava_ids
        person = shot._people[0]
        swing = person.at["near_knee"][:, 0] - person.at["hip"][:, 0]
        counts[label].append(int(np.count_nonzero(np.diff(np.sign(np.diff(swing.round(6)))))))
    assert max(counts[12]) == 0
    assert np.mean(counts[14]) == pytest.approx(2 * 6 * 2.0 * settings.tempo, rel=0.2)
    assert np.mean(counts[10]) == pytest.approx(2 * 6 * 4.6 * settings.tempo, rel=0.2)


def test_people_turn_to_another_action_at_the_change() -> None:
    settings = replace(SMALL, people=(1, 1))
    seen = set()
    for seed in range(8):
        shot = _shot(seed, settings, frames=120, changes=[60])
        seen.add((shot.annotate(30)[0].ava_ids, shot.annotate(90)[0].ava_ids))
        hand = shot._people[0].at["near_hand"]
        assert np.abs(np.diff(hand[54:66], axis=0)).max() < 0.5 * SMALL.height  # no leap
    assert any(before != after for before, after in seen)


@pytest.mark.parametrize("key", [action.key for action in ACTIONS])
def test_every_action_can_be_drawn_and_labelled(key: str) -> None:
    action = BY_KEY[key]
    settings = MINI_AVA_PRESETS["large"]
    alone = (action, BY_KEY["free"]) if action.part == "body" else (BY_KEY["stand"], action)
    shot = _shot(0, replace(settings, clutter=0.0), 8, only=alone)
    found = shot.annotate(4)
    assert len(found) == (2 if action.part == "pair" else 1)
    assert shot.frame(4).shape == (settings.height, settings.width, 3)
    if action.ava_id is not None:
        assert action.ava_id in found[0].ava_ids
        assert (action.ava_id in found[-1].ava_ids) == (action.partner is None)


def test_hidden_share_counts_furniture_but_not_held_things() -> None:
    settings = replace(SMALL, people=(1, 1), classes=(12, 17))
    shot = _shot(0, settings, only=(BY_KEY["stand"], BY_KEY["carry"]))
    (before,) = shot.annotate(10)
    x, y = shot._people[0].at["hip"][10].tolist()
    shot._occluders = [(1e6, [disc(x, y, 0.25 * shot._people[0].scale, (9, 9, 9))])]
    (partly,) = shot.annotate(10)
    assert partly.box[1] == before.box[1]  # the head still shows
    shot._occluders = [(1e6, [disc(x, y, 2 * shot._people[0].scale, (9, 9, 9))])]
    assert shot.annotate(10) == []


def test_owners_is_a_second_drawing_of_the_same_people() -> None:
    shot = _shot(4, replace(SMALL, people=(2, 2)))
    owners = shot.owners(5)
    assert set(np.unique(owners)) == {0, 1, 2}
    assert owners.shape == (2 * SMALL.height, 2 * SMALL.width)
    box = shot.annotate(5)[0].box
    rows = np.nonzero((owners == 1).any(axis=1))[0]
    assert box[1] == rows[0] / len(owners)
    assert box[3] == (rows[-1] + 1) / len(owners)


def test_contact_sheet_shows_each_action() -> None:
    sheet = contact_sheet(SMALL, columns=3, keys=("walk", "hug"))
    assert isinstance(sheet, Image.Image)
    assert sheet.size == (3 * SMALL.width, 2 * (SMALL.height + 12))
    assert ImageDraw.Draw(sheet) is not None
