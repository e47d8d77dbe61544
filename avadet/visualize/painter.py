"""People drawn on frames: boxes, and labels placed where they hide least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avadet.visualize.labels import INK, Block, LabelMaker, color_of, font_size_for


@dataclass(frozen=True)
class Person:
    """What to draw of one person.

    Attributes:
        box_px: xyxy in pixels of the frame.
        identity: chooses the colour and keeps the label's place from frame to frame.
        title: first line of the label.
        labels: (name, probability) of each action, in the order shown.
        opacity: 0..1.
    """

    box_px: tuple[float, float, float, float]
    identity: int
    title: str
    labels: tuple[tuple[str, float], ...] = ()
    opacity: float = 1.0


class Painter:
    """Draws people on the frames of one movie; remembers where labels stood.

    Args:
        height: of the frames.
        width: of the frames.
        font_size: pixels; chosen by the height when None.
        font: a TrueType file to use for every text; else PIL's own font, and where that lacks a
            letter one of the system's.
        max_labels: most actions shown per person; more are counted in a last line.

    Raises:
        UserError: ``font`` cannot be read.
    """

    def __init__(
        self,
        height: int,
        width: int,
        *,
        font_size: int | None = None,
        font: Path | None = None,
        max_labels: int = 6,
    ) -> None:
        self.height, self.width = height, width
        self.line = max(1, round(height / 230))
        self._labels = LabelMaker(
            height, width, font_size or font_size_for(height), font, max_labels
        )
        self._places: dict[int, int] = {}

    def draw(self, frame: np.ndarray, people: Sequence[Person]) -> np.ndarray:
        """A copy of ``frame`` (H,W,3) uint8 with the people drawn on it.

        Raises:
            ValueError: the frame is not of the painter's size.
        """
        if frame.shape != (self.height, self.width, 3):
            raise ValueError(f"frame {frame.shape} but painter {(self.height, self.width, 3)}")
        out = frame.copy()
        for person in people:
            self._draw_box(out, person)
        # Large figures stand in front: they choose the places of their labels first.
        order = sorted(people, key=lambda p: (-_area(p.box_px), p.identity))
        placed: list[tuple[int, int, int, int]] = []
        places: dict[int, int] = {}
        for person in order:
            block = self._labels.block(color_of(person.identity), person.title, person.labels)
            height, width = block.size
            choice, x, y = self._place((height, width), person, people, placed)
            places[person.identity] = choice
            placed.append((x, y, x + width, y + height))
            self._blend(out, block, x, y, person.opacity)
        self._places = places
        return out

    def _draw_box(self, out: np.ndarray, person: Person) -> None:
        x1, y1, x2, y2 = (round(v) for v in person.box_px)
        line = self.line
        x1, x2 = max(0, min(x1, self.width - line)), max(line, min(x2, self.width))
        y1, y2 = max(0, min(y1, self.height - line)), max(line, min(y2, self.height))
        color = np.array(color_of(person.identity), np.float32)
        halo = max(1, line // 2)  # a dark rim keeps the line visible on a background of its hue
        for grow, rgb, weight in (
            (halo, np.array(INK, np.float32), 0.55),
            (0, color, 1.0),
        ):
            a, b, c, d = x1 - grow, y1 - grow, x2 + grow, y2 + grow
            thick = line + 2 * grow
            for left, top, right, bottom in (
                (a, b, c, b + thick),
                (a, d - thick, c, d),
                (a, b + thick, a + thick, d - thick),
                (c - thick, b + thick, c, d - thick),
            ):
                part = out[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
                opacity = weight * person.opacity
                if opacity >= 1:
                    part[...] = color_of(person.identity)
                elif part.size:
                    part[...] = part * (1 - opacity) + rgb * opacity

    def _blend(self, out: np.ndarray, block: Block, x: int, y: int, opacity: float) -> None:
        height, width = block.alpha.shape[:2]
        part = out[y : y + height, x : x + width]
        height, width = part.shape[:2]
        over, alpha = block.premultiplied[:height, :width], block.alpha[:height, :width]
        if opacity < 1:
            over = (over * opacity).astype(np.uint16)
            alpha = (alpha * opacity).astype(np.uint16)
        # 255 * 255 fits 16 bits, and over + part * (255 - alpha) never exceeds it.
        part[...] = (over + part * (255 - alpha) + 127) // 255

    def _place(
        self,
        size: tuple[int, int],
        person: Person,
        people: Sequence[Person],
        placed: Sequence[tuple[int, int, int, int]],
    ) -> tuple[int, int, int]:
        """(which place, x, y) where the label hides least, and where it stood, if that is fair."""
        height, width = size
        x1, y1, x2, y2 = (round(v) for v in person.box_px)
        rim = self.line
        spots = [
            (x1, y1 - height),
            (x2 - width, y1 - height),
            (x2 + rim, y1),
            (x1 - width - rim, y1),
            (x1, y2),
            (x1 + rim, y2 - height - rim),
            (x1 + rim, y1 + rim),
        ]
        for left, top, _, bottom in placed:  # crowds: stack on the labels that are there
            spots += [(left, bottom), (left, top - height)]
        best = (np.inf, 0, 0, 0)
        area = height * width
        usual = self._places.get(person.identity)
        for index, (x, y) in enumerate(spots):
            x = max(0, min(x, self.width - width))
            y = max(0, min(y, self.height - height))
            mine = (x, y, x + width, y + height)
            # Unreadable text is worse than anything it could hide.
            cost = 100 * sum(_overlap(mine, other) for other in placed) / area
            for other in people:
                share = 0.6 if other is person else 1.0
                cost += share * _overlap(mine, other.box_px) / area
                cost += 2 * share * _overlap(mine, _head(other.box_px)) / area
            cost += 0.02 * index + (0.5 if index > 6 else 0)
            if index == usual:
                cost -= 0.25
            if cost < best[0]:
                best = (cost, index, x, y)
        return best[1], best[2], best[3]


def _area(box: Sequence[float]) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    return _area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))


def _head(box: Sequence[float]) -> tuple[float, float, float, float]:
    """Where the face is likely to be: the middle half of the upper quarter."""
    quarter = (box[2] - box[0]) / 4
    return box[0] + quarter, box[1], box[2] - quarter, box[1] + (box[3] - box[1]) / 4
