"""Neighbouring keyframes help each other: boxes of one person are linked, steadied and rescored."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from avadet import boxes as box_math
from avadet.persons.base import PersonBoxes
from avadet.persons.proposals import Proposals
from avadet.structures import Keyframe


def link(earlier: PersonBoxes, later: PersonBoxes, min_iou: float) -> np.ndarray:
    """(N,) for each earlier box the later one of the same person, or -1.

    Two boxes are linked where each is the one that the other overlaps most.
    """
    links = np.full(len(earlier), -1)
    if not len(earlier) or not len(later):
        return links
    overlaps = box_math.iou(earlier.boxes_px, later.boxes_px)
    best = overlaps.argmax(axis=1)
    rows = np.arange(len(earlier))
    mutual = (overlaps.argmax(axis=0)[best] == rows) & (overlaps[rows, best] >= min_iou)
    links[mutual] = best[mutual]
    return links


def smooth_sequence(
    frames: Sequence[PersonBoxes],
    *,
    min_iou: float = 0.3,
    pull: float = 0.5,
    lonely_score: float = 0.5,
) -> list[PersonBoxes]:
    """Successive keyframes of one shot, each by the look of its two neighbours.

    A box between two others of the same person takes the mean of their scores where that is
    higher, and moves towards the middle between them: by little where it is sure itself, by much
    where it is not (somebody half hidden). A box that nobody precedes or follows stays only with
    a score of ``lonely_score``. First and last keyframes keep all their boxes.

    Args:
        frames: boxes in any one unit, in order of time.
        min_iou: overlap from which boxes of neighbours can be one person.
        pull: weight of the neighbours' middle relative to a sure box; 0 moves nothing.
        lonely_score: below it a box without neighbours is dropped.

    Returns:
        as many, each best first.
    """
    forward = [link(a, b, min_iou) for a, b in itertools.pairwise(frames)]
    result = []
    for index, frame in enumerate(frames):
        boxes, scores = frame.boxes_px.copy(), frame.scores.copy()
        keep = np.ones(len(frame), bool)
        if 0 < index < len(frames) - 1:
            before, after = frames[index - 1], frames[index + 1]
            previous = np.full(len(frame), -1)
            linked = np.flatnonzero(forward[index - 1] >= 0)
            previous[forward[index - 1][linked]] = linked
            following = forward[index]
            keep = (previous >= 0) | (following >= 0) | (scores >= lonely_score)
            both = np.flatnonzero((previous >= 0) & (following >= 0))
            a, b = previous[both], following[both]
            middle = (before.boxes_px[a] + after.boxes_px[b]) / 2
            sure = np.minimum(before.scores[a], after.scores[b])
            own = scores[both]
            share = pull * sure / np.maximum(own + pull * sure, 1e-12)
            boxes[both] += share[:, None] * (middle - boxes[both])
            scores[both] = np.maximum(own, (before.scores[a] + after.scores[b]) / 2)
        order = np.argsort(-scores, kind="stable")
        order = order[keep[order]]
        result.append(PersonBoxes(boxes[order], scores[order]))
    return result


def smooth(proposals: Proposals, *, max_gap: float | None = None) -> Proposals:
    """Every movie by :func:`smooth_sequence`.

    Args:
        proposals: boxes of many keyframes.
        max_gap: seconds between neighbours, above which they do not help each other; None for
            one and a half times the shortest interval of the movie.
    """
    by_video: dict[str, list[Keyframe]] = {}
    for keyframe in sorted(proposals.boxes_norm):
        by_video.setdefault(keyframe.video, []).append(keyframe)
    boxes_norm, scores = {}, {}
    for keyframes in by_video.values():
        seconds = np.array([keyframe.second for keyframe in keyframes])
        steps = np.diff(seconds)
        limit = max_gap
        if limit is None:
            limit = 1.5 * float(steps.min()) if len(steps) else 0.0
        breaks = np.flatnonzero(steps > limit + 1e-6) + 1
        for part in np.split(np.arange(len(keyframes)), breaks):
            names = [keyframes[i] for i in part]
            looks = [PersonBoxes(proposals.boxes_norm[k], proposals.scores[k]) for k in names]
            for keyframe, found in zip(names, smooth_sequence(looks)):
                boxes_norm[keyframe], scores[keyframe] = found.boxes_px, found.scores
    return Proposals(boxes_norm, scores, proposals.sizes)
