"""Settings that travel inside checkpoints as text, read without running them.

PySlowFast stores its config as YAML, MMAction2 as a Python file. Both are read for their literal
values only.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any

_MAX_CHARACTERS = 2_000_000


def read_yaml_settings(text: str) -> dict[str, Any]:
    """Nested mappings of scalars and lists, as PySlowFast dumps its config.

    Reads the plain subset that such dumps use: block mappings, block and flow lists, scalars.
    Lines that are none of these are passed over, for the text is only ever a hint.
    """
    lines = []
    for raw in text[:_MAX_CHARACTERS].splitlines():
        stripped = raw.split(" #")[0].rstrip() if not raw.lstrip().startswith("#") else ""
        if stripped.strip():
            lines.append((len(stripped) - len(stripped.lstrip()), stripped.strip()))
    if lines and lines[0][1].startswith("{"):
        whole = _value(" ".join(line for _, line in lines))
        return whole if isinstance(whole, dict) else {}
    try:
        value, _ = _block(lines, 0, lines[0][0] if lines else 0, 0)
    except RecursionError:
        return {}
    return value if isinstance(value, dict) else {}


def _block(
    lines: list[tuple[int, str]], start: int, indent: int, depth: int
) -> tuple[dict[str, Any] | list[Any], int]:
    """The mapping or list whose lines stand at ``indent``, and the line after it."""
    if depth > 32:
        return {}, len(lines)
    if start < len(lines) and (lines[start][1].startswith("- ") or lines[start][1] == "-"):
        return _block_list(lines, start, indent, depth)
    mapping: dict[str, Any] = {}
    i = start
    while i < len(lines) and lines[i][0] >= indent:
        if lines[i][0] > indent:
            i += 1
            continue
        key, colon, rest = lines[i][1].partition(":")
        i += 1
        if not colon:
            continue
        if rest.strip():
            parts = [rest.strip()]
            open_brackets = _balance(parts[0]) if parts[0][0] in "[{" else 0
            while open_brackets > 0 and i < len(lines):
                parts.append(lines[i][1])  # a flow value over several lines
                open_brackets += _balance(lines[i][1])
                i += 1
            mapping[key.strip()] = _value(" ".join(parts))
        elif i < len(lines) and (
            lines[i][0] > indent or (lines[i][0] == indent and lines[i][1].startswith("-"))
        ):
            mapping[key.strip()], i = _block(lines, i, lines[i][0], depth + 1)
        else:
            mapping[key.strip()] = None
    return mapping, i


def _block_list(
    lines: list[tuple[int, str]], start: int, indent: int, depth: int
) -> tuple[list[Any], int]:
    values: list[Any] = []
    i = start
    while i < len(lines) and lines[i][0] == indent and lines[i][1].startswith("-"):
        rest = lines[i][1][1:]
        inner = rest.strip()
        if not inner:
            i += 1
            if i < len(lines) and lines[i][0] > indent:
                value, i = _block(lines, i, lines[i][0], depth + 1)
                values.append(value)
            else:
                values.append(None)
        elif inner.startswith("- ") or inner == "-":
            # "- - 1": a list whose first entry stands on the same line.
            column = indent + 1 + len(rest) - len(rest.lstrip())
            lines[i] = (column, inner)
            value, i = _block(lines, i, column, depth + 1)
            values.append(value)
        else:
            values.append(_value(inner))
            i += 1
    return values, i


def _balance(text: str) -> int:
    return sum(map(text.count, "[{")) - sum(map(text.count, "]}"))


_TOKEN = re.compile(r"""\s*([\[\]{},]|'[^']*'|"[^"]*"|[^\[\]{},]+)""")


def _value(text: str) -> Any:
    """A scalar, or a flow list or mapping."""
    if text[0] not in "[{":
        return _scalar(text)
    tokens = [match[1].strip() for match in _TOKEN.finditer(text)]
    return _flow(tokens, 0, 0)[0]


def _flow(tokens: list[str], i: int, depth: int) -> tuple[Any, int]:
    if depth > 32 or i >= len(tokens):
        return None, len(tokens)
    if tokens[i] not in "[{":
        return _scalar(tokens[i]), i + 1
    closing, values, entries = {"[": "]", "{": "}"}[tokens[i]], [], {}
    i += 1
    while i < len(tokens) and tokens[i] != closing:
        if tokens[i] == ",":
            i += 1
            continue
        key, colon, rest = tokens[i].partition(":")
        if closing == "}" and colon:
            if rest.strip():
                entries[key.strip()] = _scalar(rest.strip())
                i += 1
            else:
                entries[key.strip()], i = _flow(tokens, i + 1, depth + 1)
        else:
            value, i = _flow(tokens, i, depth + 1)
            values.append(value)
    return (entries if closing == "}" else values), i + 1


def _scalar(text: str) -> Any:
    words = {"true": True, "false": False, "null": None, "~": None}
    if text.lower() in words:
        return words[text.lower()]
    if text[0] in "'\"" and len(text) > 1 and text[-1] == text[0]:
        return text[1:-1]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def read_python_settings(text: str) -> dict[str, Any]:
    """Top-level ``name = value`` of a Python config, where values are literals and ``dict(...)``.

    Values that are computed are None.
    """
    try:
        tree = ast.parse(text[:_MAX_CHARACTERS])
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    settings = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            settings[node.targets[0].id] = _literal(node.value, 0)
    return settings


def _literal(node: ast.expr, depth: int) -> Any:
    if depth > 64:
        return None
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal(item, depth + 1) for item in node.elts]
    if isinstance(node, ast.Dict):
        return {
            key.value: _literal(value, depth + 1)
            for key, value in zip(node.keys, node.values, strict=True)
            if isinstance(key, ast.Constant)
        }
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _literal(node.operand, depth + 1)
        return -value if isinstance(value, int | float) else None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        return {word.arg: _literal(word.value, depth + 1) for word in node.keywords if word.arg}
    return None


def lookup(settings: Mapping[str, Any], path: str, default: Any = None) -> Any:
    """The value at ``"A.B.C"`` of nested mappings, or ``default``."""
    value: Any = settings
    for key in path.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return default
        value = value[key]
    return value


def find_all(value: Any, key: str, depth: int = 0) -> Iterator[Any]:
    """Every value called ``key`` in nested mappings and lists."""
    if depth > 64:
        return
    if isinstance(value, Mapping):
        for name, part in value.items():
            if name == key:
                yield part
            yield from find_all(part, key, depth + 1)
    elif isinstance(value, list):
        for part in value:
            yield from find_all(part, key, depth + 1)
