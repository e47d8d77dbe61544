"""Choosing actions evenly, so that a few movies hold each class about equally often."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Choice = TypeVar("Choice")


class Deck:
    """Deals from shuffled packs, each of which holds every choice once.

    The packs are those of the whole split; a movie starts dealing at its own place in them. So
    movies need not know of each other, and together they still use up pack after pack.

    Args:
        key: numbers that seed the packs of a split.
        start: how many cards the movies before this one are expected to take.
    """

    def __init__(self, key: Sequence[int], start: int) -> None:
        self._key = list(key)
        self._start = start
        self._dealt: dict[int, int] = {}

    def deal(self, part: int, choices: Sequence[Choice]) -> Choice:
        """The next card of pack number ``part``."""
        dealt = self._dealt.get(part, 0)
        self._dealt[part] = dealt + 1
        turn, place = divmod(self._start + dealt, len(choices))
        pack = np.random.default_rng(np.random.SeedSequence([*self._key, part, turn]))
        return choices[pack.permutation(len(choices))[place]]
