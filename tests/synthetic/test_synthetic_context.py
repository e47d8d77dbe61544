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
from avadet.synthetic.context import FIRST, HIDDEN_NAMES, LAST, Story, change_seconds
from avadet.synthetic.deck import Deck
from avadet.synthetic.scenes import Shot
from avadet.synthetic.settings import MINI_AVA_PRESETS
from avadet.video.reader import VideoReader

# Before there was a `context`.
RECIPE_OF_SMALL = "b24b5ee48704ff9d"
SETTINGS = MINI_AVA_PRESETS["long_context"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three movies."""
    folder = tmp_path_factory.mktemp("context")
    return mini_ava.generate(
        folder, "long_context", 3, movies=2, val_movies=1, workers=1, progress=False
    )


def labels(data: Path, split: str) -> dict[str, dict[int, list[set[int]]]]:
    """Movie -> second -> the classes of each person."""
    found: dict = defaultdict(lambda: defaultdict(lambda: defaultdict(set)))
    with open(data / f"annotations/ava_{split}.csv", newline="") as file:
        for video, second, _, _, _, _, action, person in csv.reader(file):
            found[video][int(second)][person].add(int(action))
    return {v: {s: [*p.values()] for s, p in seconds.items()} for v, seconds in found.items()}


@pytest.mark.parametrize("split", ["train", "val"])
def test_labels_in_white_light_follow_from_the_others(data: Path, split: str) -> None:
    for video, seconds in labels(data, split).items():
        coloured: dict[int, list[int]] = defaultdict(list)
        for second, people in seconds.items():
            assert len({frozenset(classes) for classes in people}) == 1
            for light in FIRST + LAST:
                if light.shown_id in people[0]:
                    assert people[0] == {12, light.shown_id}
                    coloured[light.hidden_id].append(second)
        assert sorted(len(times) for times in coloured.values()) >= [3, 3]
        first, last = sorted(coloured, key=lambda hidden: coloured[hidden][0])
        assert HIDDEN_NAMES[first].startswith("stand after")
        assert HIDDEN_NAMES[last].startswith("stand before")
        white = {s: people for s, people in seconds.items() if people[0] & set(HIDDEN_NAMES)}
        assert len(white) >= 7
        for second, people in white.items():
            assert people[0] == {12, first, last}
            assert max(coloured[first]) < second < min(coloured[last])
        # The pictures are lit as the labels say.
        with VideoReader(data / f"movies/{video}.mp4") as reader:
            names = {light.hidden_id: light for light in FIRST + LAST}
            for hidden, times in coloured.items():
                both = reader.read([times[0], min(white)], short_side=80).frames
                shown, plain = both.mean((1, 2))
                tint = np.asarray(names[hidden].tint)
                np.testing.assert_allclose(shown / plain, tint, rtol=0.15)


def test_many_seconds_lie_between(data: Path) -> None:
    gaps = []
    for seconds in labels(data, "train").values():
        white = [s for s, people in seconds.items() if people[0] & set(HIDDEN_NAMES)]
        others = set(seconds) - set(white)
        gaps += [min(abs(second - other) for other in others) for second in white]
    assert min(gaps) >= 3
    assert np.median(gaps) >= 4


def frames(first: int, last: int) -> list[np.ndarray]:
    """Pictures of one movie with these lights, everything else alike."""
    rng = np.random.default_rng(5)
    changes = [round(c * SETTINGS.fps) for c in change_seconds(rng, SETTINGS.seconds)]
    story = Story(Deck((3, 0), 0))
    story.first, story.last = FIRST[first], LAST[last]
    length = SETTINGS.seconds * SETTINGS.fps
    shot = Shot(rng, SETTINGS, length, changes, deck=Deck((3, 0), 0), story=story)
    # From a second after the first light went out to as long before the last goes on.
    return [shot.frame(k) for k in range(changes[0] + 6, changes[2] - 6, 5)]


def test_no_pixel_in_white_light_depends_on_the_others() -> None:
    alike = frames(0, 0)
    assert len(alike) > 10
    for first, last in itertools.product(range(3), range(3)):
        for one, other in zip(alike, frames(first, last), strict=True):
            np.testing.assert_array_equal(one, other)


def test_lights_are_dealt_evenly_and_independently() -> None:
    stories = [Story(Deck((1, 0), n)) for n in range(90)]
    pairs = [(story.first.name, story.last.name) for story in stories]
    for place, lights in enumerate((FIRST, LAST)):
        for light in lights:
            assert sum(pair[place] == light.name for pair in pairs) == 30
    assert len(set(pairs)) == 9


def test_acts_are_long_enough() -> None:
    for seed in range(40):
        for seconds in (20, 24, 60):
            changes = context.change_seconds(np.random.default_rng(seed), seconds)
            assert all(change % 1 == 0.5 for change in changes)
            assert np.diff([0, *changes, seconds]).min() >= 3.5


def test_the_same_bytes_again(data: Path, tmp_path: Path) -> None:
    mini_ava.generate(
        tmp_path, "long_context", 3, movies=2, val_movies=1, workers=2, progress=False
    )
    for path in sorted(data.rglob("*.*")):
        assert (tmp_path / path.relative_to(data)).read_bytes() == path.read_bytes(), path.name
    lines = (data / "annotations/ava_action_list_context.pbtxt").read_text().splitlines()
    listed = [int(line.split()[-1]) for line in lines if "id:" in line]
    assert listed == sorted(HIDDEN_NAMES)


def test_what_was_drawn_before_stays_valid() -> None:
    """A setting that came later makes nobody draw their movies again."""
    assert MINI_AVA_PRESETS["small"].recipe() == RECIPE_OF_SMALL
    small = MINI_AVA_PRESETS["small"]
    assert replace(small, context=True).recipe() != RECIPE_OF_SMALL


def test_too_short_a_movie_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="seconds=12"):
        mini_ava.generate(tmp_path, "long_context", seconds=12)
