"""People, their boxes and what they do, drawn on frames."""

from __future__ import annotations

from avadet.visualize.labels import PALETTE, color_of, font_size_for, short_names
from avadet.visualize.painter import Painter, Person

__all__ = ["PALETTE", "Painter", "Person", "color_of", "font_size_for", "short_names"]
