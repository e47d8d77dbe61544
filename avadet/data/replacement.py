"""Training goes on where a movie turns out unreadable: another sample takes its place."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from avadet.data.draws import Draw
from avadet.errors import UserError

_log = logging.getLogger(__name__)
_Sample = TypeVar("_Sample")

# Samples in a row that may turn out unreadable before it is the data set's fault.
_AT_MOST = 10
# Coprime to nearly every length, so that neighbours in a list (one class, one disk) are left.
_NEXT = 7919


class Replacement:
    """Reads a sample, or where that fails another one, always the same; a warning names it.

    Args:
        what: what a sample is of, for messages: "clip", "video".
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._reported: set[str] = set()

    def read(
        self,
        draw: Draw,
        length: int,
        sample: Callable[[Draw], _Sample],
        name: Callable[[int], str],
    ) -> _Sample:
        """``sample(draw)``, or that of the first other draw that can be read.

        Args:
            draw: the one asked for.
            length: samples there are.
            sample: reads one.
            name: of the movie of a sample; each is reported once.

        Raises:
            UserError: ten in a row cannot be read.
        """
        for _ in range(_AT_MOST):
            try:
                return sample(draw)
            except UserError as error:
                last = error
                named = name(draw.sample)
                if named not in self._reported:
                    self._reported.add(named)
                    _log.warning(
                        "another %s takes the place of one that is unreadable: %s",
                        self._what,
                        error,
                    )
                draw = draw._replace(sample=(draw.sample + _NEXT) % length)
        raise UserError(f"{_AT_MOST} {self._what}s in a row cannot be read; the last one: {last}")
