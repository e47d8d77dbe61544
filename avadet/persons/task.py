"""Training a person detector: the loss of a batch and the AP on held-out pictures."""

from __future__ import annotations

import abc
import os
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from avadet.persons import images, weights
from avadet.persons.base import PersonBoxes, PersonDetector
from avadet.persons.coco import average_precision
from avadet.persons.faster_rcnn import FasterRCNN
from avadet.persons.native import NativeDetector
from avadet.persons.pictures import PersonBatch, PictureSource
from avadet.structures import Keyframe


class PersonTask(abc.ABC):
    """What the training loop asks for, whichever engine answers.

    Args:
        model: trained. It may be wrapped later (DistributedDataParallel): the loss goes through
            ``self.model``'s forward.
        held_out: pictures to measure AP on, or None.
        batch_size: pictures per forward pass while measuring.
        score_threshold: of detections that count for AP; low, since AP wants the whole curve.
    """

    def __init__(
        self,
        model: nn.Module,
        held_out: PictureSource | None,
        *,
        batch_size: int,
        score_threshold: float = 0.01,
    ) -> None:
        self.model = model
        self.held_out = held_out
        self.batch_size = batch_size
        self.score_threshold = score_threshold
        # The parts of the last loss, for the log.
        self.parts: dict[str, Tensor] = {}

    @abc.abstractmethod
    def losses(self, batch: PersonBatch) -> dict[str, Tensor]:
        """The losses of a batch whose pictures have their final sizes already, by name."""

    @abc.abstractmethod
    def detector(self, model: nn.Module) -> PersonDetector:
        """Finds persons with the present weights of ``model``."""

    def loss(self, batch: PersonBatch) -> Tensor:
        """Sum of the losses of a batch."""
        losses = self.losses(batch)
        self.parts = {name: value.detach() for name, value in losses.items()}
        return torch.stack(list(losses.values())).sum()

    def describe(self, batch: PersonBatch) -> list[str]:
        """The batch's keyframes, for messages."""
        return [str(keyframe) for keyframe in batch.keyframes]

    def weight(self, batch: PersonBatch) -> float:
        """Pictures in the batch: the loss is a mean over them."""
        return float(len(batch))

    def evaluate(self, model: nn.Module | None = None) -> dict[str, float]:
        """AP and AP50 on the held-out pictures (empty without any)."""
        if self.held_out is None:
            return {}
        detector = self.detector(self.model if model is None else model)
        found, truth = detect_all(detector, self.held_out, self.batch_size)
        measured = average_precision(truth, found)
        return {"AP50": measured["AP50"], "AP": measured["AP"]}


class PersonDetectionTask(PersonTask):
    """The native detector's training.

    Args:
        model: with a description.
        held_out, batch_size, score_threshold: of ``PersonTask``.
    """

    def __init__(
        self,
        model: FasterRCNN,
        held_out: PictureSource | None = None,
        *,
        batch_size: int = 16,
        score_threshold: float = 0.01,
    ) -> None:
        if model.description is None:
            raise ValueError("the detector has no description")
        super().__init__(model, held_out, batch_size=batch_size, score_threshold=score_threshold)
        self.preprocessing = model.description.preprocessing

    def losses(self, batch: PersonBatch) -> dict[str, Tensor]:
        """The four losses of Faster R-CNN."""
        device = next(self.model.parameters()).device
        pictures, sizes = images.stack(batch.frames, self.preprocessing, device)
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        return self.model(pictures, sizes, [boxes.to(device) for boxes in batch.boxes_px])

    def export(self, path: str | os.PathLike[str], model: nn.Module) -> None:
        """Writes the detector as one safetensors file that ``create_detector`` reads."""
        weights.save(path, _detector(model))

    def detector(self, model: nn.Module) -> NativeDetector:
        """In float32, as AP is reported."""
        inner = _detector(model)
        return NativeDetector(
            inner,
            score_threshold=self.score_threshold,
            device=str(next(inner.parameters()).device),
            precision="fp32",
            batch_size=self.batch_size,
        )


def _detector(model: nn.Module) -> FasterRCNN:
    inner = getattr(model, "module", model)
    if not isinstance(inner, FasterRCNN):
        raise TypeError(f"expected a FasterRCNN, got {type(inner).__name__}")
    return inner


def detect_all(
    detector: PersonDetector, source: PictureSource, batch_size: int = 16
) -> tuple[dict[Keyframe, PersonBoxes], dict[Keyframe, np.ndarray]]:
    """Detections and true boxes (px) of every picture of a source."""
    found: dict[Keyframe, PersonBoxes] = {}
    truth: dict[Keyframe, np.ndarray] = {}
    for start in range(0, len(source), batch_size):
        numbers: Sequence[int] = range(start, min(start + batch_size, len(source)))
        pictures = [source.picture(i) for i in numbers]
        answers = detector.detect([frame for frame, _ in pictures])
        for number, answer, (_, boxes) in zip(numbers, answers, pictures):
            found[source.keyframes[number]] = answer
            truth[source.keyframes[number]] = boxes
    return found, truth
