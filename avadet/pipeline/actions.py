"""Scores of what people do, from clips and boxes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from avadet.data.feature_bank import BankView
from avadet.engine.infer import detect_batch
from avadet.engine.precision import place, resolve
from avadet.errors import UserError
from avadet.models.description import ModelDescription
from avadet.models.preprocess import Preprocessing
from avadet.structures import Batch, Detections, Sample


class ActionScorer:
    """An action detector and what its description says about input and output.

    Scores come from ``engine.infer.detect_batch``, as those of an evaluation do.

    Args:
        model: an ``ActionDetector`` that carries its description; it is moved and readied.
        device: to run on.
        precision: "auto", "fp32", "bf16" or "fp16", see ``engine.precision``.
        bank: the long-term features that the model asks, where it asks any.

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
        self.description = description
        self.bank = bank
        self.device = torch.device(device)
        self.precision = resolve(precision, self.device)
        self.model = place(model, self.device, self.precision).eval()

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
        return detect_batch(
            self.model,
            Batch.collate(samples),
            preprocessing=self.preprocessing,
            activation=self.description.activation,
            device=self.device,
            precision=self.precision,
        )
