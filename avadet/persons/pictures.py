"""Keyframe pictures with person boxes, for training and measuring a person detector."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.utils.data import Dataset
from tqdm import tqdm

from avadet import boxes as box_math
from avadet.errors import UserError
from avadet.persons.images import resize, resized_size
from avadet.persons.proposals import rows_by_keyframe
from avadet.structures import Keyframe
from avadet.video.reader import open_video

_log = logging.getLogger(__name__)


class PictureSource(Protocol):
    """Numbered pictures with their true boxes."""

    keyframes: Sequence[Keyframe]

    def __len__(self) -> int: ...

    def picture(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """RGB (H,W,3) uint8 and boxes (N,4) float32 px."""
        ...


def read_truth(path: str | os.PathLike[str]) -> dict[Keyframe, np.ndarray]:
    """Distinct person boxes of an AVA CSV, (N,4) float32 normalised, by keyframe in file order.

    Columns: video, second, x1, y1, x2, y2, then anything. Rows with a keyframe alone (no box)
    give an empty one: a frame known to show nobody.

    Raises:
        UserError: the file is missing, or a row has fewer columns or another type.
    """
    try:
        table = pd.read_csv(
            path,
            header=None,
            names=["video", "second", "x1", "y1", "x2", "y2"],
            usecols=range(6),
            dtype={"video": str},
        )
        table = table.astype(dict.fromkeys(table.columns[1:], float))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such annotation file") from error
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(
            f"{path}: not rows of video,second,x1,y1,x2,y2,...: {str(error).strip()}"
        ) from error
    truth: dict[Keyframe, np.ndarray] = {}
    table = table.drop_duplicates()
    boxes = table[["x1", "y1", "x2", "y2"]].to_numpy(np.float32)
    known = ~np.isnan(boxes).any(axis=1)
    for keyframe, rows in rows_by_keyframe(table):
        truth[keyframe] = boxes[rows[known[rows]]]
    return truth


class MoviePictures:
    """Keyframes of movies.

    Every movie is decoded once, up to its last wanted frame, when pictures are kept in memory;
    otherwise each picture is read when asked for.

    Args:
        truth: (N,4) normalised boxes by keyframe.
        movies: movie file (or frame folder) of each video name.
        movie_start: second of the source movie at which the files begin.
        short_side: pictures are decoded at this short side; None keeps the movie's own.
        in_memory: keep all pictures, as uint8.

    Raises:
        UserError: a video has no movie.
    """

    def __init__(
        self,
        truth: Mapping[Keyframe, np.ndarray],
        movies: Mapping[str, str | os.PathLike[str]],
        *,
        movie_start: float = 0.0,
        short_side: int | None = None,
        in_memory: bool = True,
    ) -> None:
        missing = sorted({k.video for k in truth} - set(movies))
        if missing:
            raise UserError(
                f"no movie for {len(missing)} annotated videos, first '{missing[0]}'; put them "
                "into the movies folder or leave their rows out"
            )
        self.truth = dict(truth)
        self.keyframes = sorted(self.truth)
        self.movies = {video: Path(path) for video, path in movies.items()}
        self.movie_start = movie_start
        self.short_side = short_side
        self._frames: dict[Keyframe, np.ndarray] | None = self._decode() if in_memory else None

    def __len__(self) -> int:
        return len(self.keyframes)

    def _decode(self) -> dict[Keyframe, np.ndarray]:
        by_video: dict[str, list[float]] = {}
        for keyframe in self.keyframes:
            by_video.setdefault(keyframe.video, []).append(keyframe.second)
        frames = {}
        for video, seconds in tqdm(by_video.items(), "decoding", unit="movie", disable=None):
            with open_video(self.movies[video]) as reader:
                times = [second - self.movie_start for second in seconds]
                stream = reader.stream(times, short_side=self.short_side)
                for second, (_, frame) in zip(seconds, stream, strict=True):
                    frames[Keyframe(video, second)] = np.array(frame)
        return frames

    def picture(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """RGB (H,W,3) uint8 and boxes (N,4) float32 px."""
        keyframe = self.keyframes[index]
        if self._frames is not None:
            frame = self._frames[keyframe]
        else:
            with open_video(self.movies[keyframe.video]) as reader:
                clip = reader.read([keyframe.second - self.movie_start], short_side=self.short_side)
            frame = clip.frames[0]
        boxes = box_math.norm_to_px(self.truth[keyframe], *frame.shape[:2])
        return frame, boxes.astype(np.float32)


class FilePictures:
    """Picture files, as COCO has them.

    Args:
        truth: (N,4) float32 px by file (see ``coco.read_person_boxes``).
    """

    def __init__(self, truth: Mapping[Path, np.ndarray]) -> None:
        self.files = sorted(truth)
        self.truth = dict(truth)
        self.keyframes = [Keyframe(str(path), 0.0) for path in self.files]

    def __len__(self) -> int:
        return len(self.files)

    def picture(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """RGB (H,W,3) uint8 and boxes (N,4) float32 px.

        Raises:
            UserError: the file is missing or no picture.
        """
        path = self.files[index]
        try:
            with Image.open(path) as image:
                frame = np.asarray(image.convert("RGB"))
        except OSError as error:
            raise UserError(f"{path}: cannot read this picture: {error}") from error
        return frame, self.truth[path]


@dataclass(frozen=True)
class PersonSample:
    """One picture after augmentation: (H,W,3) uint8 RGB and (N,4) float32 px."""

    keyframe: Keyframe
    frame: np.ndarray
    boxes_px: torch.Tensor


@dataclass(frozen=True)
class PersonBatch:
    """Samples side by side; pictures keep their own sizes and stay uint8 until the device."""

    keyframes: Sequence[Keyframe]
    frames: list[np.ndarray]
    boxes_px: list[torch.Tensor]

    @classmethod
    def collate(cls, samples: Sequence[PersonSample]) -> PersonBatch:
        """For a ``DataLoader``."""
        return cls(
            [sample.keyframe for sample in samples],
            [sample.frame for sample in samples],
            [sample.boxes_px for sample in samples],
        )

    def to(self, device: torch.device | str, non_blocking: bool = True) -> PersonBatch:
        """Boxes on ``device``; pictures follow when they are stacked."""
        boxes = [b.to(device, non_blocking=non_blocking) for b in self.boxes_px]
        return PersonBatch(self.keyframes, self.frames, boxes)

    def __len__(self) -> int:
        return len(self.keyframes)


class TrainingPictures(Dataset[PersonSample]):
    """Pictures with random size, mirroring and cropping.

    Args:
        source: where pictures come from.
        short_sides: one is drawn per picture.
        max_side: limit of the longer side.
        flip: probability of mirroring.
        brightness: up to this factor brighter or darker, and likewise in contrast.
        seed: with the epoch and the index it decides every draw.

    ``pictures[index, epoch, ...]`` draws as in that epoch, in any process.
    """

    collate = staticmethod(PersonBatch.collate)

    def __init__(
        self,
        source: PictureSource,
        *,
        short_sides: Sequence[int],
        max_side: int = 1333,
        flip: float = 0.5,
        brightness: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.source = source
        self.short_sides = tuple(short_sides)
        self.max_side = max_side
        self.flip = flip
        self.brightness = brightness
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Other draws from now on."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, draw: int | tuple[int, ...]) -> PersonSample:
        index, epoch, *_ = draw if isinstance(draw, tuple) else (draw, self.epoch)
        frame, boxes = self.source.picture(index)
        rng = np.random.default_rng((self.seed, epoch, index))
        size = resized_size(*frame.shape[:2], int(rng.choice(self.short_sides)), self.max_side)
        scale_y, scale_x = size[0] / frame.shape[0], size[1] / frame.shape[1]
        frame = resize(frame, *size)
        boxes = box_math.scale(boxes, scale_x, scale_y)
        if rng.random() < self.flip:
            frame = frame[:, ::-1]
            boxes = box_math.flip(boxes, size[1])
        if self.brightness:
            gain, shift = rng.uniform(-self.brightness, self.brightness, 2)
            values = (frame.astype(np.float32) - 128.0) * (1 + gain) + 128.0 * (1 + shift)
            frame = np.clip(values, 0, 255).astype(np.uint8)
        solid = ((boxes[:, 2:] - boxes[:, :2]) > 1).all(axis=1)
        return PersonSample(
            self.source.keyframes[index],
            np.ascontiguousarray(frame),
            torch.from_numpy(np.ascontiguousarray(boxes[solid], dtype=np.float32)),
        )
