"""Averages between two log entries."""

from __future__ import annotations

import time

from avadet.engine.log import RunLog
from avadet.engine.progress import Progress


class Meter:
    """Mean loss, speed, share of time spent waiting for data, time left."""

    def __init__(self, position: float) -> None:
        self._rate = 0.0  # epochs a second, smoothed
        self.restart(position)

    def restart(self, position: float) -> None:
        """Begins anew at ``position``, leaving out the time since the last entry."""
        self._began = time.monotonic()
        self._from = position
        self._losses: list[float] = []
        self._norms: list[float] = []
        self._clips = 0
        self._waited = 0.0

    def add(self, loss: float, grad_norm: float, clips: int, wait_seconds: float) -> None:
        """Counts one step."""
        self._losses.append(loss)
        self._norms.append(grad_norm)
        self._clips += clips
        self._waited += wait_seconds

    def report(
        self,
        log: RunLog,
        progress: Progress,
        lr: float,
        epochs: float,
        max_steps: int | None,
        max_minutes: float | None,
    ) -> None:
        """Writes the averages and begins anew."""
        seconds = max(time.monotonic() - self._began, 1e-9)
        rate = (progress.position - self._from) / seconds
        if rate > 0:
            self._rate = rate if self._rate == 0 else 0.7 * self._rate + 0.3 * rate
        left = (epochs - progress.position) / self._rate if self._rate else float("inf")
        steps = len(self._losses)
        if max_steps is not None:
            left = min(left, (max_steps - progress.step) * seconds / steps)
        if max_minutes is not None:
            left = min(left, 60 * (max_minutes - progress.minutes))
        loss = sum(self._losses) / steps
        share, speed = self._waited / seconds, self._clips / seconds
        log.record(
            "train",
            progress,
            loss=loss,
            lr=lr,
            grad_norm=sum(self._norms) / steps,
            data_share=share,
            clips_per_second=speed,
            skipped=progress.skipped,
        )
        log.line(
            progress,
            epochs=epochs,
            loss=loss,
            lr=lr,
            data_share=share,
            clips_per_second=speed,
            seconds_left=left,
        )
        self.restart(progress.position)
