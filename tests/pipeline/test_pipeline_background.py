"""Threads ahead and behind: order, bounds, errors, leaving early."""

from __future__ import annotations

import threading
import time

import pytest

from avadet.pipeline.background import Abandoned, Ahead, Behind
from avadet.pipeline.clock import StageClock


@pytest.mark.parametrize("depth", [0, 1, 5])
def test_ahead_gives_all_items_in_order(depth: int) -> None:
    with Ahead(range(100), depth, "t") as items:
        assert list(items) == list(range(100))


def test_ahead_is_bounded_and_truly_ahead() -> None:
    made = []

    def produce():
        for k in range(100):
            made.append(k)
            yield k

    with Ahead(produce(), 3, "t") as items:
        first = next(iter(items))
        time.sleep(0.3)
        assert first == 0
        assert 3 <= len(made) <= 6


@pytest.mark.parametrize("depth", [0, 2])
def test_ahead_passes_errors_on_in_place(depth: int) -> None:
    def produce():
        yield 1
        raise RuntimeError("broken")

    seen = []

    def consume() -> None:
        with Ahead(produce(), depth, "t") as items:
            seen.extend(items)

    with pytest.raises(RuntimeError, match="broken"):
        consume()
    assert seen == [1]


@pytest.mark.parametrize("depth", [0, 2])
def test_ahead_closes_its_producer_when_left_early(depth: int) -> None:
    closed = threading.Event()

    def produce():
        try:
            while True:
                yield 1
        finally:
            closed.set()

    with Ahead(produce(), depth, "t") as items:
        next(iter(items))
    assert closed.wait(2)


def test_behind_returns_what_the_work_made() -> None:
    with Behind(sum, 4, "t") as work:
        for k in range(50):
            work.put(k)
    assert work.result == sum(range(50))


def test_behind_raises_the_errors_of_the_work() -> None:
    def fail(items):
        next(items)
        raise OSError(28, "full")

    def feed(count: int) -> None:
        with Behind(fail, 1, "t") as work:
            for k in range(count):
                work.put(k)

    for count in (1, 1000):
        with pytest.raises(OSError, match="full"):
            feed(count)


def test_behind_abandons_the_work_when_the_caller_fails() -> None:
    seen = []

    def work(items):
        try:
            list(items)
        except Abandoned:
            seen.append("abandoned")
            raise

    def feed() -> None:
        with Behind(work, 2, "t") as sink:
            sink.put(1)
            raise ValueError("caller")

    with pytest.raises(ValueError, match="caller"):
        feed()
    assert seen == ["abandoned"]


def test_work_that_ends_early_does_not_block_the_caller() -> None:
    with Behind(lambda items: next(items), 1, "t") as sink:
        for k in range(20):
            sink.put(k)
    assert sink.result == 0


def test_the_clock_adds_up_stages() -> None:
    clock = StageClock()
    with clock("a"):
        time.sleep(0.02)
    assert list(clock.each("b", iter([1, 2]))) == [1, 2]
    assert clock.seconds["a"] >= 0.02
    assert next(iter(clock.shares())) == "a"
    assert sum(clock.shares().values()) == pytest.approx(1)
    assert str(clock).startswith("a ")
