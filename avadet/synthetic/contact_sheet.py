"""Pictures for the eye: what each action of the generators looks like over time."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image, ImageDraw

from avadet.files import atomic_path
from avadet.synthetic.actions import ACTIONS, BY_KEY
from avadet.synthetic.scenes import Shot
from avadet.synthetic.settings import Settings

_CAPTION = 12


def contact_sheet(
    settings: Settings,
    seed: int = 0,
    *,
    columns: int = 10,
    step: int = 2,
    boxes: bool = True,
    keys: tuple[str, ...] | None = None,
) -> Image.Image:
    """One row of frames per action, ``step`` frames apart, with the exact boxes.

    Args:
        settings: see ``Settings``; all actions are drawn whatever its classes are.
        seed: of the draws; each row has a stream of its own.
        columns: frames in a row.
        step: frames from one column to the next.
        boxes: draw the boxes.
        keys: the actions to show (``Action.key``); all when None.
    """
    rows = [action for action in ACTIONS if keys is None or action.key in keys]
    tile_h = settings.height + _CAPTION
    sheet = Image.new("RGB", (columns * settings.width, len(rows) * tile_h), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    for row, action in enumerate(rows):
        rng = np.random.default_rng(np.random.SeedSequence([seed, 9, ACTIONS.index(action)]))
        is_body = action.part == "body"
        only = (action, BY_KEY["free"]) if is_body else (BY_KEY["stand"], action)
        shot = Shot(rng, settings, columns * step, only=only)
        top = row * tile_h
        label = "no label" if action.ava_id is None else f"{action.ava_id}"
        draw.text((2, top), f"{action.key}: {action.name} ({label})", fill=(0, 0, 0))
        for column in range(columns):
            left = column * settings.width
            sheet.paste(Image.fromarray(shot.frame(column * step)), (left, top + _CAPTION))
            for found in shot.annotate(column * step) if boxes else ():
                size = np.array([settings.width, settings.height] * 2)
                x0, y0, x1, y1 = np.array(found.box) * size + [left, top + _CAPTION] * 2
                draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=(255, 0, 0))
    return sheet


def save_contact_sheet(path: str | os.PathLike[str], settings: Settings, seed: int = 0) -> None:
    """Writes ``contact_sheet`` as a PNG."""
    sheet = contact_sheet(settings, seed)
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG")
