"""Scores of what people do, from clips and boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from avadet.errors import UserError
from avadet.models.description import ModelDescription
from avadet.models.heads import activate
from avadet.models.preprocess import Preprocessing, normalize
from avadet.structures import Batch, Sample


class ActionScorer:
    """An action detector and what its description says about input and output.

    Args:
        model: an ``ActionDetector`` that carries its description.
        device: to run on.
        autocast: type for mixed precision, or None for the model's own.

    Raises:
        UserError: the model has no description, or is not a detector.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        device: torch.device | str = "cpu",
        autocast: torch.dtype | None = None,
    ) -> None:
        description: ModelDescription | None = getattr(model, "description", None)
        if description is None:
            raise UserError("this action model does not say what it expects; convert it first")
        if description.task != "detection":
            raise UserError(
                f"{description.name} is a classifier of whole clips; the demo needs a detector "
                "(train one from it with `avadet train configs/ava/...`)"
            )
        self.description = description
        self.device = torch.device(device)
        self.autocast = autocast
        self.model = model.to(self.device).eval()

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

    @torch.inference_mode()
    def score(self, samples: Sequence[Sample]) -> list[np.ndarray]:
        """(N_i,K) float32 probabilities of each sample's boxes.

        Raises:
            UserError: a score is not finite.
        """
        batch = Batch.collate(samples).to(self.device)
        video = normalize(batch.video, self.preprocessing)
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            logits = self.model(video, batch.boxes_px)
        scores = activate(logits, self.description.activation).cpu().numpy()
        if not np.isfinite(scores).all():
            raise UserError(
                f"{batch.keyframes[0]}: {self.description.name} gives scores that are not "
                "numbers; the weights are damaged or do not belong to this network"
            )
        counts = np.cumsum([len(sample.boxes_px) for sample in samples])[:-1]
        return np.split(scores, counts)
