"""Fields of an export, checked: what is wrong is said by place, name and value."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from avadet.errors import UserError

_SHOWN = 60


def member(entry: Any, name: str, where: str) -> Any:
    """``entry[name]``.

    Raises:
        UserError: ``entry`` is no object or has no such field.
    """
    if name not in as_object(entry, where):
        raise UserError(f"{where}: has no '{name}'; complete it or export the file again")
    return entry[name]


def as_object(value: Any, where: str) -> Mapping[str, Any]:
    """A JSON object.

    Raises:
        UserError: it is something else.
    """
    if not isinstance(value, Mapping):
        raise _wrong(value, "an object of named fields", where)
    return value


def as_list(value: Any, where: str) -> list[Any]:
    """A JSON list.

    Raises:
        UserError: it is something else.
    """
    if not isinstance(value, list):
        raise _wrong(value, "a list", where)
    return value


def as_text(value: Any, where: str) -> str:
    """A name or a number as text, not empty.

    Raises:
        UserError: it is something else.
    """
    text = str(value).strip()
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not text:
        raise _wrong(value, "a name", where)
    return text


def as_id(value: Any, where: str) -> str | int:
    """What entries refer to one another by.

    Raises:
        UserError: neither a whole number nor text.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _wrong(value, "an id, a whole number or text", where)
    return value


def as_number(value: Any, where: str) -> float:
    """A finite number, or text that is one.

    Raises:
        UserError: it is something else.
    """
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise _wrong(value, "a number", where)
    return number


def as_whole(value: Any, where: str) -> int:
    """A whole number, or text that is one.

    Raises:
        UserError: it is something else.
    """
    number = as_number(value, where)
    if number != int(number):
        raise _wrong(value, "a whole number", where)
    return int(number)


def _wrong(value: Any, wanted: str, where: str) -> UserError:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    shown = text if len(text) <= _SHOWN else text[:_SHOWN] + " ..."
    return UserError(f"{where}: {shown} is not {wanted}; correct it or export the file again")
