"""Reading extracted frames as if they were the movie, for exact parity with published numbers."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image

from avadet.errors import UserError
from avadet.structures import Clip
from avadet.video.sampling import GRID_FPS, clamp_to_window, grid_indices
from avadet.video.scaling import output_size

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


class FrameFolderReader:
    """The interface of ``VideoReader`` over image files, one per grid point.

    The frame of grid point ``k`` is the ``k``-th file; before the first and after the last the
    edge repeats. Scaling is bilinear without antialiasing on rounded uint8 values, as OpenCV's,
    with which the public weights were trained.

    Args:
        frames: a folder (its images in the order of the number that ends their names), or the
            files themselves in order.
        fps: frames per second of the extraction.

    Raises:
        UserError: the folder is missing or holds no image; (on use) an image cannot be read.
    """

    def __init__(self, frames: str | os.PathLike[str] | Sequence[Any], fps: float = 30.0) -> None:
        if isinstance(frames, str | os.PathLike):
            self.path = Path(frames)
            self.files: Sequence[Any] = list_frames(self.path)
        else:
            # Kept as it is: the 27,030 names of an AVA movie may be held as a rule.
            self.files = frames
            if not len(self.files):
                raise UserError("the list of frames is empty")
            self.path = Path(self.files[0]).parent
        self.fps = float(fps)
        self.num_warnings = 0
        self._size: tuple[int, int] | None = None

    def __enter__(self) -> FrameFolderReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is held open."""

    @property
    def height(self) -> int:
        """Pixels of the first frame."""
        return self._first_size()[0]

    @property
    def width(self) -> int:
        """Pixels of the first frame."""
        return self._first_size()[1]

    @property
    def duration(self) -> float:
        """Seconds that the frames cover."""
        return len(self.files) / self.fps

    def read(
        self,
        seconds: ArrayLike,
        *,
        short_side: int | None = None,
        size: tuple[int, int] | None = None,
        window: tuple[float, float] | None = None,
        fps: float = GRID_FPS,
    ) -> Clip:
        """The frames at ``seconds``; arguments, shapes and errors as ``VideoReader.read``."""
        times = np.atleast_1d(np.asarray(seconds, dtype=np.float64))
        if times.ndim != 1 or not times.size or not np.isfinite(times).all():
            raise ValueError(f"times must be a non-empty list of finite seconds: {seconds!r}")
        places = self._places(times, window, fps)
        pictures = {place: self._load(place, short_side, size) for place in np.unique(places)}
        return Clip(
            frames=np.stack([pictures[place] for place in places]), seconds=places / self.fps
        )

    def stream(
        self,
        seconds_sorted: Iterable[float],
        *,
        short_side: int | None = None,
        size: tuple[int, int] | None = None,
        fps: float = GRID_FPS,
    ) -> Iterator[tuple[float, np.ndarray]]:
        """As ``VideoReader.stream``."""
        shown, picture = -1, np.empty(0)
        for second in seconds_sorted:
            place = int(self._places(np.asarray([second], dtype=np.float64), None, fps)[0])
            if place != shown:
                shown, picture = place, self._load(place, short_side, size)
            yield float(second), picture

    def _places(
        self, times: np.ndarray, window: tuple[float, float] | None, fps: float
    ) -> np.ndarray:
        # Frames extracted at another rate than the grid's: the nearest to each grid point.
        grid = clamp_to_window(grid_indices(times, fps), window, fps)
        return np.clip(grid_indices(grid / fps, self.fps), 0, len(self.files) - 1)

    def _first_size(self) -> tuple[int, int]:
        if self._size is None:
            height, width = self._load(0, None, None).shape[:2]
            self._size = height, width
        return self._size

    def _load(self, place: int, short_side: int | None, size: tuple[int, int] | None) -> np.ndarray:
        path = Path(self.files[place])
        try:
            with Image.open(path) as image:
                picture = np.asarray(image.convert("RGB"))
        except FileNotFoundError as error:
            raise UserError(f"{path}: this frame is missing") from error
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read as an image: {error}") from error
        return resize_bilinear(
            picture, output_size(picture.shape[0], picture.shape[1], short_side, size)
        )


def list_frames(folder: Path) -> list[Path]:
    """The images of a folder, by the number that ends their names.

    Raises:
        UserError: no such folder, or no image in it.
    """
    try:
        names = [name for name in os.listdir(folder) if name.lower().endswith(IMAGE_SUFFIXES)]
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be read as a folder of frames: {error.strerror}"
        ) from error
    if not names:
        raise UserError(f"{folder}: holds no frames ({', '.join(IMAGE_SUFFIXES)})")

    def number(name: str) -> tuple[int, str]:
        digits = re.search(r"(\d+)$", Path(name).stem)
        return (int(digits[1]) if digits else -1), name

    return [folder / name for name in sorted(names, key=number)]


def resize_bilinear(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear without antialiasing, half-pixel centres, rounded: OpenCV's up to its rounding.

    Shape: (H,W,3) uint8 -> (*size,3) uint8.
    """
    if picture.shape[:2] == size:
        return picture
    planes = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float()
    scaled = torch.nn.functional.interpolate(planes, size, mode="bilinear", align_corners=False)
    return scaled[0].round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()
