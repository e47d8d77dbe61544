"""Where the people are at a keyframe: asked of a detector, or given beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from avadet import boxes as box_math
from avadet.data.box_table import BoxTable
from avadet.errors import UserError
from avadet.persons import PersonDetector
from avadet.registry import suggest
from avadet.structures import Keyframe

# (boxes_norm (N,4) float32, scores (N,) float32)
Found = tuple[np.ndarray, np.ndarray]


class PeopleFinder(Protocol):
    """Boxes and scores of the people at keyframes.

    Attributes:
        needs_frames: whether ``find`` looks at the pictures.
    """

    needs_frames: bool

    def find(
        self, keyframes: Sequence[Keyframe], frames: Sequence[np.ndarray] | None
    ) -> list[Found]:
        """One answer per keyframe; ``frames`` are (H,W,3) uint8 at the movie's full size."""
        ...


class DetectedPeople:
    """People found by a detector.

    Args:
        detector: see ``avadet.persons``.
        threshold: least score.
    """

    needs_frames = True

    def __init__(self, detector: PersonDetector, threshold: float) -> None:
        self.detector, self.threshold = detector, threshold

    def find(
        self, keyframes: Sequence[Keyframe], frames: Sequence[np.ndarray] | None
    ) -> list[Found]:
        """See ``PeopleFinder``."""
        assert frames is not None
        answers = []
        for frame, found in zip(frames, self.detector.detect(frames)):
            height, width = frame.shape[:2]
            boxes = box_math.clip(box_math.px_to_norm(found.boxes_px, height, width), 1, 1)
            answers.append(_valid(boxes, found.scores, self.threshold))
        return answers


class GivenPeople:
    """People whose boxes are known, from a proposals file or from ground truth.

    Args:
        boxes: see ``avadet.data.ava_csv.read_proposals``.
        video: the movie's name in it.
        threshold: least score.

    Raises:
        UserError: the boxes are of other movies.
    """

    needs_frames = False

    def __init__(self, boxes: BoxTable, video: str, threshold: float = 0.0) -> None:
        if video not in boxes.videos:
            names = list(boxes.videos)
            raise UserError(
                f"the boxes given are not of a movie called '{video}'.{suggest(video, names)} "
                f"They are of {', '.join(names[:5]) or 'none'}{', ...' if len(names) > 5 else ''}; "
                "the name of the movie file, without suffix, must be that of the rows"
            )
        self.threshold = threshold
        self._boxes = boxes.in_videos([video])

    @property
    def seconds(self) -> list[float]:
        """When there is a box."""
        return [keyframe.second for keyframe in self._boxes.keyframes()]

    def find(
        self, keyframes: Sequence[Keyframe], frames: Sequence[np.ndarray] | None = None
    ) -> list[Found]:
        """See ``PeopleFinder``."""
        rows = [self._boxes.find(keyframe) for keyframe in keyframes]
        return [
            _valid(self._boxes.boxes_norm[row], self._boxes.scores[row], self.threshold)
            for row in rows
        ]


def _valid(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> Found:
    keep = (scores >= threshold) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    return boxes[keep], scores[keep]
