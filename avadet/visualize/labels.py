"""Label blocks: a person's title and actions with their scores, ready to be blended.

Text is rendered by PIL once per wording and kept as masks; a block is composed once per change of
wording (about once a second of movie) and reused on every frame in between. That is a good ten
times the speed of drawing text on every frame.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from avadet.errors import UserError

# Twelve hues of like lightness that stay apart on film and for the colour-blind; black text is
# readable on each. Neighbouring track ids get distant hues.
PALETTE: tuple[tuple[int, int, int], ...] = (
    (255, 194, 51),
    (79, 195, 255),
    (255, 122, 133),
    (122, 224, 122),
    (214, 160, 255),
    (255, 160, 84),
    (77, 224, 208),
    (255, 140, 214),
    (202, 222, 76),
    (150, 176, 255),
    (230, 190, 150),
    (170, 230, 190),
)
INK = (16, 18, 22)
PAPER = (245, 246, 248)
_PANEL_ALPHA = 188
_BAR_ALPHA = 224
_CACHE = 256  # blocks and texts kept; a crowd shows a few dozen at a time
# Looked for by name, in this order, where a text has letters that PIL's own font lacks.
_WIDE_FONTS = ("NotoSans-Regular.ttf", "DejaVuSans.ttf", "Arial Unicode.ttf", "arial.ttf")

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont
V = TypeVar("V")


def color_of(identity: int) -> tuple[int, int, int]:
    """RGB of a person or track."""
    return PALETTE[(identity - 1) % len(PALETTE)]


def short_names(names: Sequence[str]) -> tuple[str, ...]:
    """Class names without their bracketed explanations, where they stay distinct.

    ``watch (a person)`` becomes ``watch``; ``push (an object)`` and ``push (another person)``
    stay as they are.
    """
    bare = [re.sub(r"\s+", " ", re.sub(r"\([^()]*\)", "", name)).strip() for name in names]
    counts = Counter(bare)
    return tuple(
        short if short and counts[short] == 1 else name for short, name in zip(bare, names)
    )


def font_size_for(height: int) -> int:
    """Pixels of text that reads well on a frame of ``height``: 15 at 432, 26 at 1080."""
    return max(12, round(8 + height / 60))


@lru_cache(maxsize=64)
def _font(size: int, name: str | None) -> Font | None:
    try:
        return ImageFont.truetype(name, size) if name else ImageFont.load_default(size)
    except OSError:
        return None


@lru_cache(maxsize=4096)
def _has_letter(font: Font, letter: str) -> bool:
    """Whether a font draws ``letter`` as something else than its box for unknown ones."""
    return bytes(font.getmask(letter)) != bytes(font.getmask("\uffff"))


def _covers(font: Font, text: str) -> bool:
    return all(letter.isspace() or _has_letter(font, letter) for letter in text)


@dataclass(frozen=True)
class Block:
    """A label: its colours times alpha, and how much of the frame it hides."""

    premultiplied: np.ndarray  # (h,w,3) uint16, 0..255*255
    alpha: np.ndarray  # (h,w,1) uint16, 0..255

    @property
    def size(self) -> tuple[int, int]:
        """(h, w)."""
        return self.alpha.shape[0], self.alpha.shape[1]


class LabelMaker:
    """Composes and keeps label blocks for frames of one size.

    Args:
        height: of the frames.
        width: of the frames.
        font_size: pixels of the text.
        font: a TrueType file to use for every text.
        max_labels: most actions shown per person; more are counted in a last line.

    Raises:
        UserError: ``font`` cannot be read.
    """

    def __init__(
        self, height: int, width: int, font_size: int, font: Path | None, max_labels: int
    ) -> None:
        self.height, self.width = height, width
        self.font_size, self.max_labels = font_size, max_labels
        self._given = None if font is None else _font(font_size, str(font))
        if font is not None and self._given is None:
            raise UserError(f"{font}: not a font that can be read; give a .ttf or .otf file")
        self._pad = max(3, round(font_size * 0.4))
        self._row = round(font_size * 1.45)
        self._masks: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._blocks: OrderedDict[Hashable, Block] = OrderedDict()

    def block(
        self, color: tuple[int, int, int], title: str, labels: Sequence[tuple[str, float]]
    ) -> Block:
        """The block of a title and (name, probability) lines."""
        rows = tuple((name, round(100 * score)) for name, score in labels)
        room = max(1, int(self.height * 0.6) // self._row - 1)
        hidden = 0
        if len(rows) > min(self.max_labels, room):
            shown = min(self.max_labels, room - 1)
            rows, hidden = rows[: max(shown, 0)], len(rows) - max(shown, 0)
        key = (color, title, rows, hidden)
        return _cached(self._blocks, key, lambda: self._compose(color, title, rows, hidden))

    def _typeface(self, text: str) -> tuple[Font, str]:
        """A font that has the letters of ``text``; where none has, the nearest text it can."""
        plain = _font(self.font_size, None)
        assert plain is not None
        if self._given is not None:
            return self._given, text
        if _covers(plain, text):
            return plain, text
        for name in _WIDE_FONTS:
            wide = _font(self.font_size, name)
            if wide is not None and _covers(wide, text):
                return wide, text
        parts = unicodedata.normalize("NFKD", text)
        letters = [letter for letter in parts if not unicodedata.combining(letter)]
        return plain, "".join(c if c.isspace() or _has_letter(plain, c) else "?" for c in letters)

    def _mask(self, text: str) -> np.ndarray:
        """(row height, w) uint8 coverage of ``text``."""
        return _cached(self._masks, text, lambda: self._render(text))

    def _render(self, text: str) -> np.ndarray:
        font, text = self._typeface(text)
        length = max(1, int(np.ceil(font.getlength(text))))
        image = Image.new("L", (length, self._row))
        # Centred by the height of capitals, so that lines of text stand alike whatever they hold.
        _, top, _, bottom = font.getbbox("H")
        ImageDraw.Draw(image).text((0, (self._row - bottom - top) / 2), text, fill=255, font=font)
        return np.asarray(image)

    def _fit(self, text: str, room: int) -> np.ndarray:
        """The mask of ``text``, cut with an ellipsis to ``room`` pixels."""
        text = " ".join(text.split()) or " "
        mask = self._mask(text)
        while mask.shape[1] > room and len(text) > 2:
            keep = max(1, min(len(text) - 2, int(len(text) * room / mask.shape[1]) - 1))
            text = text[:keep].rstrip() + "…"
            mask = self._mask(text)
        return mask[:, : max(room, 1)]

    def _compose(
        self,
        color: tuple[int, int, int],
        title: str,
        labels: Sequence[tuple[str, int]],
        hidden: int,
    ) -> Block:
        pad, row = self._pad, self._row
        percents = [self._mask(f"{percent}%") for _, percent in labels]
        number = max((mask.shape[1] for mask in percents), default=0)
        room = max(8, min(self.width, round(24 * self.font_size)) - 2 * pad - number - 2 * pad)
        head = self._fit(title, room)
        names = [self._fit(name, room) for name, _ in labels]
        more = [self._fit(f"+ {hidden} more", room)] if hidden > 0 else []
        inner = max(
            head.shape[1],
            max((mask.shape[1] for mask in names), default=-2 * pad) + 2 * pad + number,
            *(mask.shape[1] for mask in more),
            1,
        )
        width = min(inner + 2 * pad, self.width)
        height = row * (1 + len(names) + len(more))
        rgb = np.empty((height, width, 3), np.float32)
        alpha = np.full((height, width, 1), _PANEL_ALPHA, np.float32)
        rgb[:] = INK
        rgb[:row] = color
        alpha[:row] = 255
        _ink(rgb, alpha, head, pad, 0, INK)
        tint = 0.36 * np.array(color, np.float32) + 0.64 * np.array(INK, np.float32)
        for index, (name, percent, (_, share)) in enumerate(zip(names, percents, labels)):
            top = row * (index + 1)
            # A bar behind the words says at a glance what the number says exactly.
            length = round(width * share / 100)
            rgb[top : top + row - 1, :length] = tint
            alpha[top : top + row - 1, :length] = _BAR_ALPHA
            _ink(rgb, alpha, name, pad, top, PAPER)
            _ink(rgb, alpha, percent, width - pad - percent.shape[1], top, PAPER)
        for mask in more:
            _ink(rgb, alpha, mask, pad, height - row, PAPER)
        whole = alpha.round().astype(np.uint16)
        return Block((rgb.round().astype(np.uint32) * whole).astype(np.uint16), whole)


def _ink(
    rgb: np.ndarray,
    alpha: np.ndarray,
    mask: np.ndarray,
    x: int,
    y: int,
    color: tuple[int, int, int],
) -> None:
    """Writes a text mask into a block in place."""
    mask = mask[:, : max(0, rgb.shape[1] - x)]
    height, width = mask.shape
    cover = (mask.astype(np.float32) / 255)[..., None]
    part, through = rgb[y : y + height, x : x + width], alpha[y : y + height, x : x + width]
    # The colours of a translucent panel and of opaque text, weighted by what each contributes.
    total = cover * 255 + (1 - cover) * through
    part[...] = (cover * 255 * np.array(color) + (1 - cover) * through * part) / total
    through[...] = total


def _cached(cache: OrderedDict[Hashable, V], key: Hashable, make: Callable[[], V]) -> V:
    """The value of ``key``, made when it is missing; the least recently used one goes."""
    if key in cache:
        cache.move_to_end(key)
        return cache[key]
    value = cache[key] = make()
    if len(cache) > _CACHE:
        cache.popitem(last=False)
    return value
