"""Boxes of many keyframes as a few arrays: cheap to share with data-loader workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from avadet.structures import Keyframe

# Seconds are keyed to the microsecond, as the official evaluator does.
_TICKS = 1_000_000


def second_key(second: float) -> int:
    """Whole microseconds."""
    return round(second * _TICKS)


@dataclass(frozen=True)
class BoxTable:
    """Boxes sorted by movie and second, each with any number of labels.

    N boxes, L labels, F keyframes. Names of movies are sorted.

    Attributes:
        videos: names of the movies.
        video: (N,) int32 places in ``videos``.
        second: (N,) float64.
        boxes_norm: (N,4) float32 xyxy in [0,1].
        scores: (N,) float32; 1 for ground truth.
        first_label: (N+1,) int32: box ``i`` has ``labels[first_label[i]:first_label[i + 1]]``.
        labels: (L,) int16 class indices 0..K-1.
        labelled: whether the file it came from says anything about actions (an empty label of a
            labelled file means: a person who does none of them).
    """

    videos: tuple[str, ...]
    video: np.ndarray
    second: np.ndarray
    boxes_norm: np.ndarray
    scores: np.ndarray
    first_label: np.ndarray
    labels: np.ndarray
    labelled: bool = True
    _first_box: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        changes = (np.diff(self.video) != 0) | (np.diff(self.second) > 0.5 / _TICKS)
        starts = np.flatnonzero(np.concatenate([[True], changes])) if len(self) else np.zeros(0)
        first = np.concatenate([starts, [len(self)]]).astype(np.int64)
        object.__setattr__(self, "_first_box", first)
        object.__setattr__(self, "first_label", np.asarray(self.first_label, np.int32))

    def __len__(self) -> int:
        return len(self.video)

    @property
    def num_keyframes(self) -> int:
        """Keyframes that have a box."""
        return len(self._first_box) - 1

    def keyframe(self, place: int) -> Keyframe:
        """The keyframe at ``place`` in the order of ``keyframes``."""
        start = self._first_box[:-1][place]
        return Keyframe(self.videos[self.video[start]], float(self.second[start]))

    def keyframes(self) -> Iterator[Keyframe]:
        """Keyframes in order."""
        return map(self.keyframe, range(self.num_keyframes))

    def keyframe_videos(self) -> list[str]:
        """The movie of every keyframe."""
        return [self.videos[n] for n in self.video[self._first_box[:-1]].tolist()]

    def keyframe_seconds(self) -> list[float]:
        """The second of every keyframe."""
        return self.second[self._first_box[:-1]].tolist()

    def rows(self, place: int) -> slice:
        """Rows of the boxes of the keyframe at ``place`` in the order of ``keyframes``."""
        return slice(int(self._first_box[place]), int(self._first_box[place + 1]))

    def keyframe_sizes(self) -> np.ndarray:
        """(F,) int64 boxes of each keyframe."""
        return np.diff(self._first_box)

    @cached_property
    def _places(self) -> dict[tuple[str, int], int]:
        return {
            (keyframe.video, second_key(keyframe.second)): place
            for place, keyframe in enumerate(self.keyframes())
        }

    def find(self, keyframe: Keyframe) -> slice:
        """Rows of the boxes of ``keyframe``; an empty slice where it has none."""
        place = self._places.get((keyframe.video, second_key(keyframe.second)))
        return slice(0, 0) if place is None else self.rows(place)

    def pairs_with(self, other: BoxTable) -> tuple[np.ndarray, np.ndarray]:
        """Every (box here, box in ``other``) of one keyframe, in order; each (P,) int64."""
        keys, others = self._keyframe_keys(other), other._keyframe_keys(other)
        order = np.argsort(others, kind="stable")
        place = np.searchsorted(others[order], keys)
        place = order[np.minimum(place, len(order) - 1)] if len(order) else place
        found = others[place] == keys if len(order) else np.zeros(len(keys), dtype=bool)
        sizes = np.where(found, other.keyframe_sizes()[place] if len(order) else 0, 0)
        starts = other._first_box[place] if len(order) else np.zeros(len(keys), np.int64)
        box_sizes = self.keyframe_sizes()
        counts = np.repeat(sizes, box_sizes)
        left = np.repeat(np.arange(len(self)), counts)
        return left, ranges(np.repeat(starts, box_sizes), counts)

    def _keyframe_keys(self, names: BoxTable) -> np.ndarray:
        """(F,) int64, equal where movie and second are; movies are numbered as in ``names``."""
        number = {name: place for place, name in enumerate(names.videos)}
        unknown = len(number)
        of_video = np.asarray([number.get(name, unknown) for name in self.videos], dtype=np.int64)
        first = self._first_box[:-1]
        ticks = np.round(self.second[first] * _TICKS).astype(np.int64)
        # A day of microseconds has 37 bits; seconds before the movie's start wrap within them.
        return (of_video[self.video[first]] << 40) + ticks

    def multi_hot(self, rows: slice, num_classes: int) -> np.ndarray:
        """Labels of some boxes.

        Shape: (rows,K) float32 of 0 and 1.
        """
        hot = np.zeros((rows.stop - rows.start, num_classes), dtype=np.float32)
        for place, row in enumerate(range(rows.start, rows.stop)):
            hot[place, self.labels[self.first_label[row] : self.first_label[row + 1]]] = 1
        return hot

    def select(self, keep: np.ndarray) -> BoxTable:
        """The boxes where ``keep`` (N,) is true."""
        counts = np.diff(self.first_label)
        return BoxTable(
            videos=self.videos,
            video=self.video[keep],
            second=self.second[keep],
            boxes_norm=self.boxes_norm[keep],
            scores=self.scores[keep],
            first_label=np.concatenate([[0], np.cumsum(counts[keep])]),
            labels=self.labels[np.repeat(keep, counts)],
            labelled=self.labelled,
        )

    def in_videos(self, names: Iterable[str]) -> BoxTable:
        """The boxes of the named movies."""
        wanted = set(names)
        chosen = np.asarray([name in wanted for name in self.videos], dtype=bool)
        return self.select(chosen[self.video])

    @classmethod
    def concatenate(cls, tables: Sequence[BoxTable]) -> BoxTable:
        """Several files as one, in the order given inside a keyframe.

        Raises:
            ValueError: no table.
        """
        if len(tables) == 1:
            return tables[0]
        if not tables:
            raise ValueError("no tables to concatenate")
        videos = tuple(sorted(set().union(*(table.videos for table in tables))))
        place = {name: number for number, name in enumerate(videos)}
        video = np.concatenate(
            [np.asarray([place[v] for v in t.videos], dtype=np.int32)[t.video] for t in tables]
        )
        second = np.concatenate([table.second for table in tables])
        order = np.lexsort((second, video))  # stable: files keep their order inside a keyframe
        counts = np.concatenate([np.diff(table.first_label) for table in tables])
        labels = np.concatenate([table.labels for table in tables])
        starts = np.concatenate([[0], np.cumsum(counts)])[:-1][order]
        return cls(
            videos=videos,
            video=video[order],
            second=second[order],
            boxes_norm=np.concatenate([table.boxes_norm for table in tables])[order],
            scores=np.concatenate([table.scores for table in tables])[order],
            first_label=np.concatenate([[0], np.cumsum(counts[order])]),
            labels=labels[ranges(starts, counts[order])],
            labelled=all(table.labelled for table in tables),
        )


def ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Concatenation of ``range(start, start + count)``."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    found: np.ndarray = np.arange(total) + np.repeat(starts - (ends - counts), counts)
    return found
