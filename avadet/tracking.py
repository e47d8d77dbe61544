"""Following people from keyframe to keyframe, and their boxes in between.

Keyframes lie a second or so apart, far too sparse for a motion model of the kind a frame-by-frame
tracker uses. What helps instead: overlap with the last box, overlap with the box carried on at its
last speed, and failing both a plausible walk (a body height a second) to a box of like size. The
best assignment of all boxes at once is found by the Hungarian method.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from avadet import boxes as box_math
from avadet.structures import Detections


@dataclass(frozen=True)
class TrackedBox:
    """One person at one moment.

    Attributes:
        track_id: the same for one person as long as they are followed.
        box_norm: (4,) xyxy in [0,1].
        opacity: 1 while the person is followed, falling to 0 where a track begins or ends.
        person_score: the detector's, of the nearest keyframe.
        scores: (K,) probabilities of the nearest keyframe.
    """

    track_id: int
    box_norm: np.ndarray
    opacity: float
    person_score: float
    scores: np.ndarray


@dataclass
class _Track:
    track_id: int
    second: float
    box: np.ndarray  # (4,) last seen
    velocity: np.ndarray  # (4,) per second; 0 after one sighting


class Tracker:
    """Gives each detected person an id that stays.

    Args:
        aspect: width / height of the frame, so that distances mean the same both ways.
        iou_threshold: least overlap with a person's last or expected box.
        max_speed: body heights per second that a person may move where boxes do not overlap.
        max_gap: seconds without a sighting after which a person is given up.
    """

    def __init__(
        self,
        *,
        aspect: float = 16 / 9,
        iou_threshold: float = 0.2,
        max_speed: float = 1.0,
        max_gap: float = 2.0,
    ) -> None:
        self.aspect = aspect
        self.iou_threshold = iou_threshold
        self.max_speed = max_speed
        self.max_gap = max_gap
        self._tracks: list[_Track] = []
        self._next_id = 1

    def update(self, detections: Detections, *, cut: bool = False) -> Detections:
        """The detections of the next keyframe with ``track_ids``.

        Args:
            detections: a keyframe later than the one before.
            cut: the shot changed in between: everybody is new.
        """
        second = detections.keyframe.second
        if cut:
            self._tracks = []
        # The epsilon lets a gap of exactly max_gap through whatever the rounding of k / rate.
        self._tracks = [t for t in self._tracks if second - t.second <= self.max_gap + 1e-6]
        ids = np.zeros(len(detections), np.int64)
        found = np.asarray(detections.boxes_norm, np.float64)
        matched: dict[int, _Track] = {}
        if self._tracks and len(found):
            affinity = self._affinity(found, second)  # (tracks, N)
            rows, columns = linear_sum_assignment(affinity, maximize=True)
            matched = {
                int(column): self._tracks[row]
                for row, column in zip(rows, columns)
                if affinity[row, column] > 0
            }
        for index, box in enumerate(found):
            track = matched.get(index)
            if track is None:
                track = _Track(self._next_id, second, box, np.zeros(4))
                self._next_id += 1
                self._tracks.append(track)
            else:
                track.velocity = (box - track.box) / max(second - track.second, 1e-6)
                track.second, track.box = second, box
            ids[index] = track.track_id
        return replace(detections, track_ids=ids)

    def _affinity(self, found: np.ndarray, second: float) -> np.ndarray:
        """(tracks, N): how well each box continues each track; 0 where it cannot."""
        last = np.stack([t.box for t in self._tracks])
        elapsed = np.array([second - t.second for t in self._tracks])
        expected = last + np.stack([t.velocity for t in self._tracks]) * elapsed[:, None]
        overlap = np.maximum(box_math.iou(last, found), box_math.iou(expected, found))
        sides_a = last[:, 2:] - last[:, :2]
        sides_b = found[:, 2:] - found[:, :2]
        unit = np.array([self.aspect, 1.0])  # in frame heights
        centres_a = (expected[:, :2] + expected[:, 2:]) / 2 * unit
        centres_b = (found[:, :2] + found[:, 2:]) / 2 * unit
        distance = np.linalg.norm(centres_a[:, None] - centres_b[None], axis=2)
        heights = np.maximum(sides_a[:, None, 1], sides_b[None, :, 1])
        reach = np.maximum(self.max_speed * elapsed[:, None] * heights, 1e-9)
        closeness = np.clip(1 - distance / reach, 0, None)
        # Boxes are cut at the frame's edge, so the larger side ratio is the one to trust.
        ratio = np.minimum(sides_a[:, None], sides_b[None]) / np.maximum(
            np.maximum(sides_a[:, None], sides_b[None]), 1e-9
        )
        alike = ratio.max(axis=2)
        possible = (overlap >= self.iou_threshold) | ((closeness > 0) & (alike > 0.6))
        # Overlap counts twice: nearness only decides where overlap does not.
        return np.where(possible, 2 * overlap + closeness * alike + 1e-6, 0.0)


@dataclass(frozen=True)
class _Sighting:
    second: float
    box: np.ndarray
    person_score: float
    scores: np.ndarray


class Timeline:
    """Boxes at any moment, from sightings at keyframes.

    Between two sightings of one person a box moves linearly; a person missed by the detector for
    no longer than ``max_gap`` is bridged. Where a track begins or ends the box goes on at its
    last speed for half a keyframe interval and fades, or is cut off hard at a change of shot.
    Memory is bounded when ``forget`` follows the movie.

    Args:
        interval: seconds between keyframes.
        max_gap: longest stretch between two sightings of one person that is bridged, seconds.
    """

    def __init__(self, *, interval: float, max_gap: float) -> None:
        self.interval = interval
        self.max_gap = max(max_gap, interval)
        self._sightings: dict[int, deque[_Sighting]] = {}
        self._cuts: list[float] = []
        self._latest = -np.inf
        self._finished = False

    def add(self, tracked: Detections, *, cuts: Iterable[float] = ()) -> None:
        """Adds a keyframe, later than those before, and changes of shot since the last one.

        Raises:
            ValueError: the detections have no track ids.
        """
        if tracked.track_ids is None:
            raise ValueError(f"{tracked.keyframe}: detections without track ids")
        self._cuts = sorted({*self._cuts, *cuts})
        self._latest = tracked.keyframe.second
        scores = tracked.scores if tracked.scores.shape[1] else np.zeros((len(tracked), 0))
        for index, track_id in enumerate(tracked.track_ids):
            sighting = _Sighting(
                self._latest,
                np.asarray(tracked.boxes_norm[index], np.float64),
                float(tracked.person_scores[index]),
                scores[index],
            )
            self._sightings.setdefault(int(track_id), deque()).append(sighting)

    def finish(self) -> None:
        """No keyframe follows."""
        self._finished = True

    @property
    def settled_until(self) -> float:
        """``at`` is final for moments before this one, in seconds."""
        if self._finished:
            return np.inf
        # A person missing at the latest keyframe may come back within the longest gap.
        return self._latest - (self.max_gap - self.interval)

    def at(self, second: float) -> list[TrackedBox]:
        """People at a moment, by track id."""
        found = (
            self._box(track_id, sightings, second)
            for track_id, sightings in sorted(self._sightings.items())
        )
        return [box for box in found if box is not None]

    def forget(self, second: float) -> None:
        """Drops what no moment from ``second`` on needs."""
        for track_id, sightings in list(self._sightings.items()):
            # Two sightings before the moment are kept: they give the speed at the track's end.
            while len(sightings) > 2 and sightings[2].second <= second:
                sightings.popleft()
            if sightings[-1].second < second - self.max_gap - self.interval:
                del self._sightings[track_id]
        self._cuts = [cut for cut in self._cuts if cut >= second - self.max_gap - self.interval]

    def __len__(self) -> int:
        """Sightings in memory."""
        return sum(len(sightings) for sightings in self._sightings.values())

    def _box(self, track_id: int, sightings: deque[_Sighting], second: float) -> TrackedBox | None:
        seconds = [sighting.second for sighting in sightings]
        after = bisect.bisect_right(seconds, second)
        if 0 < after < len(sightings):
            a, b = sightings[after - 1], sightings[after]
            share = (second - a.second) / (b.second - a.second)
            nearest = a if share < 0.5 else b
            return self._make(track_id, a.box + share * (b.box - a.box), 1.0, nearest)
        if after == 0:
            edge, inner = sightings[0], sightings[1] if len(sightings) > 1 else None
        else:
            edge, inner = sightings[-1], sightings[-2] if len(sightings) > 1 else None
        away = second - edge.second
        if away == 0:
            return self._make(track_id, edge.box, 1.0, edge)
        if any(min(edge.second, second) < cut <= max(edge.second, second) for cut in self._cuts):
            return None
        # To the last frame before a cut, and from the first frame after it, nothing fades.
        reach = self.interval if self._cut_beyond(edge.second, away) else self.interval / 2
        if abs(away) >= reach:
            return None
        box = edge.box
        if inner is not None:
            speed = (edge.box - inner.box) / (edge.second - inner.second)
            box = box + speed * away
        opacity = 1.0 if reach == self.interval else 1 - abs(away) / reach
        return self._make(track_id, box, opacity, edge)

    def _cut_beyond(self, edge: float, away: float) -> bool:
        """Whether the shot ends within an interval of a track's end, on the side of ``away``."""
        return any(
            (edge < cut <= edge + self.interval)
            if away > 0
            else (edge - self.interval < cut <= edge)
            for cut in self._cuts
        )

    @staticmethod
    def _make(
        track_id: int, box: np.ndarray, opacity: float, sighting: _Sighting
    ) -> TrackedBox | None:
        box = np.clip(box, 0, 1)
        if (box[2:] - box[:2]).min() <= 0:  # walked out of the picture
            return None
        return TrackedBox(track_id, box, opacity, sighting.person_score, sighting.scores)


def follow(
    detections: Iterable[Detections], tracker: Tracker, cut_seconds: Iterable[float] = ()
) -> Iterator[Detections]:
    """Detections in movie order with track ids, for those who need no boxes in between."""
    cuts = sorted(cut_seconds)
    last = -np.inf
    for found in detections:
        second = found.keyframe.second
        cut = bisect.bisect_right(cuts, second) > bisect.bisect_right(cuts, last)
        yield tracker.update(found, cut=cut)
        last = second
