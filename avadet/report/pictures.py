"""The worst keyframes: pictures with ground truth and prediction drawn over them."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Callable
from html import escape

import numpy as np

from avadet.errors import UserError
from avadet.evaluation.breakdown import WorstFrame
from avadet.evaluation.scored import ScoredRows

logger = logging.getLogger(__name__)

FrameAt = Callable[[str, float], np.ndarray]

_LONG_SIDE = 480
_MISSED, _FOUND, _FALSE = "#ffb000", "#36d07f", "#ff5d55"


def keyframe_card(
    frame: WorstFrame, rows: ScoredRows, names: dict[int, str], frame_at: FrameAt | None
) -> str:
    """One keyframe as HTML.

    Args:
        frame: which, and its errors.
        rows: the evaluation; boxes normalised, or in pixels of the movie.
        names: class id -> name.
        frame_at: gives the picture (H, W, 3) uint8 RGB of a video at a second; None draws the
            boxes on an empty ground.
    """
    picture = _picture(frame, frame_at)
    height, width = (270, 480) if picture is None else picture[1]
    boxes = np.concatenate(
        [rows.gt_boxes[frame.groundtruth], rows.det_boxes[frame.detections]]
    ).reshape(-1, 4)
    # Pixel boxes are drawn in the unit of the picture they were made for.
    scale = 1.0 if not len(boxes) or np.abs(boxes).max() <= 2.0 else max(1.0, float(boxes.max()))
    drawn = [] if picture is None else [
        f'<image href="{picture[0]}" width="{width}" height="{height}"/>'
    ]  # fmt: skip
    missed = set(frame.misses)
    for index in dict.fromkeys(frame.groundtruth):
        colour = _MISSED if index in missed else _FOUND
        drawn.append(_rectangle(rows.gt_boxes[index] / scale, width, height, colour, ""))
    wrong = set(frame.false_alarms)
    for index in frame.detections:
        if index in wrong:
            drawn.append(_rectangle(rows.det_boxes[index] / scale, width, height, _FALSE, "6 4"))
    label = f"{frame.video} at {frame.second:g} s"
    return (
        f'<div class="frame"><h3>{escape(label)}</h3>'
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label, quote=True)}">'
        f"{''.join(drawn)}</svg><ul>{_list(frame, rows, names)}</ul></div>"
    )


def _list(frame: WorstFrame, rows: ScoredRows, names: dict[int, str]) -> str:
    def name(label: int) -> str:
        return escape(names[int(rows.class_ids[label])])

    missed = sorted({name(rows.gt_label[i]) for i in frame.misses})
    wrong = sorted(frame.false_alarms, key=lambda i: -rows.det_score[i])
    items = []
    if missed:
        items.append(f"<li>missed: {', '.join(missed[:8])}{_more(len(missed), 8)}</li>")
    if wrong:
        said = [f"{name(rows.det_label[i])} ({rows.det_score[i]:.2f})" for i in wrong[:6]]
        items.append(f"<li>wrong: {', '.join(said)}{_more(len(wrong), 6)}</li>")
    found = len(frame.groundtruth) - len(frame.misses)
    items.append(f"<li>{found} of {len(frame.groundtruth)} actions found</li>")
    return "".join(items)


def _more(count: int, shown: int) -> str:
    return f" and {count - shown} more" if count > shown else ""


def _rectangle(box: np.ndarray, width: int, height: int, colour: str, dash: str) -> str:
    x1, y1, x2, y2 = box * np.array([width, height, width, height])
    return (
        f'<rect x="{x1:.1f}" y="{y1:.1f}" width="{max(0, x2 - x1):.1f}" '
        f'height="{max(0, y2 - y1):.1f}" fill="none" stroke="{colour}" stroke-width="3"'
        + (f' stroke-dasharray="{dash}"' if dash else "")
        + "/>"
    )


def _picture(frame: WorstFrame, frame_at: FrameAt | None) -> tuple[str, tuple[int, int]] | None:
    if frame_at is None:
        return None
    from PIL import Image

    try:
        pixels = np.asarray(frame_at(frame.video, frame.second))
    except UserError as error:
        logger.warning("%s at %g s: no picture: %s", frame.video, frame.second, error)
        return None
    image = Image.fromarray(pixels)
    image.thumbnail((_LONG_SIDE, _LONG_SIDE))
    stream = io.BytesIO()
    image.save(stream, format="JPEG", quality=78)
    text = base64.b64encode(stream.getvalue()).decode("ascii")
    return f"data:image/jpeg;base64,{text}", (image.height, image.width)
