"""From detections to a frame-mAP, by way of the file that anybody else can score."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from avadet.data.ava_csv import write_detections_csv
from avadet.evaluation.ava import FrameMap, frame_map
from avadet.structures import Detections


def score_detections(
    path: str | os.PathLike[str],
    detections: Iterable[Detections],
    *,
    groundtruth: str | os.PathLike[str],
    class_ids: Sequence[int],
    label_map: str | os.PathLike[str] | None = None,
    excluded: str | os.PathLike[str] | None = None,
    protocol: str = "official",
) -> FrameMap:
    """Writes the detections as AVA's CSV to ``path`` and scores that file.

    Args:
        class_ids: the number on disk of each score, in order.
        label_map: classes that count; None for those the model answers for.

    Raises:
        UserError: files that cannot be written or read.
    """
    write_detections_csv(path, detections, class_ids)
    # An id without a name is named by its number; only the ids decide the result.
    classes = label_map or {number: str(number) for number in class_ids}
    return frame_map(groundtruth, path, classes, excluded, protocol)


def frame_map_evaluator(
    path: str | os.PathLike[str], **options: object
) -> Callable[[list[Detections]], dict[str, float]]:
    """``score_detections`` as the training loop wants it: detections in, metrics out."""

    def evaluate(detections: list[Detections]) -> dict[str, float]:
        result = score_detections(Path(path), detections, **options)  # type: ignore[arg-type]
        metrics = {"frame_mAP": result.mAP if result.mAP is not None else float("nan")}
        metrics |= {name: value for name, value in result.groups.items() if value is not None}
        return metrics

    return evaluate
