"""Scatter plots as SVG files of their own, for documents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 860, 520
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 20, 44, 84
_FONT = 12
# Colours that stay apart for most eyes (Okabe and Ito), on white in either theme.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#56b4e9", "#5b6775", "#000000")


@dataclass(frozen=True)
class Point:
    """One dot.

    Attributes:
        name: written beside it.
        x: above 0.
        y: any number.
        group: dots of one group share a colour; the legend names it.
    """

    name: str
    x: float
    y: float
    group: str


def scatter(points: Sequence[Point], *, title: str, x_title: str, y_title: str) -> str:
    """A standalone SVG: x logarithmic, y linear, each dot with its name, a legend below.

    Names move around their dots so that they hide neither dots nor each other where there is room.
    """
    if not points:
        raise ValueError("a scatter plot needs points")
    low_x, high_x = _widened(min(p.x for p in points), max(p.x for p in points))
    ticks_y = _ticks(min(p.y for p in points), max(p.y for p in points))
    low_y, high_y = ticks_y[0], ticks_y[-1]

    def at(p: Point) -> tuple[float, float]:
        share = math.log(p.x / low_x) / math.log(high_x / low_x)
        return (
            _LEFT + share * (_WIDTH - _LEFT - _RIGHT),
            _y(p.y, low_y, high_y),
        )

    groups = list(dict.fromkeys(p.group for p in points))
    colour = {group: _COLOURS[i % len(_COLOURS)] for i, group in enumerate(groups)}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(title, quote=True)}" font-family="sans-serif" '
        f'font-size="{_FONT}" fill="#1d2733">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="24" font-size="16" font-weight="bold">{escape(title)}</text>',
    ]
    for value in ticks_y:
        y = _y(value, low_y, high_y)
        parts.append(_line(_LEFT, y, _WIDTH - _RIGHT, y))
        parts.append(_text(_LEFT - 8, y + 4, f"{value:g}", "end"))
    for value in _log_ticks(low_x, high_x):
        x, _ = at(Point("", value, low_y, ""))
        parts.append(_line(x, _TOP, x, _HEIGHT - _BOTTOM))
        parts.append(_text(x, _HEIGHT - _BOTTOM + 16, f"{value:g}", "middle"))
    parts.append(_text((_LEFT + _WIDTH) / 2, _HEIGHT - _BOTTOM + 36, x_title, "middle"))
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    parts.append(
        f'<text x="16" y="{middle:.0f}" text-anchor="middle" '
        f'transform="rotate(-90 16 {middle:.0f})">{escape(y_title)}</text>'
    )
    places = [at(p) for p in points]
    for p, (x, y) in zip(points, places):
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour[p.group]}"/>')
    for p, (x, y, anchor) in zip(points, _name_places([p.name for p in points], places)):
        parts.append(_text(x, y, p.name, anchor))
    parts.append(_legend(colour))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _y(value: float, low: float, high: float) -> float:
    return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)


def _widened(low: float, high: float) -> tuple[float, float]:
    if low <= 0:
        raise ValueError("a logarithmic axis needs values above 0")
    return low / 1.25, high * 1.6


def _ticks(low: float, high: float) -> list[float]:
    """Round values, about six, that enclose [low, high]."""
    step = 10.0 ** math.floor(math.log10(max(high - low, 1e-9) / 5))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (m * step) <= 7)
    first, last = math.floor(low / step), math.floor(high / step) + 1
    return [round(i * step, 10) for i in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [m * 10.0**d for d in decades for m in (1, 2, 5)]
    return [value for value in values if low <= value <= high]


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="#dde3ea" fill="none"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _name_places(
    names: Sequence[str], dots: Sequence[tuple[float, float]]
) -> list[tuple[float, float, str]]:
    """Where each name goes: the first place around its dot that covers least of what is there."""
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in dots]
    chosen = []
    for name, (x, y) in zip(names, dots):
        width = 0.56 * _FONT * len(name)
        options = []
        for text_x, text_y, anchor in (
            (x + 8, y + 4, "start"),
            (x - 8, y + 4, "end"),
            (x, y - 9, "middle"),
            (x, y + 17, "middle"),
            (x + 6, y - 8, "start"),
            (x - 6, y - 8, "end"),
            (x + 6, y + 15, "start"),
            (x - 6, y + 15, "end"),
        ):
            left = text_x - {"start": 0.0, "end": width, "middle": width / 2}[anchor]
            box = (left, text_y - _FONT + 2, left + width, text_y + 2)
            covered = sum(_overlap(box, other) for other in taken)
            covered += 1e3 * (left < _LEFT or left + width > _WIDTH)
            options.append((covered, (text_x, text_y, anchor), box))
        _, place, box = min(options, key=lambda option: option[0])
        chosen.append(place)
        taken.append(box)
    return chosen


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _legend(colour: dict[str, str]) -> str:
    parts, x = [], float(_LEFT)
    for group, fill in colour.items():
        parts.append(f'<circle cx="{x:.1f}" cy="{_HEIGHT - 18}" r="5" fill="{fill}"/>')
        parts.append(_text(x + 10, _HEIGHT - 14, group, "start"))
        x += 28 + 0.56 * _FONT * len(group)
    return "".join(parts)
