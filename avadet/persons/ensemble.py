"""Several looks at one frame, averaged: mirror images and sizes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from avadet import boxes as box_math
from avadet.persons.base import PersonBoxes, PersonDetector


def average(
    looks: Sequence[PersonBoxes], *, nms_threshold: float = 0.5, score_threshold: float = 0.0
) -> PersonBoxes:
    """One answer from several about the same frame.

    The best remaining box of all looks gathers every box that overlaps it by ``nms_threshold``;
    the gathered ones vote: each look's best counts once, boxes are averaged with their scores as
    weights, and the score is the mean over all looks, a look without the person counting as 0.

    Args:
        looks: answers in pixels of the same frame.
        nms_threshold: IoU from which boxes are the same person.
        score_threshold: averaged boxes below it are left out.
    """
    boxes = np.concatenate([look.boxes_px for look in looks]).astype(np.float32)
    scores = np.concatenate([look.scores for look in looks]).astype(np.float32)
    source = np.concatenate([np.full(len(look), i) for i, look in enumerate(looks)])
    order = np.argsort(-scores, kind="stable")
    boxes, scores, source = boxes[order], scores[order], source[order]
    free = np.ones(len(boxes), bool)
    overlaps = box_math.iou(boxes, boxes)
    merged, confidence = [], []
    for index in range(len(boxes)):
        if not free[index]:
            continue
        group = np.flatnonzero(free & (overlaps[index] >= nms_threshold))
        group = np.union1d(group, [index])
        free[group] = False
        # Rows are in descending order, so the first of each look is its best.
        _, first = np.unique(source[group], return_index=True)
        voters = group[first]
        weights = scores[voters][:, None]
        merged.append((boxes[voters] * weights).sum(0) / max(float(weights.sum()), 1e-12))
        confidence.append(scores[voters].sum() / len(looks))
    result = np.asarray(merged, np.float32).reshape(-1, 4)
    totals = np.asarray(confidence, np.float32)
    order = np.argsort(-totals, kind="stable")
    order = order[totals[order] >= score_threshold]
    return PersonBoxes(result[order], totals[order])


class AveragedDetector:
    """Looks at each frame with every detector given, and at its mirror image if asked.

    Args:
        detectors: the same network at several sizes, or different ones.
        flip: also look at mirror images.
        nms_threshold, score_threshold: see :func:`average`.
    """

    def __init__(
        self,
        detectors: Sequence[PersonDetector],
        *,
        flip: bool = True,
        nms_threshold: float = 0.5,
        score_threshold: float = 0.05,
    ) -> None:
        if not detectors:
            raise ValueError("at least one detector is needed")
        self.detectors = list(detectors)
        self.flip = flip
        self.nms_threshold = nms_threshold
        self.score_threshold = score_threshold

    def detect(self, frames: Sequence[np.ndarray]) -> list[PersonBoxes]:
        """People on each RGB frame (H,W,3) uint8, best first."""
        looks: list[list[PersonBoxes]] = [[] for _ in frames]
        mirrored = [np.ascontiguousarray(frame[:, ::-1]) for frame in frames] if self.flip else []
        for detector in self.detectors:
            for answers, found in zip(looks, detector.detect(frames)):
                answers.append(found)
            if not self.flip:
                continue
            for answers, frame, found in zip(looks, frames, detector.detect(mirrored)):
                boxes = box_math.flip(found.boxes_px, frame.shape[1])
                answers.append(PersonBoxes(boxes, found.scores))
        return [
            average(answers, nms_threshold=self.nms_threshold, score_threshold=self.score_threshold)
            for answers in looks
        ]
