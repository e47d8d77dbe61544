"""Small data sets decoded once and kept in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from tqdm import tqdm

from avadet.data.media import Media
from avadet.structures import Clip
from avadet.video.frame_folder import resize_bilinear
from avadet.video.sampling import GRID_FPS, clamp_to_window, grid_indices
from avadet.video.scaling import output_size


class CachedMedia:
    """Movies as frames in shared memory, one per grid point, at one short side.

    Args:
        media: where the movies are.
        videos: the movies to hold.
        short_side: of the frames held; other sizes are made from these.
        fps: points per second of the grid.

    Raises:
        UserError: a movie cannot be read.
    """

    def __init__(
        self, media: Media, videos: Sequence[str], short_side: int, fps: float = GRID_FPS
    ) -> None:
        self._media = media
        self.fps = fps
        self._frames: dict[str, torch.Tensor] = {}
        for video in tqdm(videos, desc="decoding movies", unit="movie", disable=None, leave=False):
            with media.open(video) as reader:
                count = max(int(grid_indices(reader.duration, fps)), 1)
                frames: torch.Tensor | None = None
                times = np.arange(count) / fps
                for place, (_, picture) in enumerate(
                    reader.stream(times, short_side=short_side, fps=fps)
                ):
                    if frames is None:
                        # Shared, so that data-loader workers read the same memory.
                        frames = torch.empty((count, *picture.shape), dtype=torch.uint8)
                        frames.share_memory_()  # type: ignore[no-untyped-call]
                    frames[place] = torch.from_numpy(picture)
                assert frames is not None
                self._frames[video] = frames

    def open(self, video: str) -> CachedReader:
        """A reader over the frames held."""
        return CachedReader(self._frames[video].numpy(), self.fps)

    def missing(self, videos: Iterable[str]) -> list[str]:
        """Movies that are not held."""
        return [video for video in videos if video not in self._frames]

    def where(self) -> str:
        """Where the movies came from."""
        return self._media.where()


class CachedReader:
    """The part of ``VideoReader``'s interface that data sets use, over frames in memory."""

    def __init__(self, frames: np.ndarray, fps: float) -> None:
        self._frames = frames
        self.fps = fps

    def __enter__(self) -> CachedReader:
        return self

    def __exit__(self, *exception: object) -> None:
        """Nothing to close."""

    @property
    def duration(self) -> float:
        """Seconds held."""
        return len(self._frames) / self.fps

    def read(
        self,
        seconds: ArrayLike,
        *,
        short_side: int | None = None,
        size: tuple[int, int] | None = None,
        window: tuple[float, float] | None = None,
        fps: float = GRID_FPS,
    ) -> Clip:
        """As ``VideoReader.read``."""
        grid = clamp_to_window(grid_indices(np.atleast_1d(seconds), fps), window, fps)
        places = np.clip(grid_indices(grid / fps, self.fps), 0, len(self._frames) - 1)
        frames = self._frames[places]
        wanted = output_size(frames.shape[1], frames.shape[2], short_side, size)
        if wanted != frames.shape[1:3]:
            frames = np.stack([resize_bilinear(frame, wanted) for frame in frames])
        return Clip(frames=frames, seconds=places / self.fps)

    def stream(
        self,
        seconds_sorted: Iterable[float],
        *,
        short_side: int | None = None,
        size: tuple[int, int] | None = None,
        fps: float = GRID_FPS,
    ) -> Iterator[tuple[float, np.ndarray]]:
        """As ``VideoReader.stream``."""
        for second in seconds_sorted:
            clip = self.read([second], short_side=short_side, size=size, fps=fps)
            yield float(second), clip.frames[0]
