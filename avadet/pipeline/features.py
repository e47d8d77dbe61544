"""What a network knows of clips and of people, before its last layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn

from avadet.data.box_table import BoxTable
from avadet.data.transforms import ClipTransform
from avadet.engine.infer import checked
from avadet.engine.inference import prepare_for_inference
from avadet.errors import UserError
from avadet.models.description import ModelDescription
from avadet.models.preprocess import Preprocessing, normalize
from avadet.pipeline.people import GivenPeople
from avadet.pipeline.ring import Reader, clips_in_order, make_sample
from avadet.structures import Batch, Clip, Keyframe
from avadet.video.sampling import view_seconds

# Seconds that an annotated keyframe may lie outside of its movie.
_OUTSIDE = 1.0


class FeatureExtractor:
    """A network without its last layers, and what its description says about input.

    Args:
        model: a detector or a classifier that carries its description; a copy is prepared, see
            ``engine.inference``.
        device: to run on.
        precision: "auto", "fp32", "bf16" or "fp16", see ``engine.precision``.

    Raises:
        UserError: the model has no description, or the device cannot compute in that precision.
    """

    def __init__(
        self, model: nn.Module, *, device: torch.device | str = "cpu", precision: str = "fp32"
    ) -> None:
        description: ModelDescription | None = getattr(model, "description", None)
        if description is None:
            raise UserError("this model does not say what it expects; convert it first")
        description.require_pictures()
        self.description = description
        self.device = torch.device(device)
        prepared = prepare_for_inference(model, self.device, precision)
        self.model, self.precision = prepared.model, prepared.precision

    @property
    def preprocessing(self) -> Preprocessing:
        """What the weights expect."""
        return self.description.preprocessing

    @property
    def person_channels(self) -> int:
        """Channels of the features of a person.

        Raises:
            UserError: the network knows no persons.
        """
        head = self.model.head
        if self.description.task != "detection" or not hasattr(head, "feature_channels"):
            raise UserError(
                f"{self.description.name}: is no action detector that pools features of each "
                "person; a bank needs one (train one with `avadet train configs/ava/...`)"
            )
        return int(head.feature_channels)

    def persons(self, batch: Batch) -> np.ndarray:
        """Features of every box: after RoI pooling, before the last layers.

        Shape: -> (sum N_i, D) float32.

        Raises:
            UserError: a feature is not finite.
        """
        moved = batch.to(self.device)
        with torch.no_grad(), self.precision.autocast():
            maps = self.model.backbone(normalize(moved.video, self.preprocessing))
            features = self.model.head.features(maps, moved.boxes_px)
        return checked(features.float().cpu(), [str(each) for each in batch.keyframes]).numpy()

    def clips(self, video: Tensor, names: Sequence[str]) -> np.ndarray:
        """Features of whole clips: the backbone's maps, averaged over time and space.

        Args:
            video: (B,3,T,H,W) uint8, RGB.
            names: of the clips, for messages.

        Shape: -> (B,C) float32.

        Raises:
            UserError: a feature is not finite.
        """
        with torch.no_grad(), self.precision.autocast():
            maps = self.model.backbone(normalize(video.to(self.device), self.preprocessing))
            if self.description.task == "classification" and hasattr(self.model.head, "features"):
                features = self.model.head.features(maps)
            else:
                features = torch.cat([each.float().mean((2, 3, 4)) for each in maps], 1)
        return checked(features.float().cpu(), names).numpy()


class PersonFeatures:
    """The features of every box of one movie, in movie order, each frame decoded once.

    Args:
        video: the movie's name.
        boxes: of any movies; this one's are used.
        threshold: least score of a box.

    Attributes:
        video: the movie's name.
        keyframes: those with a box, in order.
        boxes_norm: their boxes, each keyframe's by falling score.
    """

    def __init__(self, video: str, boxes: BoxTable, threshold: float) -> None:
        self.video = video
        self.keyframes: list[Keyframe] = []
        self.boxes_norm: list[np.ndarray] = []
        self._scores: list[np.ndarray] = []
        if video not in boxes.videos:
            return
        people = GivenPeople(boxes, video, threshold)
        keyframes = [Keyframe(video, second) for second in people.seconds]
        for keyframe, (found, scores) in zip(keyframes, people.find(keyframes)):
            if len(found):
                order = np.argsort(-scores, kind="stable")
                self.keyframes.append(keyframe)
                self.boxes_norm.append(found[order])
                self._scores.append(scores[order])

    @property
    def seconds(self) -> list[float]:
        """Of the keyframes."""
        return [keyframe.second for keyframe in self.keyframes]

    def compute(
        self,
        reader: Reader,
        extractor: FeatureExtractor,
        *,
        movie_start: float = 0.0,
        batch_size: int = 8,
        after_batch: Callable[[int], None] = lambda keyframes: None,
    ) -> Iterator[np.ndarray]:
        """Features, (n,D) float32 at a time.

        Args:
            reader: the open movie.
            extractor: the network.
            movie_start: second of the source movie at which the file's first frame lies.
            batch_size: keyframes per run of the network.
            after_batch: is told how many keyframes were done; what it raises ends the work.

        Raises:
            UserError: a keyframe lies outside the movie, or the movie cannot be read.
        """
        end = movie_start + reader.duration
        for keyframe in self.keyframes:
            if not movie_start - _OUTSIDE <= keyframe.second <= end + _OUTSIDE:
                raise UserError(
                    f"{keyframe.video}: holds the seconds {movie_start:g} to {end:g}, but there is "
                    f"a box at second {keyframe.second:g}; set the second of the source movie at "
                    "which the file begins (900 for the 15-minute cuts), or mend the file"
                )
        clips = clips_in_order(
            reader, self.keyframes, extractor.preprocessing, movie_start=movie_start
        )
        parts = zip(self.keyframes, clips, self.boxes_norm, self._scores)
        while group := list(islice(parts, batch_size)):
            yield extractor.persons(Batch.collate([make_sample(*each) for each in group]))
            after_batch(len(group))


def clip_features(
    reader: Reader,
    name: str,
    extractor: FeatureExtractor,
    *,
    stride: float | None = None,
    views: int | None = None,
    batch_size: int = 8,
) -> tuple[np.ndarray, np.ndarray]:
    """Features of the clips of a whole movie.

    A classifier sees the central square of the frames, as in a test of one crop, a detector all
    of them.

    Args:
        reader: the open movie.
        name: of it, for messages.
        extractor: the network.
        stride: seconds from one clip to the next; by default the length of a clip. The first
            begins with the movie.
        views: this many clips instead, spread over the movie as those of a test.
        batch_size: clips per run of the network.

    Returns:
        (N,) float64 times of the clips' middles, seconds; (N,C) float32.

    Raises:
        UserError: the movie cannot be read, or a feature is not finite.
    """
    shape = extractor.preprocessing
    if views is None:
        length = shape.num_frames * shape.frame_stride / shape.fps
        step = length if stride is None else stride
        count = max(1, int(np.floor((reader.duration - length) / step + 1e-6)) + 1)
        seconds = [length / 2 + step * place for place in range(count)]
        clips = clips_in_order(reader, [Keyframe(name, each) for each in seconds], shape)
    else:
        times = [
            view_seconds(
                reader.duration, shape.num_frames, shape.frame_stride, view, views, shape.fps
            )
            for view in range(views)
        ]
        seconds = [float(each[[0, -1]].mean()) for each in times]
        clips = (
            reader.read(each, short_side=shape.test_short_side, fps=shape.fps) for each in times
        )
    square = extractor.description.task == "classification"
    transform = ClipTransform(crop=shape.test_short_side if square else None)
    done: list[np.ndarray] = []
    pending = iter(clips)
    while group := list(islice(pending, batch_size)):
        video = torch.stack([_frames(clip, transform) for clip in group])
        done.append(extractor.clips(video, [name]))
    return np.asarray(seconds), np.concatenate(done)


def _frames(clip: Clip, transform: ClipTransform) -> Tensor:
    return transform.frames(clip.frames, transform.corner(*clip.size))
