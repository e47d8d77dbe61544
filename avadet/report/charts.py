"""Bars, tables and curves as HTML and SVG text."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from html import escape

from avadet.evaluation.breakdown import Curve


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction as percent, a dash for None and NaN."""
    return "–" if value is None or value != value else f"{100 * value:.{digits}f}"


def signed(value: float | None, digits: int = 1) -> str:
    """A difference of fractions in points, coloured by its sign."""
    if value is None or value != value:
        return "–"
    kind = "good" if value > 0 else "bad" if value < 0 else "soft"
    return f'<span class="{kind}">{100 * value:+.{digits}f}</span>'


def bars(rows: Iterable[tuple[str, float | None, float | None, str]], top: float = 1.0) -> str:
    """Horizontal bars.

    Args:
        rows: (name, value of the run, value of the other run or None, remark).
        top: value of a full bar.
    """
    parts = []
    for name, value, other, remark in rows:
        title = escape(name, quote=True)
        line = f'<span style="width:{_width(value, top)}"></span>'
        if other is not None:
            line += f'<span class="b" style="width:{_width(other, top)}"></span>'
        note = f" <i>{escape(remark)}</i>" if remark else ""
        parts.append(
            f'<div class="name" title="{title}">{title}</div><div class="track">{line}</div>'
            f'<div class="value">{percent(value)}{note}</div>'
        )
    return f'<div class="bars">{"".join(parts)}</div>'


def _width(value: float | None, top: float) -> str:
    share = 0.0 if value is None or value != value or top <= 0 else max(0.0, value / top)
    return f"{100 * min(1.0, share):.2f}%"


def table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: Container[int] | None = None
) -> str:
    """A table; cells are HTML already.

    Args:
        heads: column titles (plain text).
        rows: cells.
        numbers: columns that hold numbers; by default all but the first.
    """

    def is_number(column: int) -> bool:
        return column > 0 if numbers is None else column in numbers

    def cells(tag: str, values: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=n' if is_number(i) else ''}>{value}</{tag}>"
            for i, value in enumerate(values)
        )

    head = cells("th", [escape(h) for h in heads])
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def curve_chart(name: str, remark: str, first: Curve, second: Curve | None = None) -> str:
    """A small precision-recall chart with its caption."""
    lines = _polyline(first, "var(--a)") + (_polyline(second, "var(--b)") if second else "")
    grid = "".join(
        f'<path d="M10 {p}H110M{10 + 100 - (p - 5)} 5V105" stroke="var(--line)" fill="none"/>'
        for p in (5, 55, 105)
    )
    title = escape(name, quote=True)
    return (
        f'<div class="chart"><svg viewBox="0 0 120 118" role="img" aria-label="{title}">'
        f"{grid}{lines}"
        '<text x="60" y="116" font-size="8" fill="var(--soft)" text-anchor="middle">recall</text>'
        '<text x="6" y="55" font-size="8" fill="var(--soft)" text-anchor="middle" '
        'transform="rotate(-90 6 55)">precision</text></svg>'
        f"<p><b>{title}</b><br>{escape(remark)}</p></div>"
    )


def _polyline(curve: Curve, colour: str) -> str:
    points = " ".join(
        f"{10 + 100 * r:.1f},{105 - 100 * p:.1f}" for r, p in zip(curve.recall, curve.precision)
    )
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>'


def section(anchor: str, title: str, *content: str) -> str:
    """A block of the page."""
    return f'<section id="{anchor}"><h2>{escape(title)}</h2>{"".join(content)}</section>'
