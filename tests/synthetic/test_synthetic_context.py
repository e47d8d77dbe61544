"""The data set whose labels lie many seconds away: what its clips show, and what they do not."""

from __future__ import annotations

import csv
import itertools
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avadet.errors import UserError
from avadet.synthetic import context, mini_ava
from avadet.synthetic.actions import BY_KEY
from avadet.synthetic.context import AFTER, BEFORE, CONTEXT_NAMES, Story, change_seconds
from avadet.synthetic.deck import Deck
from avadet.synthetic.scenes import Shot
from avadet.synthetic.settings import MINI_AVA_PRESETS

# Before there was a `context`.
RECIPE_OF_SMALL = "b24b5ee48704ff9d"
SETTINGS = replace(MINI_AVA_PRESETS["long_context"], movies=2, val_movies=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three movies."""
    return mini_ava.generate(
        tmp_path_factory.mktemp("context"),
        "long_context",
        3,
        movies=2,
        val_movies=1,
        workers=1,
        progress=False,
    )


def labels(data: Path, split: str) -> dict[str, dict[int, dict[str, set[int]]]]:
    """Movie -> second -> person -> classes."""
    found: dict = defaultdict(lambda: defaultdict(lambda: defaultdict(set)))
    with open(data / f"annotations/ava_{split}.csv", newline="") as file:
        for video, second, _, _, _, _, action, person in csv.reader(file):
            found[video][int(second)][person].add(int(action))
    return found


@pytest.mark.parametrize("split", ["train", "val"])
def test_labels_of_waiting_follow_from_what_is_seen_elsewhere(data: Path, split: str) -> None:
    cues = {BY_KEY[each.cue].ava_id: each.class_id for each in AFTER + BEFORE}
    after = {each.class_id for each in AFTER}
    for seconds in labels(data, split).values():
        seen = {
            cues[action]: second
            for second, people in seconds.items()
            for actions in people.values()
            for action in actions & set(cues)
        }
        waited = 0
        for second, people in seconds.items():
            marks = [actions & set(CONTEXT_NAMES) for actions in people.values()]
            if not any(marks):
                continue
            waited += 1
            assert all(mark == set(seen) for mark in marks)
            assert all(actions == mark | {12} for actions, mark in zip(people.values(), marks))
            for mark, cue in seen.items():
                assert (cue < second) if mark in after else (cue > second)
        assert waited >= 6
        assert len(seen) == 2


def test_many_seconds_lie_between(data: Path) -> None:
    """Half of the keyframes with such labels are 4 s or more away from either cue."""
    cues = {BY_KEY[each.cue].ava_id for each in AFTER + BEFORE}
    gaps = []
    for seconds in labels(data, "train").values():
        shown = [s for s, people in seconds.items() if any(a & cues for a in people.values())]
        for second, people in seconds.items():
            if any(actions & set(CONTEXT_NAMES) for actions in people.values()):
                gaps.append(min(abs(second - other) for other in shown))
    assert min(gaps) >= 3
    assert np.median(gaps) >= 4


def frames(choice: tuple[int, int]) -> list[np.ndarray]:
    """The pictures of one movie with these cues, everything else alike."""
    rng = np.random.default_rng(5)
    changes = [round(c * SETTINGS.fps) for c in change_seconds(rng, SETTINGS.seconds)]
    story = Story(rng, Deck((3, 0), 0))
    story._classes = AFTER[choice[0]], BEFORE[choice[1]]
    length = SETTINGS.seconds * SETTINGS.fps
    shot = Shot(rng, SETTINGS, length, changes, deck=Deck((3, 0), 0), story=story)
    # From a second and a half after the first cue to as long before the second.
    return [shot.frame(k) for k in range(changes[0] + 15, changes[2] - 15, 7)]


def test_no_pixel_of_the_waiting_depends_on_the_cues() -> None:
    choices = list(itertools.product(range(3), range(3)))
    first = frames(choices[0])
    assert len(first) > 10
    for choice in choices[1:]:
        for one, other in zip(first, frames(choice), strict=True):
            np.testing.assert_array_equal(one, other)


def test_classes_are_dealt_evenly_and_independently() -> None:
    pairs = [
        tuple(each.class_id for each in Story(np.random.default_rng(0), Deck((1, 0), n))._classes)
        for n in range(90)
    ]
    for place, classes in enumerate((AFTER, BEFORE)):
        for each in classes:
            assert sum(pair[place] == each.class_id for pair in pairs) == 30
    assert len(set(pairs)) == 9


def test_somebody_has_the_part_and_the_others_stand() -> None:
    actors = set()
    for seed in range(30):
        story = Story(np.random.default_rng(seed), Deck((2, 0), seed))
        for act in range(4):
            doings = story.doings(act, 3)
            standing = [(BY_KEY["stand"], BY_KEY["free"])] * 3
            different = [n for n in range(3) if doings[n] != standing[n]]
            assert len(different) == (1 if act in (0, 3) else 0)
            actors.update(different)
            assert bool(story.labels(act)) == (act in (1, 2))
    assert actors == {0, 1, 2}


def test_acts_are_long_enough() -> None:
    for seed in range(40):
        for seconds in (20, 24, 60):
            changes = context.change_seconds(np.random.default_rng(seed), seconds)
            assert all(change % 1 == 0.5 for change in changes)
            assert np.diff([0, *changes, seconds]).min() >= 3.5


def test_the_same_bytes_again_and_the_other_presets_as_before(data: Path, tmp_path: Path) -> None:
    mini_ava.generate(
        tmp_path,
        "long_context",
        3,
        movies=2,
        val_movies=1,
        workers=2,
        progress=False,
    )
    for path in sorted(data.rglob("*.*")):
        assert (tmp_path / path.relative_to(data)).read_bytes() == path.read_bytes(), path.name
    lines = (data / "annotations/ava_action_list_context.pbtxt").read_text()
    assert [int(line.split()[-1]) for line in lines.splitlines() if "id:" in line] == [
        81, 82, 83, 84, 85, 86,
    ]  # fmt: skip
    # A setting that came later does not make anybody draw their movies again.
    assert MINI_AVA_PRESETS["small"].recipe() == RECIPE_OF_SMALL


def test_too_short_a_movie_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="seconds=12"):
        mini_ava.generate(tmp_path, "long_context", seconds=12)
