"""Ctrl-C and SIGTERM: finish the step, write a checkpoint, leave."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any


class StopRequest:
    """Context in which the first SIGINT or SIGTERM only sets ``requested``.

    A second one acts as it would without this context. Processes forked inside (data-loader
    workers) get Ctrl-C from the terminal too: they ignore it, so that the batch in the making
    still arrives, and die of SIGTERM as usual.

    Attributes:
        requested: the name of the signal that asked to stop, or "".
    """

    def __init__(self) -> None:
        self.requested = ""
        self._owner = os.getpid()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        # Only the main thread may set handlers; elsewhere the caller keeps its own.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._before.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            if number != signal.SIGINT:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        if self.requested:
            before = self._before.get(number)
            signal.signal(number, before if before is not None else signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.requested = signal.Signals(number).name
