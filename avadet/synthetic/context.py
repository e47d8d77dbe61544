"""Classes that no clip shows: who stands and waits is labelled by what lies many seconds away.

A movie is one shot in four acts. In the first, one of its people sits, lies or crouches; in the
last, one of them bends, jumps or telephones; in between, and for whoever has no part in it, there
is standing. Everybody who stands in the two acts between has two more labels: after what, and
before what. Which of the people it was does not matter, so a clip around a standing person tells
nothing: the chances are one in three. The names are this data set's own, with ids above AVA's 80.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from avadet.synthetic.actions import BY_KEY, Action
from avadet.synthetic.deck import Deck


@dataclass(frozen=True)
class ContextClass:
    """A label of those who wait.

    Attributes:
        class_id: in the files.
        name: in the label map.
        cue: key of the action that it depends on.
    """

    class_id: int
    name: str
    cue: str


AFTER = (
    ContextClass(81, "stand (after someone sat)", "sit"),
    ContextClass(82, "stand (after someone lay)", "lie"),
    ContextClass(83, "stand (after someone crouched)", "crouch"),
)
BEFORE = (
    ContextClass(84, "stand (before someone bends)", "bend"),
    ContextClass(85, "stand (before someone jumps)", "jump"),
    ContextClass(86, "stand (before someone telephones)", "phone"),
)
CONTEXT_NAMES = {each.class_id: each.name for each in AFTER + BEFORE}
# The visible actions that a movie is made of.
CUE_IDS = tuple(
    sorted(BY_KEY[key].ava_id or 0 for key in {"stand", *(each.cue for each in AFTER + BEFORE)})
)
# Seconds of the first and of the last act, shortest and longest.
_CUE_SECONDS = (5, 6)


def change_seconds(rng: np.random.Generator, seconds: int) -> list[float]:
    """When the acts end but for the last: moments k + 0.5, ascending."""
    low, high = _CUE_SECONDS
    first = int(rng.integers(low, high + 1)) - 0.5
    last = seconds - int(rng.integers(low, high + 1)) + 0.5
    return [first, round((first + last) / 2) - 0.5, last]


class Story:
    """What the people of one movie do, and what those who wait are labelled with.

    Args:
        rng: source of the draws.
        deck: deals the two classes of the movie, evenly over the movies of a split.
    """

    def __init__(self, rng: np.random.Generator, deck: Deck) -> None:
        self._classes = deck.deal(0, AFTER), deck.deal(1, BEFORE)
        self._actors = rng.uniform(size=2)

    def doings(self, act: int, people: int) -> list[tuple[Action, Action]]:
        """(body, arms) of each of the people in one of the four acts."""
        found = [(BY_KEY["stand"], BY_KEY["free"])] * people
        part = {0: 0, 3: 1}.get(act)
        if part is not None:
            cue = BY_KEY[self._classes[part].cue]
            actor = int(self._actors[part] * people)
            body, arms = found[actor]
            found[actor] = (cue, arms) if cue.part == "body" else (body, cue)
        return found

    def labels(self, act: int) -> Sequence[int]:
        """Ids of the classes that everybody has in one of the four acts beside what they do."""
        return [each.class_id for each in self._classes] if act in (1, 2) else []
