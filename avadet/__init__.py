"""avadet: who does what, where and when in video.

Importing the package is cheap: the public functions load torch when first used.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "create_model": "avadet.build",
    "list_models": "avadet.build",
    "load_config": "avadet.config",
    "load_model": "avadet.convert",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'avadet' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
