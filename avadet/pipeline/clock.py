"""Where the time goes: seconds per stage, gathered from all threads."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class StageClock:
    """Adds up the wall time that threads spend inside named stages.

    With stages side by side the sum exceeds the time that passed; the shares tell which stage
    sets the pace.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._lock = threading.Lock()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            with self._lock:
                self.seconds[stage] += spent

    def each(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """Passes items on and counts the time taken to produce them."""
        iterator = iter(items)
        try:
            while True:
                with self(stage):
                    try:
                        item = next(iterator)
                    except StopIteration:
                        return
                yield item
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    def shares(self) -> dict[str, float]:
        """Stage to its part of all busy time, largest first."""
        total = sum(self.seconds.values()) or 1.0
        ordered = sorted(self.seconds.items(), key=lambda item: -item[1])
        return {stage: spent / total for stage, spent in ordered}

    def __str__(self) -> str:
        return ", ".join(f"{stage} {share:.0%}" for stage, share in self.shares().items())
