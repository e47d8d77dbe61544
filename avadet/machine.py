"""What this process has of the machine."""

from __future__ import annotations

import ctypes
import os


def usable_cores() -> int:
    """Processors: those of the machine, or the part of them that this process was given."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def return_freed_memory() -> None:
    """Gives what the C library keeps of freed memory back to the system, where it can (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)
