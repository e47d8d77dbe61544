"""What this process has of the machine."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Processors: those of the machine, or the part of them that this process was given."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
