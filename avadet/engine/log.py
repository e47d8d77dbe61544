"""What a run tells: one progress line, TensorBoard, and ``log.jsonl`` in the run folder."""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from avadet.engine.progress import Progress
from avadet.errors import UserError
from avadet.files import write_text

_logger = logging.getLogger(__name__)
# Seconds between lines where there is no terminal to draw on.
_QUIET_SECONDS = 30.0


def duration(seconds: float) -> str:
    """h:mm:ss."""
    if not math.isfinite(seconds):
        return "?"
    whole = max(int(seconds + 0.5), 0)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


class RunLog:
    """The log of the main process; elsewhere (``active=False``) every method does nothing.

    A resumed run cuts from ``log.jsonl`` and from TensorBoard what was logged after the
    checkpoint it resumes from, so that no step appears twice.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        active: bool = True,
        resume_step: int = 0,
        redo_evaluation: bool = False,
        tensorboard: bool = True,
        label: str = "train",
    ) -> None:
        self.active = active
        self.path = run_dir / "log.jsonl"
        self._label = label
        self._writer: Any = None
        self._bar: tqdm[Any] | None = None
        self._last_line = time.monotonic()
        if not active:
            return
        run_dir.mkdir(parents=True, exist_ok=True)
        self._cut(resume_step, redo_evaluation)
        if tensorboard:
            # Imported here: it takes a second, which commands that do not train need not pay.
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(run_dir / "tensorboard"), purge_step=resume_step + 1)

    def _cut(self, step: int, redo_evaluation: bool) -> None:
        if not self.path.exists():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
                again = entry["step"] == step and entry["kind"] == "eval" and redo_evaluation
                if 0 < entry["step"] <= step and not again:
                    kept.append(line)
            # The last line may be half-written by a killed process.
            except (json.JSONDecodeError, KeyError, TypeError):
                continue
        write_text(self.path, "".join(f"{line}\n" for line in kept))

    def record(self, kind: str, progress: Progress, **values: float) -> None:
        """Adds one line to ``log.jsonl`` and its finite values to TensorBoard."""
        if not self.active:
            return
        entry: dict[str, Any] = {
            "kind": kind,
            "step": progress.step,
            "epoch": round(progress.position, 6),
            "minutes": round(progress.minutes, 3),
        }
        for name, value in values.items():
            # JSON has no NaN: an undefined metric is null.
            entry[name] = float(value) if math.isfinite(value) else None
            if self._writer is not None and math.isfinite(value):
                self._writer.add_scalar(f"{kind}/{name}", value, progress.step)
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot be written: {error.strerror}; mend it and resume the run"
            ) from error

    def line(
        self,
        progress: Progress,
        *,
        epochs: float,
        loss: float,
        lr: float,
        data_share: float,
        clips_per_second: float,
        seconds_left: float,
    ) -> None:
        """Renews the progress line (a plain line now and then where there is no terminal)."""
        if not self.active:
            return
        text = (
            f"epoch {progress.position:.2f}/{epochs:g} loss {loss:.4f} lr {lr:.3g} "
            f"data {data_share:.0%} {clips_per_second:.1f} clips/s ETA {duration(seconds_left)}"
        )
        if sys.stderr.isatty():
            if self._bar is None:
                self._bar = tqdm(
                    total=1000,
                    file=sys.stderr,
                    bar_format=self._label + " {percentage:3.0f}%|{bar:12}| {desc}",
                )
            self._bar.n = min(int(1000 * progress.position / epochs), 1000)
            self._bar.set_description_str(text)
        elif time.monotonic() - self._last_line > _QUIET_SECONDS:
            self._last_line = time.monotonic()
            _logger.info("%s %s", self._label, text)

    def say(self, text: str) -> None:
        """A line of its own, above the progress line."""
        if self.active:
            if self._bar is not None:
                self._bar.clear()
            _logger.info("%s", text)

    def close(self) -> None:
        """Flushes everything; a log file is complete after it."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        if self._writer is not None:
            try:
                self._writer.close()
            # What the curves then lack stands in log.jsonl; the run has an error of its own.
            except OSError as error:
                _logger.warning("TensorBoard's file is not complete: %s", error)
            self._writer = None
