"""What stands around the drawn people: walls, floors, furniture, passing shapes, held things."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from avadet.synthetic.figures import Colour, Shape, capsule, disc, shade


def _colour(rng: np.random.Generator, low: int, high: int) -> Colour:
    r, g, b = (int(v) for v in rng.integers(low, high, 3))
    return r, g, b


def _rectangle(x0: float, y0: float, x1: float, y1: float, colour: Colour) -> Shape:
    return Shape("polygon", (x0, y0, x1, y0, x1, y1, x0, y1), colour)


def backdrop(
    rng: np.random.Generator, width: int, height: int, ground: float, clutter: float
) -> Image.Image:
    """A room or a street: wall, floor, texture, and things on the wall.

    Args:
        rng: source of the draws.
        width: pixels.
        height: pixels.
        ground: y where the floor begins, pixels.
        clutter: 0 plain, 1 crowded; how strong the texture and how many the things.
    """
    wall, floor = _colour(rng, 90, 235), _colour(rng, 60, 190)
    x, y = np.arange(width)[None, :], np.arange(height)[:, None]
    above = y < ground
    picture = np.where(above[..., None], np.array(wall), np.array(floor)).astype(np.float32)
    picture = np.broadcast_to(picture, (height, width, 3)).copy()
    slope = rng.uniform(-1, 1, 2) * 18
    picture += (slope[0] * (x / width - 0.5) + slope[1] * (y / height - 0.5))[..., None]
    strength = (4 + 30 * clutter) * rng.uniform(0.4, 1.0)
    period = rng.uniform(0.06, 0.25) * height
    pattern = rng.integers(4)
    if pattern == 0:
        texture = np.sign(np.sin(2 * np.pi * (x + rng.uniform(-0.6, 0.6) * y) / period))
    elif pattern == 1:
        texture = np.sign(np.sin(2 * np.pi * x / period) * np.sin(2 * np.pi * y / period))
    elif pattern == 2:
        texture = np.sin(2 * np.pi * x / period) + np.sin(2 * np.pi * y / period)
    else:
        coarse = rng.normal(0, 1, (height // 8 + 2, width // 8 + 2)).astype(np.float32)
        blown = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        texture = np.asarray(blown)
    picture += (strength * texture * (above | (rng.uniform() < 0.5 * clutter)))[..., None]
    image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(0, 3) + round(9 * clutter * rng.uniform(0.5, 1)))):
        w, h = rng.uniform(0.06, 0.3) * height, rng.uniform(0.06, 0.35) * height
        left, top = rng.uniform(0, width), rng.uniform(0.02, 0.75) * ground
        edge = _colour(rng, 40, 230)
        box = (left, top, left + w, top + h)
        if rng.uniform() < 0.7:
            draw.rectangle(box, fill=edge)
            inset = 0.12 * min(w, h)
            inner = (left + inset, top + inset, left + w - inset, top + h - inset)
            draw.rectangle(inner, fill=_colour(rng, 60, 250))
        else:
            draw.ellipse(box, fill=edge)
    draw.line((0, ground, width, ground), fill=shade(floor, 0.7), width=2)
    return image


def furniture(
    rng: np.random.Generator, x: float, ground: float, unit: float, tall: float
) -> list[Shape]:
    """A table, a plant, a shelf or a box standing on the floor.

    Args:
        rng: source of the draws.
        x: middle in pixels.
        ground: y of the floor there.
        unit: height of a person in pixels.
        tall: height of the thing in persons.
    """
    colour, dark = _colour(rng, 50, 220), _colour(rng, 30, 120)
    top, half = ground - tall * unit, rng.uniform(0.12, 0.3) * unit
    kind = rng.integers(4)
    if kind == 0:  # table
        leg = 0.02 * unit
        return [
            _rectangle(x - half + leg, top, x - half + 3 * leg, ground, dark),
            _rectangle(x + half - 3 * leg, top, x + half - leg, ground, dark),
            _rectangle(x - half, top, x + half, top + 0.05 * unit, colour),
        ]
    if kind == 1:  # plant
        middle = ground - 0.4 * tall * unit
        leaves = [
            disc(x + rng.uniform(-0.6, 0.6) * half, rng.uniform(top, middle), 0.35 * half, colour)
            for _ in range(6)
        ]
        return [_rectangle(x - 0.3 * half, middle, x + 0.3 * half, ground, dark), *leaves]
    if kind == 2:  # shelf
        shapes = [_rectangle(x - half, top, x + half, ground, dark)]
        for level in np.linspace(top + 0.03 * unit, ground, 4)[:-1]:
            end = level + (ground - top) / 4
            shapes.append(_rectangle(x - 0.85 * half, level, x + 0.85 * half, end, colour))
        return shapes
    return [
        _rectangle(x - half, top, x + half, ground, colour),
        _rectangle(x - 0.1 * half, top, x + 0.1 * half, ground, dark),
    ]


class Passer:
    """A distractor that crosses the picture or swings in it, behind or before the people."""

    def __init__(self, rng: np.random.Generator, width: float, height: float) -> None:
        self._middle = rng.uniform(0, 1, 2) * (width, height)
        self._sweep = rng.uniform(0.1, 0.6) * width, rng.uniform(0.0, 0.25) * height
        self._hertz = rng.uniform(0.1, 2.5, 2)
        self._start = rng.uniform(0, 1, 2)
        self._size = rng.uniform(0.02, 0.07) * height
        self._colour = _colour(rng, 20, 255)
        self._round = rng.uniform() < 0.5

    def shapes(self, second: float, shift: tuple[float, float]) -> list[Shape]:
        """Where it is at ``second``, moved by ``shift`` pixels."""
        turn = np.sin(2 * np.pi * (self._hertz * second + self._start))
        x = float(self._middle[0] + self._sweep[0] * turn[0] + shift[0])
        y = float(self._middle[1] + self._sweep[1] * turn[1] + shift[1])
        r = self._size
        if self._round:
            return [disc(x, y, r, self._colour)]
        return [_rectangle(x - r, y - 0.7 * r, x + r, y + 0.7 * r, self._colour)]


def seat(hip: np.ndarray, ground: float, scale: float, facing: int, colour: Colour) -> list[Shape]:
    """A chair under and behind a sitting person's hip."""
    x, y = hip.tolist()
    y += 0.06 * scale
    back, front = x - facing * 0.11 * scale, x + facing * 0.15 * scale
    leg = 0.016 * scale
    return [
        _rectangle(back - leg, y - 0.26 * scale, back + leg, ground, shade(colour, 0.8)),
        _rectangle(front - leg, y, front + leg, ground, shade(colour, 0.8)),
        _rectangle(min(back, front), y, max(back, front), y + 0.04 * scale, colour),
    ]


def held(figure: str, at: dict[str, np.ndarray], scale: float, arm: str, colour: Colour) -> list:
    """The thing that a figure of motion handles, at the hands; nothing for most.

    Args:
        figure: an ``Action.figure``.
        at: joints in pixels.
        scale: standing height in pixels.
        arm: "near" or "far", the arm of one-armed figures.
        colour: of the thing.
    """
    middle = (at["near_hand"] + at["far_hand"]) / 2
    x, y = middle.tolist()
    if figure == "hoist":
        half = 0.1 * scale
        lid = shade(colour, 0.7)
        return [
            _rectangle(x - half, y - half, x + half, y + half, colour),
            _rectangle(x - half, y - 0.2 * half, x + half, y + 0.2 * half, lid),
        ]
    if figure == "lever":
        foot = np.array([x, y + 0.34 * scale])
        knob = np.array([x, y - 0.1 * scale])
        return capsule(knob, foot, 0.022 * scale, 0.022 * scale, colour)
    if figure == "phone":
        hand = at[f"{arm}_hand"]
        tip = hand + np.array([0.0, -0.05 * scale])
        return capsule(hand, tip, 0.018 * scale, 0.018 * scale, (20, 20, 25))
    return []
