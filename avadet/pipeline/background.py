"""Stages side by side: a producer that works ahead, a consumer that works behind.

Decoding, network arithmetic and encoding release the interpreter's lock, so that threads truly
overlap. Both directions hold a bounded number of items, pass exceptions on to whoever waits for
the work, and end when they are left early.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_END = object()
_TICK = 0.1  # seconds between looks at whether the other side is still there


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error


class Ahead(Generic[T]):
    """Iterates over ``items`` in a thread of its own, at most ``depth`` items ahead.

    A context manager. An exception of the producer is raised in the consumer, at the place in
    the order where it happened.

    Args:
        items: consumed in the thread, and closed there.
        depth: bound of what is held between the two; 0 iterates in the caller's thread.
        name: of the thread, for whoever debugs.
    """

    def __init__(self, items: Iterable[T], depth: int, name: str) -> None:
        self._items = items
        self._depth = depth
        self._queue: queue.Queue[object] = queue.Queue(max(1, depth))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._produce, name=name, daemon=True)

    def __enter__(self) -> Ahead[T]:
        if self._depth:
            self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        if self._depth:
            self._thread.join()
        elif isinstance(self._items, Generator):
            self._items.close()

    def __iter__(self) -> Iterator[T]:
        if not self._depth:
            yield from self._items
            return
        while True:
            item = self._queue.get()
            if item is _END:
                return
            if isinstance(item, _Failure):
                raise item.error
            yield item  # type: ignore[misc]

    def _produce(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    return
            self._put(_END)
        except BaseException as error:  # whatever it is, it belongs to the consumer
            self._put(_Failure(error))
        finally:
            if isinstance(self._items, Generator):
                self._items.close()

    def _put(self, item: object) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=_TICK)
                return True
            except queue.Full:
                continue
        return False


class Abandoned(Exception):
    """Raised in a ``Behind`` worker whose caller failed: leave no half result."""


class Behind(Generic[T, R]):
    """Feeds ``work``, a function of an iterator, in a thread of its own.

    A context manager: leaving it normally finishes the work; leaving it by an exception raises
    ``Abandoned`` inside the work, so that files written atomically vanish.

    Args:
        work: consumes the items; what it returns is ``result`` afterwards.
        depth: most items waiting; ``put`` blocks beyond.
        name: of the thread.
    """

    result: R

    def __init__(self, work: Callable[[Iterator[T]], R], depth: int, name: str) -> None:
        self._work = work
        self._queue: queue.Queue[object] = queue.Queue(max(1, depth))
        self._error: BaseException | None = None
        self._abandoned = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._consume, name=name, daemon=True)

    def __enter__(self) -> Behind[T, R]:
        self._thread.start()
        return self

    def put(self, item: T) -> None:
        """Hands over one item.

        Raises:
            Exception: what the work failed with.
        """
        self._send(item)

    def finish(self) -> None:
        """Ends the iterator and waits for the work; an interrupt does not end the waiting work.

        Raises:
            Exception: what the work failed with.
        """
        if not self._ended:
            self._send(_END)
            self._ended = True
        # Short waits, so that an interrupt is noticed while the work goes on.
        while self._thread.is_alive():
            self._thread.join(_TICK)
        if self._error is not None:
            raise self._error

    def __exit__(self, kind: object, *exc: object) -> None:
        try:
            if kind is None:
                self.finish()
        finally:
            self._abandoned.set()
            self._thread.join()

    def _send(self, item: object) -> None:
        while True:
            if self._error is not None:
                raise self._error
            if not self._thread.is_alive():
                return  # the work needs no more
            try:
                self._queue.put(item, timeout=_TICK)
                return
            except queue.Full:
                continue

    def _consume(self) -> None:
        try:
            self.result = self._work(self._items())
        except Abandoned:
            pass
        except BaseException as error:  # raised again by put or on leaving
            self._error = error

    def _items(self) -> Iterator[T]:
        while True:
            if self._abandoned.is_set():
                raise Abandoned
            try:
                item = self._queue.get(timeout=_TICK)
            except queue.Empty:
                continue
            if item is _END:
                return
            yield item  # type: ignore[misc]
