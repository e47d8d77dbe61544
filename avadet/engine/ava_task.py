"""Learning and scoring the actions of each person: AVA and data sets like it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from avadet.engine import distributed
from avadet.engine.infer import run_detector
from avadet.engine.task import Task
from avadet.models.preprocess import Preprocessing, normalize
from avadet.models.roi import Boxes, PackedBoxes
from avadet.structures import Batch, Detections

Loss = Callable[[Tensor, Tensor], Tensor]
Evaluator = Callable[[list[Detections]], dict[str, float]]


class AvaTask(Task):
    """Boxes on key frames, several labels per box.

    The loss is a mean over boxes and classes. A batch weighs as much as it has boxes, so with
    accumulated steps or several processes every box counts the same, on whichever process it is
    and however many boxes its clip has.

    Args:
        model: ``ActionDetector`` (or anything called the same way).
        loss: (logits (N,K), labels (N,K)) -> mean; ``models.losses.LOSSES``.
        preprocessing: the model's.
        activation: how logits become scores.
        eval_batches: this process's share of the test set; iterated anew at each evaluation.
        evaluator: detections of the whole test set -> metrics, the most important first; called
            on the main process.
        box_bucket: the boxes of a training batch are padded to a multiple of it, so that shapes
            seldom change (compiled networks); the loss does not see the padding.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        loss: Loss,
        preprocessing: Preprocessing,
        activation: str = "sigmoid",
        eval_batches: Iterable[Batch] | None = None,
        evaluator: Evaluator | None = None,
        box_bucket: int = 1,
    ) -> None:
        if (eval_batches is None) != (evaluator is None):
            raise ValueError("eval_batches and evaluator belong together")
        self.model = model
        self._loss = loss
        self._preprocessing = preprocessing
        self._activation = activation
        self._eval_batches = eval_batches
        self._evaluator = evaluator
        self._box_bucket = box_bucket

    def loss(self, batch: Batch) -> Tensor:
        if batch.labels is None:
            raise ValueError(f"no labels to learn from: {', '.join(self.describe(batch))}")
        video = normalize(batch.video, self._preprocessing)
        boxes: Boxes = batch.boxes_px
        if self._box_bucket > 1:
            boxes = PackedBoxes.pack(boxes, self._box_bucket)
        logits = self.model(video, boxes, *batch.bank_inputs)
        logits = logits[: sum(map(len, batch.boxes_px))]  # (sum N_i, K)
        if len(logits) == 0:
            return logits.float().sum()
        return self._loss(logits.float(), batch.labels)

    def weight(self, batch: Batch) -> float:
        return float(sum(len(boxes) for boxes in batch.boxes_px))

    def describe(self, batch: Batch) -> list[str]:
        return [str(keyframe) for keyframe in batch.keyframes]

    def detect(self, model: nn.Module) -> list[Detections]:
        """Scores of the test set, of all processes, sorted by keyframe; [] without a test set."""
        if self._eval_batches is None:
            return []
        return run_detector(
            model,
            self._eval_batches,
            preprocessing=self._preprocessing,
            activation=self._activation,
            device=next(model.parameters()).device,
        )

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        if self._evaluator is None:
            return {}
        detections = self.detect(model)
        return self._evaluator(detections) if distributed.is_main() else {}
