"""Training the detectron2 library's own network, in avadet's loop and on avadet's pictures.

The network starts as the native one does (fresh, or from any checkpoint that avadet reads) and is
written as avadet's file, which both engines read.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

from avadet.convert import detectron2 as tables
from avadet.persons import weights
from avadet.persons.coco import average_precision
from avadet.persons.detectron2 import Detectron2Detector, LibraryLosses, from_native
from avadet.persons.faster_rcnn import FasterRCNN
from avadet.persons.pictures import PersonBatch, PictureSource
from avadet.persons.task import detect_all


class Detectron2Task:
    """What the training loop asks for, answered by the library.

    Args:
        native: architecture, first weights and description; not trained itself.
        held_out: pictures to measure AP on, or None.
        batch_size: pictures per forward pass while measuring.
        score_threshold: of detections that count for AP; low, since AP wants the whole curve.

    Raises:
        UserError: the library has no configuration of this architecture.
    """

    def __init__(
        self,
        native: FasterRCNN,
        held_out: PictureSource | None = None,
        *,
        batch_size: int = 8,
        score_threshold: float = 0.01,
    ) -> None:
        if native.description is None:
            raise ValueError("the detector has no description")
        self.description = native.description
        library, self.cfg = from_native(native)
        self.model: nn.Module = LibraryLosses(library, self.cfg.INPUT.FORMAT)
        self.held_out = held_out
        self.batch_size = batch_size
        self.score_threshold = score_threshold
        self.parts: dict[str, Tensor] = {}

    def loss(self, batch: PersonBatch) -> Tensor:
        """Sum of the library's losses of a batch whose pictures have their final sizes already."""
        losses = self.model(batch.frames, batch.boxes_px)
        self.parts = {name: value.detach() for name, value in losses.items()}
        return torch.stack(list(losses.values())).sum()

    def describe(self, batch: PersonBatch) -> list[str]:
        """The batch's keyframes, for messages."""
        return [str(keyframe) for keyframe in batch.keyframes]

    def weight(self, batch: PersonBatch) -> float:
        """Pictures in the batch: the loss is a mean over them."""
        return float(len(batch))

    def export(self, path: str | os.PathLike[str], model: nn.Module) -> None:
        """Writes avadet's safetensors file; ``create_detector`` reads it with either engine."""
        weights.save(path, self.native(model))

    def native(self, model: nn.Module) -> FasterRCNN:
        """The native network with the weights of ``model``, in evaluation mode."""
        state = tables.convert({"model": _library(model).state_dict()}).state
        native = weights.create(self.description)
        native.load_state_dict({name: value.cpu() for name, value in state.items()})
        return native.eval()

    def evaluate(self, model: nn.Module | None = None) -> dict[str, float]:
        """AP and AP50 of the library's detections on the held-out pictures ({} without any)."""
        if self.held_out is None:
            return {}
        library = _library(self.model if model is None else model)
        was_training = library.training
        detector = Detectron2Detector(
            library.eval(),
            self.cfg,
            score_threshold=self.score_threshold,
            batch_size=self.batch_size,
            person_class=self.description.person_class,
        )
        found, truth = detect_all(detector, self.held_out, self.batch_size)
        library.train(was_training)
        measured = average_precision(truth, found)
        return {"AP50": measured["AP50"], "AP": measured["AP"]}


def _library(model: nn.Module) -> nn.Module:
    inner = getattr(model, "module", model)
    if not isinstance(inner, LibraryLosses):
        raise TypeError(f"expected the library's network, got {type(inner).__name__}")
    return inner.library
