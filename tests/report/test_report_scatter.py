"""Scatter plots: dots where their values say, names that hide nothing, text that is escaped."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest

from avadet.report.scatter import Point, scatter

SVG = "{http://www.w3.org/2000/svg}"
POINTS = [
    Point("a<b", 0.01, 10.0, "2D & 3D"),
    Point("middle", 0.1, 20.0, "2D & 3D"),
    Point("last", 1.0, 40.0, "other"),
]


def draw(points: list[Point]) -> ElementTree.Element:
    return ElementTree.fromstring(scatter(points, title="T", x_title="X", y_title="Y"))


def dots(root: ElementTree.Element) -> list[tuple[float, float]]:
    return [
        (float(each.attrib["cx"]), float(each.attrib["cy"])) for each in root.iter(f"{SVG}circle")
    ]


def test_dots_stand_where_their_values_say() -> None:
    (x1, y1), (x2, y2), (x3, y3) = dots(draw(POINTS))[:3]
    # Equal factors are equal distances along x, equal differences along y.
    assert x2 - x1 == pytest.approx(x3 - x2, abs=0.2)
    assert (y1 - y2) * 2 == pytest.approx(y2 - y3, abs=0.2)
    texts = [(float(e.attrib["x"]), e.text) for e in draw(POINTS).iter(f"{SVG}text")]
    tick = next(x for x, text in texts if text == "0.1")
    assert tick == pytest.approx(x2, abs=0.2)


def test_text_is_escaped_and_the_legend_names_each_group_once() -> None:
    text = scatter(POINTS, title="T", x_title="X", y_title="Y")
    assert "a&lt;b" in text
    assert text.count(">2D &amp; 3D<") == 1
    fills = re.findall(r'<circle [^>]*fill="(#\w+)"', text)
    assert fills[0] == fills[1] == fills[3]
    assert fills[2] == fills[4] != fills[0]


def test_names_do_not_cover_dots_or_each_other() -> None:
    crowd = [Point(f"network {i}", 0.1 * 1.15**i, 30.0 + 2 * (i % 3), "g") for i in range(9)]
    root = draw(crowd)
    places = dots(root)[:9]
    boxes = []
    for each in root.iter(f"{SVG}text"):
        if not (each.text or "").startswith("network"):
            continue
        width = 0.56 * 12 * len(each.text or "")
        shift = {"start": 0.0, "middle": width / 2, "end": width}[each.attrib["text-anchor"]]
        left, base = float(each.attrib["x"]) - shift, float(each.attrib["y"])
        boxes.append((left, base - 10, left + width, base + 2))
    assert len(boxes) == 9
    for i, (left, top, right, bottom) in enumerate(boxes):
        assert not any(left < x < right and top < y < bottom for x, y in places)
        for other in boxes[:i]:
            apart = right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
            assert apart


@pytest.mark.parametrize("points", [[], [Point("zero", 0.0, 1.0, "g")]])
def test_what_cannot_be_drawn(points: list[Point]) -> None:
    with pytest.raises(ValueError, match=r"points|above 0"):
        scatter(points, title="T", x_title="X", y_title="Y")


def test_one_point() -> None:
    ((x, y), _) = dots(draw([Point("only", 2.0, 50.0, "g")]))
    assert math.isfinite(x)
    assert math.isfinite(y)
