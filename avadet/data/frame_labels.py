"""PySlowFast's frame lists of Charades, which carry the labels of every frame."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from avadet.errors import UserError
from avadet.evaluation.charades_io import CharadesVideo

_HEADER = "original_vido_id video_id frame_id path labels"


def is_frame_list(path: str | os.PathLike[str]) -> bool:
    """Whether a file opens with the header of a frame list.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with open(path, encoding="utf-8-sig") as stream:
            return stream.readline().split()[:1] == _HEADER.split()[:1]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as annotations of Charades: {error}") from error


class _Frames:
    """The labels of one video's frames, as stretches of frames."""

    def __init__(self) -> None:
        self.count = 0
        self.stretches: list[list[int]] = []
        self._open: dict[int, list[int]] = {}

    def add(self, labels: Iterable[int]) -> None:
        now = {}
        for label in labels:
            stretch = self._open.get(label)
            if stretch is None:
                stretch = [label, self.count, self.count]
                self.stretches.append(stretch)
            stretch[2] = self.count
            now[label] = stretch
        self._open = now
        self.count += 1


def read_frame_labels(
    path: str | os.PathLike[str], num_classes: int, fps: float
) -> list[CharadesVideo]:
    """The videos of a list ``original_vido_id video_id frame_id path labels``.

    ``labels`` are class indices such as ``"12,130"``, or ``""``. Frame ``k`` of a video is shown
    at ``k / fps`` seconds; an action lasts from the first to the last of the successive frames
    that have its label.

    Raises:
        UserError: unreadable, empty, or a wrong row; with file and line.
    """
    path = Path(path)
    videos: dict[str, _Frames] = {}
    try:
        with path.open(encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, 1):
                fields = line.split()
                if number == 1 or not fields:
                    continue
                if len(fields) != 5:
                    raise UserError(
                        f"{path}:{number}: {len(fields)} fields instead of the 5 of {_HEADER!r}"
                    )
                text = fields[4].replace('"', "")
                try:
                    labels = {int(each) for each in text.split(",")} if text else set()
                except ValueError:
                    raise UserError(
                        f"{path}:{number}: labels {fields[4]} are not class indices such as "
                        '"12,130"'
                    ) from None
                if labels and not 0 <= min(labels) <= max(labels) < num_classes:
                    raise UserError(
                        f"{path}:{number}: labels {fields[4]}: classes are 0 to {num_classes - 1}"
                    )
                videos.setdefault(fields[0], _Frames()).add(sorted(labels))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a frame list: {error}") from error
    if not videos:
        raise UserError(f"{path}: lists no frames")
    return [
        CharadesVideo(
            name,
            frames.count / fps,
            tuple((label, first / fps, last / fps) for label, first, last in frames.stretches),
        )
        for name, frames in videos.items()
    ]
