"""Flow movies of a folder of movies: one after the other, resumable, each whole or not there."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from avadet.data.flow import BOUND, Estimator, flow_pictures
from avadet.errors import UserError
from avadet.files import write_json
from avadet.video.reader import VideoReader
from avadet.video.sampling import grid_indices
from avadet.video.writer import VideoWriter

_log = logging.getLogger(__name__)
_RECORD = "flow.json"
# A clip is read from the key frame before it; lossless frames are large, whatever they refer to.
_GOP = 8


@dataclass(frozen=True)
class FlowSettings:
    """What decides the pictures.

    Attributes:
        method: name of the estimator.
        short_side: pixels of the shorter side; smaller movies keep their size.
        fps: points per second of the grid; ``data.fps`` of those who read the flow.
        weights: SHA-256 of RAFT's file where one was given.
    """

    method: str
    short_side: int = 256
    fps: float = 30.0
    weights: str = ""

    def __post_init__(self) -> None:
        if self.short_side < 16:
            raise UserError(f"short side {self.short_side}: must be at least 16 pixels")
        if not 0 < self.fps <= 240:
            raise UserError(f"fps {self.fps:g}: must be above 0 and at most 240 per second")


@dataclass
class FlowReport:
    """What came of the movies: written now, there already, and unreadable, with the reason."""

    written: int = 0
    kept: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)


def make_flow(
    movies: Mapping[Path, Path], out: Path, settings: FlowSettings, estimate: Estimator
) -> FlowReport:
    """Writes ``out/<name>`` for each movie, under its own name below the folder it came from.

    What is there already is kept, so an interrupted run goes on where it stopped. A movie that
    cannot be read is reported at the end and stops nobody else.

    Raises:
        UserError: the folder holds flow of other settings, is that of the movies, or cannot be
            written.
    """
    for name, path in movies.items():
        if (out / name).exists() and (out / name).samefile(path):
            raise UserError(f"{out}: holds the movies themselves; choose another folder")
    _claim(out, settings)
    report = FlowReport()
    for name, path in tqdm(movies.items(), desc="flow", unit="movie", disable=None):
        target = out / name
        if target.is_file():
            report.kept += 1
            continue
        try:
            frames = _Frames(path, settings)
        except UserError as error:
            report.unreadable[str(name)] = str(error)
            continue
        write_flow(frames, target, estimate)
        report.written += 1
    return report


class _Frames:
    """The frames of a movie on the grid, scaled. Opening it tells whether it can be read."""

    def __init__(self, path: Path, settings: FlowSettings) -> None:
        self.fps = settings.fps
        self._reader = VideoReader(path)
        with self._reader as reader:
            small = min(reader.height, reader.width) <= settings.short_side
            self._short_side = None if small else settings.short_side
            self._times = np.arange(max(int(grid_indices(reader.duration, self.fps)), 1)) / self.fps

    def __len__(self) -> int:
        return len(self._times)

    def __iter__(self) -> Iterator[np.ndarray]:
        with self._reader as reader:
            for _, frame in reader.stream(self._times, short_side=self._short_side, fps=self.fps):
                yield frame


def write_flow(frames: _Frames, target: Path, estimate: Estimator) -> None:
    """Writes the flow movie of a movie.

    Raises:
        UserError: the movie or the target is at fault.
    """
    shown = tqdm(frames, desc=target.name, unit="frame", disable=None, leave=False)
    pictures = flow_pictures(shown, estimate)
    first = next(pictures)
    height, width = first.shape[:2]
    with VideoWriter(
        target, width, height, frames.fps, lossless=True, preset="ultrafast", gop=_GOP, bframes=0
    ) as writer:
        writer.write(first)
        for picture in pictures:
            writer.write(picture)


def _claim(out: Path, settings: FlowSettings) -> None:
    """Notes the settings in the folder, or compares with those that are there."""
    record = out / _RECORD
    wanted = {**asdict(settings), "bound": BOUND}
    if record.is_file():
        try:
            there = json.loads(record.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(
                f"{record}: cannot be read: {error}; remove it with its folder"
            ) from error
        if there != wanted:
            raise UserError(
                f"{out}: holds flow of other settings ({json.dumps(there)}); choose another folder"
            )
        return
    write_json(record, wanted)
