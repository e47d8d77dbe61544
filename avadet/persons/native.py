"""The native engine: Faster R-CNN on torch and torchvision alone."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from avadet.errors import UserError
from avadet.persons import images, weights
from avadet.persons.base import PersonBoxes
from avadet.persons.faster_rcnn import FasterRCNN


class NativeDetector:
    """A :class:`FasterRCNN` as a person detector: batches, sizes, devices.

    Args:
        model: with a description; it is copied and its normalisations folded.
        score_threshold: boxes below it are left out.
        device: "auto", "cpu", "cuda", ...
        precision: "fp32", "bf16" or "auto" (bf16 on a GPU).
        short_side, max_side: other sizes than the description's.
        nms_threshold: other than the box head's.
        batch_size: frames per forward pass.
    """

    def __init__(
        self,
        model: FasterRCNN,
        *,
        score_threshold: float = 0.05,
        device: str = "auto",
        precision: str = "auto",
        short_side: int | None = None,
        max_side: int | None = None,
        nms_threshold: float | None = None,
        batch_size: int = 8,
    ) -> None:
        if model.description is None:
            raise ValueError("the detector has no description")
        if precision not in ("auto", "fp32", "bf16"):
            raise UserError(f"precision '{precision}': must be auto, fp32 or bf16")
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        self.person_class = model.description.person_class
        self.score_threshold = score_threshold
        self.batch_size = batch_size
        pixels = model.description.preprocessing
        self.preprocessing = replace(
            pixels,
            short_side=pixels.short_side if short_side is None else short_side,
            max_side=pixels.max_side if max_side is None else max_side,
        )
        half = precision == "bf16" or (precision == "auto" and self.device.type == "cuda")
        self.dtype = torch.bfloat16 if half else torch.float32
        self.model = copy.deepcopy(model).fold().requires_grad_(False)
        self.model.to(self.device, memory_format=torch.channels_last)
        if nms_threshold is not None:
            self.model.box_head.nms_threshold = nms_threshold

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        *,
        score_threshold: float = 0.05,
        device: str = "auto",
        precision: str = "auto",
        short_side: int | None = None,
        max_side: int | None = None,
        nms_threshold: float | None = None,
        batch_size: int = 8,
    ) -> NativeDetector:
        """From any file that ``persons.weights.load`` reads."""
        return cls(
            weights.load(path),
            score_threshold=score_threshold,
            device=device,
            precision=precision,
            short_side=short_side,
            max_side=max_side,
            nms_threshold=nms_threshold,
            batch_size=batch_size,
        )

    def with_short_side(self, short_side: int) -> NativeDetector:
        """The same detector (and the same weights in memory) at another size.

        The limit on the longer side grows along, so that large scales are not cut back.
        """
        other = copy.copy(self)
        old = self.preprocessing
        limit = old.max_side
        if old.short_side:
            limit = max(limit, round(old.max_side * short_side / old.short_side))
        other.preprocessing = replace(old, short_side=short_side, max_side=limit)
        return other

    @torch.inference_mode()
    def detect(self, frames: Sequence[np.ndarray]) -> list[PersonBoxes]:
        """People on each RGB frame (H,W,3) uint8, best first."""
        found: list[PersonBoxes] = []
        for start in range(0, len(frames), self.batch_size):
            found += self._detect_batch(frames[start : start + self.batch_size])
        return found

    def _detect_batch(self, frames: Sequence[np.ndarray]) -> list[PersonBoxes]:
        batch, sizes = images.to_batch(frames, self.preprocessing, self.device)
        batch = batch.contiguous(memory_format=torch.channels_last)
        cast = (
            torch.autocast(self.device.type, self.dtype)
            if self.dtype != torch.float32
            else contextlib.nullcontext()
        )
        with cast:
            results = self.model.detect(batch, sizes, score_threshold=self.score_threshold)
        found = []
        for (boxes, scores, classes), size, frame in zip(results, sizes, frames):
            # People are picked after the cut at the best 100 of all classes, as Detectron2 does.
            people = classes == self.person_class
            boxes, scores = boxes[people], scores[people]
            found.append(to_frame(boxes.float().cpu(), scores.float().cpu(), size, frame.shape[:2]))
        return found


def to_frame(
    boxes: torch.Tensor, scores: torch.Tensor, size: tuple[int, int], shape: tuple[int, ...]
) -> PersonBoxes:
    """Boxes of a picture resized to ``size`` (h, w) in pixels of the original ``shape``."""
    height, width = shape
    factor = torch.tensor([width / size[1], height / size[0]]).repeat(2)
    limit = torch.tensor([width, height], dtype=torch.float32).repeat(2)
    boxes = torch.minimum((boxes * factor).clamp(min=0), limit)
    solid = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(dim=1)
    return PersonBoxes(boxes[solid].numpy(), scores[solid].numpy())
