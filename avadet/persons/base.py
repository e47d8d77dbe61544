"""What every person detector answers, and the choice between the engines."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from avadet.errors import UserError

_log = logging.getLogger(__name__)

ENGINES = ("auto", "native", "detectron2")


@dataclass(frozen=True)
class PersonBoxes:
    """The people on one frame, best first.

    Attributes:
        boxes_px: (N,4) float32 xyxy in pixels of the frame as it was given.
        scores: (N,) float32 in [0,1].
    """

    boxes_px: np.ndarray
    scores: np.ndarray

    def __post_init__(self) -> None:
        if self.boxes_px.ndim != 2 or self.boxes_px.shape[1] != 4:
            raise ValueError(f"boxes_px must be (N,4): {self.boxes_px.shape}")
        if self.scores.shape != (len(self.boxes_px),):
            raise ValueError(f"{len(self.boxes_px)} boxes but scores {self.scores.shape}")

    def __len__(self) -> int:
        return len(self.boxes_px)

    def at_least(self, score: float) -> PersonBoxes:
        """Those with ``score`` or more."""
        keep = self.scores >= score
        return PersonBoxes(self.boxes_px[keep], self.scores[keep])


@runtime_checkable
class PersonDetector(Protocol):
    """Frames in, people out."""

    def detect(self, frames: Sequence[np.ndarray]) -> list[PersonBoxes]:
        """People on each RGB frame (H,W,3) uint8; frames may differ in size."""
        ...


def detectron2_is_here() -> bool:
    """Whether the detectron2 library can be imported."""
    return importlib.util.find_spec("detectron2") is not None


def choose_engine(engine: str, weights: str | os.PathLike[str]) -> str:
    """Turns "auto" into an engine, and says which.

    ``auto`` takes detectron2 where the library is installed and the weights are Detectron2's. It
    reads avadet's own files of the same architectures too, when asked for by name.

    Raises:
        UserError: an unknown engine, or detectron2 asked for where it is not installed.
    """
    if engine not in ENGINES:
        raise UserError(f"persons engine '{engine}': must be one of {', '.join(ENGINES)}")
    own_file = str(weights).endswith(".safetensors")
    if engine == "auto":
        if own_file or not detectron2_is_here():
            reason = "avadet's own weights" if own_file else "the detectron2 library is not here"
            _log.info("person detector: native engine (%s)", reason)
            return "native"
        _log.info("person detector: detectron2 engine (the library is installed)")
        return "detectron2"
    if engine == "detectron2" and not detectron2_is_here():
        raise UserError(
            "persons engine 'detectron2': the library is not installed; see the README for "
            "its install line, or use engine 'native', which reads the same weights"
        )
    return engine


def create_detector(
    engine: str = "auto",
    *,
    weights: str | os.PathLike[str],
    config: str | None = None,
    score_threshold: float = 0.05,
    device: str = "auto",
    precision: str = "auto",
    short_side: int | None = None,
    max_side: int | None = None,
    flip: bool = False,
    scales: Sequence[int] = (),
    nms_threshold: float | None = None,
    batch_size: int = 8,
) -> PersonDetector:
    """A person detector from a weights file.

    Args:
        engine: "auto", "native" or "detectron2".
        weights: avadet's ``.safetensors``, or a Detectron2 ``.pkl`` / ``.pth``.
        config: a Detectron2 yaml, or a name such as
            ``COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml``; for the detectron2 engine, where it is
            read from the weights' shapes when left out.
        score_threshold: boxes below it are left out.
        device: "auto" (a GPU where there is one), "cpu", "cuda", ...
        precision: "fp32", "bf16", or "auto": bf16 on a GPU, fp32 on a CPU.
        short_side, max_side: other sizes than the weights' own.
        flip: also look at the mirror image and average.
        scales: short sides to look at, all averaged; empty for the one size.
        nms_threshold: IoU for suppression within one look and across looks; 0.5 when None.
        batch_size: frames per forward pass.

    Raises:
        UserError: an engine that is not here, weights that are missing or do not fit, or a number
            out of its range.
    """
    sizes = (("short_side", short_side), ("max_side", max_side), ("batch_size", batch_size))
    for name, value in (*sizes, *(("scales", side) for side in scales)):
        if value is not None and value < 1:
            raise UserError(f"{name} {value}: must be at least 1")
    for name, share in (("score", score_threshold), ("nms", nms_threshold)):
        if share is not None and not 0 <= share <= 1:
            raise UserError(f"{name} {share:g}: must be within 0..1")
    chosen = choose_engine(engine, weights)
    detector: PersonDetector
    if chosen == "native":
        from avadet.persons.native import NativeDetector

        single = NativeDetector.from_file(
            weights,
            score_threshold=score_threshold,
            device=device,
            precision=precision,
            short_side=short_side,
            max_side=max_side,
            nms_threshold=nms_threshold,
            batch_size=batch_size,
        )
        detector, default_side = single, single.preprocessing.short_side
        with_side = single.with_short_side
    else:
        from avadet.persons.detectron2 import Detectron2Detector

        other = Detectron2Detector.from_file(
            weights,
            config=config,
            score_threshold=score_threshold,
            device=device,
            short_side=short_side,
            max_side=max_side,
            nms_threshold=nms_threshold,
            batch_size=batch_size,
        )
        detector, default_side = other, other.short_side
        with_side = other.with_short_side
    if not flip and not scales:
        return detector
    from avadet.persons.ensemble import AveragedDetector

    sides = list(scales) or [default_side]
    return AveragedDetector(
        [with_side(side) for side in sides],
        flip=flip,
        nms_threshold=0.5 if nms_threshold is None else nms_threshold,
        score_threshold=score_threshold,
    )
