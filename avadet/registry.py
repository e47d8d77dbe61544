"""Names for pluggable parts."""

from __future__ import annotations

import difflib
import fnmatch
import importlib
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from avadet.errors import UserError

F = TypeVar("F", bound=Callable[..., Any])

# Names ``module:function`` that weights files may call, with commas between.
TRUST = "AVADET_TRUST"


def suggest(name: str, known: list[str]) -> str:
    """`` Did you mean 'x'?`` for the nearest known name, or nothing."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else ""


# Names ``module:function`` that this process has reached by a config or a caller.
_used: set[str] = set()


def refuse_code(values: Any, source: str) -> None:
    """Refuses what comes from a file and names code outside the package, however deep inside.

    Reading weights must run nothing of the file's choice. Such a name is taken only where it was
    used in this process before, by a config or by the caller, or where the environment lists it
    in ``AVADET_TRUST``.

    Args:
        values: plain data of the file that may hold names of constructors.
        source: what the message names.

    Raises:
        UserError: says how to allow it.
    """
    allowed = _used.union(os.environ.get(TRUST, "").split(","))
    waiting, seen = [values], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, Mapping | list | tuple):
            # A pickled list may hold itself.
            if id(value) not in seen:
                seen.add(id(value))
                waiting += value.values() if isinstance(value, Mapping) else value
        elif isinstance(value, str) and ":" in value and value not in allowed:
            raise UserError(
                f"{source}: it names '{value}', code outside avadet, which loading would run. If "
                f"you trust the file, set {TRUST}={value}, or use the config that names it"
            )


class Registry:
    """Constructors by name.

    A name registered twice is a bug and raises at import; an unknown name is the user's and
    raises ``UserError`` with the nearest known one. ``module:function`` reaches constructors
    outside the package without registration.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._constructors: dict[str, Callable[..., Any]] = {}

    def add(self, name: str, constructor: Callable[..., Any]) -> None:
        """Registers ``constructor`` (a function, a class or a ``functools.partial``)."""
        if name in self._constructors:
            raise ValueError(f"{self.kind} '{name}' is registered twice")
        self._constructors[name] = constructor

    def register(self, constructor: F) -> F:
        """Decorator: registers a function under its own name."""
        self.add(constructor.__name__, constructor)
        return constructor

    def get(self, name: str) -> Callable[..., Any]:
        """The constructor called ``name``, or the one at ``module:function``.

        Raises:
            UserError: nothing has that name.
        """
        if ":" in name:
            constructor = self._import(name)
            _used.add(name)
            return constructor
        if name not in self._constructors:
            known = self.names()
            raise UserError(
                f"unknown {self.kind} '{name}'.{suggest(name, known)} Known: {', '.join(known)}"
            )
        return self._constructors[name]

    def names(self, pattern: str = "*") -> list[str]:
        """Registered names that match a shell pattern, sorted."""
        return sorted(fnmatch.filter(self._constructors, pattern))

    def __contains__(self, name: str) -> bool:
        return name in self._constructors

    def _import(self, name: str) -> Callable[..., Any]:
        module_name, _, attribute = name.partition(":")
        # As `python -m` does: modules of the folder one works in are found.
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
        try:
            module = importlib.import_module(module_name)
        except ImportError as error:
            raise UserError(
                f"{self.kind} '{name}': cannot import {module_name}: {error}"
            ) from error
        if not hasattr(module, attribute):
            raise UserError(f"{self.kind} '{name}': {module_name} has no '{attribute}'")
        constructor = getattr(module, attribute)
        if not callable(constructor):
            raise UserError(f"{self.kind} '{name}': '{attribute}' is not callable")
        return constructor
