"""What happens in a video as a whole: the test views of Kinetics for any video and classifier."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn

from avadet.data.media import FrameReader
from avadet.data.transforms import ClipTransform, spatial_crops
from avadet.engine.infer import checked
from avadet.engine.precision import Precision
from avadet.errors import UserError
from avadet.models.description import ModelDescription
from avadet.models.heads import activate
from avadet.models.preprocess import Preprocessing, normalize
from avadet.video.sampling import view_seconds


class VideoClassifier:
    """A classifier and what its description says about input and classes.

    Args:
        model: placed on its device (``engine.precision.place``); put into eval mode.
        precision: to compute in.

    Attributes:
        description: the model's.
        class_names: one per class; numbers from 0 where the weights do not name them.

    Raises:
        UserError: the model is no classifier.
    """

    def __init__(self, model: nn.Module, precision: Precision) -> None:
        description: ModelDescription | None = getattr(model, "description", None)
        if description is None:
            raise UserError("this model does not say what it expects; convert it first")
        if description.task != "classification":
            raise UserError(
                f"{description.name}: finds the actions of each person, not of a whole video; run "
                "it with `avadet demo`"
            )
        description.require_pictures()
        self.model = model.eval()
        self.description = description
        self.precision = precision
        numbers = tuple(f"class {number}" for number in range(description.num_classes))
        self.class_names = description.class_names or numbers

    def scores(
        self,
        reader: FrameReader,
        name: str,
        *,
        temporal_views: int = 10,
        crops: int = 3,
        reach_end: bool = False,
        batch_size: int = 1,
        after_batch: Callable[[int], None] = lambda views: None,
    ) -> np.ndarray:
        """The mean of the probabilities of a video's views.

        Args:
            reader: the open video.
            name: of it, for messages.
            temporal_views, crops: how many; crops are 1 or 3, see ``spatial_crops``.
            reach_end: see ``view_seconds``.
            batch_size: views per run of the network.
            after_batch: is told how many views were done.

        Shape: -> (K,) float64.

        Raises:
            UserError: the video cannot be read, or a score is not finite.
        """
        device = next(self.model.parameters()).device
        total = np.zeros(self.description.num_classes)
        views = self._views(reader, temporal_views, crops, reach_end)
        while group := list(islice(views, batch_size)):
            video = torch.stack(group).to(device)
            with torch.inference_mode(), self.precision.autocast():
                found = self._probabilities(normalize(video, self.description.preprocessing))
            total += checked(found.float().cpu(), [name]).double().sum(0).numpy()
            after_batch(len(group))
        return total / (temporal_views * crops)

    def _probabilities(self, video: Tensor) -> Tensor:
        activation = self.description.activation
        if hasattr(self.model, "probabilities"):
            return self.model.probabilities(video, activation)
        return activate(self.model(video), activation)

    def _views(
        self, reader: FrameReader, temporal_views: int, crops: int, reach_end: bool
    ) -> Iterator[Tensor]:
        """(3,T,H,W) uint8 of each view; the crops of a stretch share its frames."""
        shape: Preprocessing = self.description.preprocessing
        side = shape.test_short_side
        for view in range(temporal_views):
            times = view_seconds(
                reader.duration,
                shape.num_frames,
                shape.frame_stride,
                view,
                temporal_views,
                shape.fps,
                reach_end,
            )
            clip = reader.read(times, short_side=shape.test_scale(crops), fps=shape.fps)
            for place in spatial_crops(*clip.size, crops):
                transform = ClipTransform(crop=side, places=(place,))
                yield transform.frames(clip.frames, transform.corner(*clip.size))


def ranking(scores: np.ndarray, count: int) -> list[int]:
    """The classes with the highest scores, equal ones by number."""
    return np.argsort(-scores, kind="stable")[:count].tolist()
