"""Drawn people: proportions, clothes, and the shapes of a pose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import ImageDraw

from avadet.synthetic import motions

Colour = tuple[int, int, int]
_SKINS: tuple[Colour, ...] = (
    (255, 219, 190), (241, 194, 155), (224, 172, 120), (198, 134, 84), (141, 85, 50), (92, 58, 38)
)  # fmt: skip
_HAIRS: tuple[Colour, ...] = (
    (30, 24, 20), (70, 45, 25), (130, 85, 45), (205, 165, 90), (150, 60, 30), (150, 150, 155)
)  # fmt: skip


class Shape(NamedTuple):
    """One filled shape: "ellipse" with (x0, y0, x1, y1), or "polygon" with x, y, x, y, ..."""

    kind: str
    coordinates: tuple[float, ...]
    colour: Colour


def paint(draw: ImageDraw.ImageDraw, shapes: Sequence[Shape], fill: int | None = None) -> None:
    """Draws shapes in order, in their colours or all in ``fill``."""
    for kind, coordinates, colour in shapes:
        method = draw.ellipse if kind == "ellipse" else draw.polygon
        method(coordinates, fill=colour if fill is None else fill)


def shade(colour: Sequence[float], factor: float) -> Colour:
    """``colour`` made darker or lighter."""
    r, g, b = (int(min(255, max(0, c * factor))) for c in colour)
    return r, g, b


@dataclass(frozen=True)
class Look:
    """One person's body and clothes. Lengths are parts of the standing height.

    Attributes:
        trunk: hip to neck.
        thigh, shin, upper, fore: lengths of the limbs' halves.
        head: radius of the head.
        girth: factor on the thickness of everything.
        skin, shirt, trousers, shoes, hair: colours.
        sleeves: part of the arm that the shirt covers: 0 none, 1 to the elbow, 2 all.
        shorts: bare shins.
        long_hair: down to the shoulders.
    """

    trunk: float
    thigh: float
    shin: float
    upper: float
    fore: float
    head: float
    girth: float
    skin: Colour
    shirt: Colour
    trousers: Colour
    shoes: Colour
    hair: Colour
    sleeves: int
    shorts: bool
    long_hair: bool

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Look:
        """A random person."""

        def around(value: float, share: float = 0.06) -> float:
            return float(value * rng.uniform(1 - share, 1 + share))

        def colour(low: int, high: int) -> Colour:
            r, g, b = (int(v) for v in rng.integers(low, high, 3))
            return r, g, b

        return cls(
            trunk=around(0.30),
            thigh=around(0.24),
            shin=around(0.235),
            upper=around(0.175),
            fore=around(0.185),
            head=around(0.088, 0.1),
            girth=around(1.0, 0.16),
            skin=_SKINS[rng.integers(len(_SKINS))],
            shirt=colour(30, 250),
            trousers=colour(15, 190),
            shoes=colour(10, 90),
            hair=_HAIRS[rng.integers(len(_HAIRS))],
            sleeves=int(rng.integers(3)),
            shorts=bool(rng.uniform() < 0.25),
            long_hair=bool(rng.uniform() < 0.4),
        )


def joints(look: Look, pose: np.ndarray) -> dict[str, np.ndarray]:
    """Where the joints are.

    Args:
        look: the body.
        pose: (T, 11), see ``motions``.

    Returns:
        Name to (T, 2) in standing heights: x forward of the hip, y above the ground, on which
        the lowest part of the body rests unless the pose is off the ground.
    """
    angle = np.deg2rad(pose[:, : motions.RISE])
    down = np.stack([np.sin(angle), -np.cos(angle)], axis=-1)  # (T, 10, 2)
    hip = np.zeros((len(pose), 2))
    up = -down * np.array([-1.0, 1.0])
    found = {"hip": hip, "neck": hip + look.trunk * up[:, motions.LEAN]}
    found["head"] = found["neck"] + look.head * 1.15 * up[:, motions.HEAD]
    shoulder = hip + 0.93 * look.trunk * up[:, motions.LEAN]
    found["shoulder"] = shoulder
    for side, upper in (("near", motions.NEAR_UPPER), ("far", motions.FAR_UPPER)):
        found[f"{side}_elbow"] = shoulder + look.upper * down[:, upper]
        found[f"{side}_hand"] = found[f"{side}_elbow"] + look.fore * down[:, upper + 1]
    for side, thigh in (("near", motions.NEAR_THIGH), ("far", motions.FAR_THIGH)):
        found[f"{side}_knee"] = hip + look.thigh * down[:, thigh]
        found[f"{side}_foot"] = found[f"{side}_knee"] + look.shin * down[:, thigh + 1]
    lowest = np.min(
        [
            found["hip"][:, 1] - 0.06 * look.girth,
            found["shoulder"][:, 1] - 0.06 * look.girth,
            found["head"][:, 1] - look.head,
            *(found[f"{side}_knee"][:, 1] - 0.035 for side in ("near", "far")),
            *(found[f"{side}_foot"][:, 1] - 0.03 for side in ("near", "far")),
        ],
        axis=0,
    )
    offset = np.stack([np.zeros(len(pose)), pose[:, motions.RISE] - lowest], axis=-1)
    return {name: point + offset for name, point in found.items()}


def capsule(
    start: np.ndarray, end: np.ndarray, first: float, last: float, colour: Colour
) -> list[Shape]:
    """A limb: two discs of radii ``first`` and ``last`` and what lies between."""
    (x0, y0), (x1, y1) = start.tolist(), end.tolist()
    length = max(1e-6, ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5)
    nx, ny = -(y1 - y0) / length, (x1 - x0) / length
    side = (
        x0 + nx * first, y0 + ny * first, x1 + nx * last, y1 + ny * last,
        x1 - nx * last, y1 - ny * last, x0 - nx * first, y0 - ny * first,
    )  # fmt: skip
    return [disc(x0, y0, first, colour), Shape("polygon", side, colour), disc(x1, y1, last, colour)]


def disc(x: float, y: float, radius: float, colour: Colour) -> Shape:
    """A filled circle."""
    return Shape("ellipse", (x - radius, y - radius, x + radius, y + radius), colour)


def figure_shapes(
    look: Look, at: dict[str, np.ndarray], scale: float, facing: int
) -> tuple[list[Shape], list[Shape]]:
    """The shapes of one person, from back to front.

    Args:
        look: body and clothes.
        at: joints in pixels of the canvas, (2,) each, y down.
        scale: standing height in pixels.
        facing: 1 to the right, -1 to the left.

    Returns:
        (all but the near arm, the near arm): what is held goes between the two.
    """
    thick = scale * look.girth

    def arm(side: str, light: float) -> list[Shape]:
        cloth, skin = shade(look.shirt, light), shade(look.skin, light)
        shoulder, elbow, hand = at["shoulder"], at[f"{side}_elbow"], at[f"{side}_hand"]
        upper = cloth if look.sleeves >= 1 else skin
        fore = cloth if look.sleeves == 2 else skin
        hand_at = hand.tolist()
        return [
            *capsule(shoulder, elbow, 0.036 * thick, 0.028 * thick, upper),
            *capsule(elbow, hand, 0.028 * thick, 0.021 * thick, fore),
            disc(hand_at[0], hand_at[1], 0.03 * scale, skin),
        ]

    def leg(side: str, light: float) -> list[Shape]:
        cloth = shade(look.trousers, light)
        shin = shade(look.skin, light) if look.shorts else cloth
        hip, knee, foot = at["hip"], at[f"{side}_knee"], at[f"{side}_foot"]
        shank = (foot - knee) / max(1e-6, float(np.hypot(*(foot - knee))))
        # The foot stands square to the shin, towards where the person faces.
        toe = foot + facing * 0.06 * scale * np.array([shank[1], -shank[0]])
        return [
            *capsule(hip, knee, 0.055 * thick, 0.038 * thick, cloth),
            *capsule(knee, foot, 0.037 * thick, 0.026 * thick, shin),
            *capsule(foot, toe, 0.028 * scale, 0.018 * scale, shade(look.shoes, light)),
        ]

    far, near = 0.66, 1.0
    head_x, head_y = at["head"].tolist()
    radius = look.head * scale
    up = at["head"] - at["neck"]
    up = up / max(1e-6, float(np.hypot(*up)))
    front = facing * np.array([-up[1], up[0]])
    back_x, back_y = (at["head"] - 0.22 * radius * front + 0.18 * radius * up).tolist()
    eye_x, eye_y = (at["head"] + 0.55 * radius * front + 0.1 * radius * up).tolist()
    face_x, face_y = (at["head"] + 0.16 * radius * front - 0.08 * radius * up).tolist()
    rest = [
        *arm("far", far),
        *leg("far", far),
        *leg("near", near),
        *capsule(at["hip"], at["shoulder"], 0.066 * thick, 0.072 * thick, look.shirt),
        *capsule(at["shoulder"], at["head"], 0.03 * thick, 0.03 * thick, look.skin),
    ]
    if look.long_hair:
        tail = at["head"] - 0.55 * radius * front - 1.25 * radius * up
        rest += capsule(np.array([back_x, back_y]), tail, 0.8 * radius, 0.45 * radius, look.hair)
    rest += [
        disc(head_x, head_y, radius, look.hair),
        disc(back_x, back_y, radius, look.hair),
        disc(face_x, face_y, 0.84 * radius, look.skin),
        disc(eye_x, eye_y, 0.14 * radius, (25, 25, 30)),
    ]
    return rest, arm("near", near)
