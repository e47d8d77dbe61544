"""Training the detectron2 library's own network, in avadet's loop and on avadet's pictures.

The network starts as the native one does (fresh, or from any checkpoint that avadet reads) and is
written as avadet's file, which both engines read.
"""

from __future__ import annotations

import os

from torch import Tensor, nn

from avadet.convert import detectron2 as tables
from avadet.persons import weights
from avadet.persons.detectron2 import Detectron2Detector, LibraryLosses, from_native
from avadet.persons.faster_rcnn import FasterRCNN
from avadet.persons.pictures import PersonBatch, PictureSource
from avadet.persons.task import PersonTask


class Detectron2Task(PersonTask):
    """The library's training.

    Args:
        native: architecture, first weights and description; not trained itself.
        held_out, batch_size, score_threshold: of ``PersonTask``.

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
        super().__init__(
            LibraryLosses(library, self.cfg.INPUT.FORMAT),
            held_out,
            batch_size=batch_size,
            score_threshold=score_threshold,
        )

    def losses(self, batch: PersonBatch) -> dict[str, Tensor]:
        """The library's own losses."""
        return self.model(batch.frames, batch.boxes_px)

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
        library = _library(self.model if model is None else model)
        was_training = library.training
        try:
            return super().evaluate(model)
        finally:
            library.train(was_training)

    def detector(self, model: nn.Module) -> Detectron2Detector:
        """The library's network itself, set to evaluation."""
        return Detectron2Detector(
            _library(model).eval(),
            self.cfg,
            score_threshold=self.score_threshold,
            batch_size=self.batch_size,
            person_class=self.description.person_class,
        )


def _library(model: nn.Module) -> nn.Module:
    inner = getattr(model, "module", model)
    if not isinstance(inner, LibraryLosses):
        raise TypeError(f"expected the library's network, got {type(inner).__name__}")
    return inner.library
