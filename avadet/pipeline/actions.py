"""Scores of what people do, from clips and boxes."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import nn

from avadet.data.feature_bank import BankView
from avadet.engine.infer import detect_batch
from avadet.engine.inference import prepare_for_inference
from avadet.engine.precision import Precision, resolve
from avadet.errors import UserError
from avadet.models.description import ModelDescription
from avadet.models.preprocess import Preprocessing
from avadet.structures import Batch, Detections, Sample

_log = logging.getLogger(__name__)


class ActionScorer:
    """An action detector and what its description says about input and output.

    Scores come from ``engine.infer.detect_batch``, as those of an evaluation do.

    Args:
        model: an ``ActionDetector`` that carries its description; a copy is prepared, see
            ``engine.inference``.
        device: to run on.
        precision: "auto", "fp32", "bf16" or "fp16", see ``engine.precision``.
        bank: the long-term features that the model asks, where it asks any.

    Attributes:
        score_change: largest difference from float32 scores on the first clip with people; None
            before it, and in float32.

    Raises:
        UserError: the model has no description or is not a detector, or the device cannot
            compute in that precision.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
        bank: BankView | None = None,
    ) -> None:
        description: ModelDescription | None = getattr(model, "description", None)
        if description is None:
            raise UserError("this action model does not say what it expects; convert it first")
        if description.task != "detection":
            raise UserError(
                f"{description.name} is a classifier of whole clips; people need a detector "
                "(train one from it with `avadet train configs/ava/...`)"
            )
        description.require_pictures()
        self.description = description
        self.bank = bank
        self.device = torch.device(device)
        # Kept until a clip has told how far the faster network is from it.
        self._exact: nn.Module | None = None
        if resolve(precision, self.device).name != "fp32":
            self._exact = model.to(self.device).eval()
        prepared = prepare_for_inference(model, self.device, precision)
        self.model, self.precision = prepared.model, prepared.precision
        self.score_change: float | None = None
        _log.info("actions: %s", prepared.choice)

    @property
    def preprocessing(self) -> Preprocessing:
        """What the weights expect."""
        return self.description.preprocessing

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name per score; numbers where the weights carry none."""
        names = self.description.class_names
        if names is None:
            return tuple(f"action {k + 1}" for k in range(self.description.num_classes))
        return names

    @property
    def class_ids(self) -> tuple[int, ...]:
        """The number of each class in files."""
        return self.description.class_ids or tuple(range(1, self.description.num_classes + 1))

    def score(self, samples: Sequence[Sample]) -> list[Detections]:
        """What each sample's people do; probabilities.

        Raises:
            UserError: a score is not finite.
        """
        if self.bank is not None:
            samples = [self.bank.added_to(sample) for sample in samples]
        batch = Batch.collate(samples)
        found = self._detect(self.model, batch, self.precision)
        if self._exact is not None and any(len(each) for each in found):
            exact = self._detect(self._exact, batch, Precision("fp32", self.device.type))
            self._exact = None
            self.score_change = max(
                float(abs(a.scores - b.scores).max())
                for a, b in zip(found, exact, strict=True)
                if len(a)
            )
            _log.info(
                "actions: %s changed scores by %.4f at most on the first clip with people",
                self.precision.name,
                self.score_change,
            )
        return found

    def _detect(self, model: nn.Module, batch: Batch, precision: Precision) -> list[Detections]:
        return detect_batch(
            model,
            batch,
            preprocessing=self.preprocessing,
            activation=self.description.activation,
            device=self.device,
            precision=precision,
        )
