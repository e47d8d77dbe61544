"""People drawn on frames: boxes, and labels placed where they hide least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avadet.visualize.labels import INK, Block, LabelMaker, color_of, font_size_for

# Labels of others that a label may be stacked on.
_NEIGHBOURS = 8


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
        boxes = np.array([p.box_px for p in order], np.float64).reshape(-1, 4)
        placed = np.zeros((len(order), 4))
        places: dict[int, int] = {}
        for index, person in enumerate(order):
            block = self._labels.block(color_of(person.identity), person.title, person.labels)
            height, width = block.size
            own_first = np.roll(boxes, -index, axis=0)
            choice, x, y = self._place(block.size, person, own_first, placed[:index])
            places[person.identity] = choice
            placed[index] = (x, y, x + width, y + height)
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
        boxes: np.ndarray,
        placed: np.ndarray,
    ) -> tuple[int, int, int]:
        """(which place, x, y) where the label hides least, and where it stood, if that is fair.

        Args:
            size: (h, w) of the label.
            boxes: (N,4) of all people, this one first.
            placed: (P,4) of the labels that have their place.
        """
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
        own = len(spots)
        # In crowds: stacked on the labels nearest by.
        centre = np.array([x1 + x2, y1 + y2])
        away = np.abs(placed[:, :2] + placed[:, 2:] - centre).sum(axis=1)
        for left, top, _, bottom in placed[np.argsort(away, kind="stable")[:_NEIGHBOURS]]:
            spots += [(left, bottom), (left, top - height)]
        corners = np.clip(spots, 0, (max(0, self.width - width), max(0, self.height - height)))
        rectangles = np.hstack([corners, corners + np.array([width, height])])
        # A face is likely to be in the middle half of the upper quarter.
        quarters = (boxes[:, 2:] - boxes[:, :2]) / 4
        heads = boxes + np.hstack([quarters * (1, 0), quarters * (-1, -3)])
        shares = np.ones(len(boxes))
        shares[0] = 0.6
        hidden = _overlap(rectangles, boxes) @ shares + 2 * _overlap(rectangles, heads) @ shares
        # Unreadable text is worse than anything it could hide.
        cost = (hidden + 100 * _overlap(rectangles, placed).sum(axis=1)) / (height * width)
        cost += 0.02 * np.arange(len(spots))
        cost[own:] += 0.5
        usual = self._places.get(person.identity, -1)
        if 0 <= usual < len(spots):
            cost[usual] -= 0.25
        best = int(cost.argmin())
        return best, int(corners[best, 0]), int(corners[best, 1])


def _area(box: Sequence[float]) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N,M) pixels that rectangles share."""
    width = np.minimum(a[:, None, 2], b[None, :, 2]) - np.maximum(a[:, None, 0], b[None, :, 0])
    height = np.minimum(a[:, None, 3], b[None, :, 3]) - np.maximum(a[:, None, 1], b[None, :, 1])
    return np.maximum(width, 0) * np.maximum(height, 0)
