"""Classes that no clip shows: people are labelled by the light of many seconds before and after.

A movie is one shot in four acts. In the first, a red, green or blue light is on, in the last a
yellow, purple or turquoise one; in the two acts between, the light is white, and everybody in it
has two labels more: after which light, and before which. A clip of white light tells nothing of
either: the chances are one in three. The names are this data set's own, with ids above AVA's 80.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from avadet.synthetic.deck import Deck

WHITE = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Light:
    """A coloured light, and the classes that tell of it.

    Attributes:
        name: of the colour.
        tint: factors on red, green and blue.
        shown_id: class of those whom it shines on.
        hidden_id: class of those whom it shone on, or will, many seconds away.
    """

    name: str
    tint: tuple[float, float, float]
    shown_id: int
    hidden_id: int


FIRST = (
    Light("red", (1.1, 0.55, 0.55), 81, 87),
    Light("green", (0.55, 1.1, 0.55), 82, 88),
    Light("blue", (0.55, 0.55, 1.1), 83, 89),
)
LAST = (
    Light("yellow", (1.0, 1.0, 0.5), 84, 90),
    Light("purple", (1.0, 0.5, 1.0), 85, 91),
    Light("turquoise", (0.5, 1.0, 1.0), 86, 92),
)
SHOWN_NAMES = {each.shown_id: f"stand in {each.name} light" for each in FIRST + LAST}
HIDDEN_NAMES = {each.hidden_id: f"stand after {each.name} light" for each in FIRST} | {
    each.hidden_id: f"stand before {each.name} light" for each in LAST
}
CONTEXT_NAMES = SHOWN_NAMES | HIDDEN_NAMES
# Seconds of the first and of the last act, shortest and longest.
_LIGHT_SECONDS = (5, 6)


def change_seconds(rng: np.random.Generator, seconds: int) -> list[float]:
    """When the acts end but for the last: moments k + 0.5, ascending."""
    low, high = _LIGHT_SECONDS
    first = int(rng.integers(low, high + 1)) - 0.5
    last = seconds - int(rng.integers(low, high + 1)) + 0.5
    return [first, round((first + last) / 2) - 0.5, last]


class Story:
    """The lights of one movie.

    Args:
        deck: deals the two lights, evenly over the movies of a split.
    """

    def __init__(self, deck: Deck) -> None:
        self.first, self.last = deck.deal(0, FIRST), deck.deal(1, LAST)

    def tint(self, act: int) -> tuple[float, float, float]:
        """Factors on red, green and blue in one of the four acts."""
        return {0: self.first.tint, 3: self.last.tint}.get(act, WHITE)

    def labels(self, act: int) -> Sequence[int]:
        """Ids of the classes that everybody has in one of the four acts beside what they do."""
        shown = {0: self.first.shown_id, 3: self.last.shown_id}
        return [shown[act]] if act in shown else [self.first.hidden_id, self.last.hidden_id]
