"""From a movie to detections, in movie order and with bounded memory.

Clips of neighbouring keyframes share most of their frames, so frames are decoded once, in order,
into a ring that holds the current clip's stretch. The scores are bit-equal to those of the data
set read clip by clip, because the frames are (``VideoReader.stream`` gives those of ``read``),
the test transform is the data set's, and each clip goes through the network alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from avadet.pipeline.actions import ActionScorer
from avadet.pipeline.background import Ahead
from avadet.pipeline.clock import StageClock
from avadet.pipeline.cuts import ShotCuts
from avadet.pipeline.people import Found, PeopleFinder
from avadet.pipeline.ring import FRAMES_AHEAD, ClipRing, Reader, make_sample
from avadet.structures import Detections, Keyframe, Sample

KEYFRAMES_AHEAD = 1


def keyframe_seconds(start: float, end: float, rate: float = 1.0) -> list[float]:
    """Multiples of 1 / ``rate`` in [start, end); the middle where there is none.

    With AVA's one a second these are whole seconds, as in its annotations.
    """
    first = int(np.ceil(start * rate - 1e-9))
    last = int(np.ceil(end * rate - 1e-9))
    return [k / rate for k in range(first, last)] or [(start + max(end, start)) / 2]


def analyse(
    reader: Reader,
    video: str,
    seconds: Sequence[float],
    people: PeopleFinder,
    actions: ActionScorer | None,
    *,
    movie_start: float = 0.0,
    batch_size: int = 1,
    cuts: ShotCuts | None = None,
    clock: StageClock | None = None,
    ahead: bool = True,
) -> Iterator[Detections]:
    """What is found at each keyframe, in order; the reader's streams are taken before it returns.

    Args:
        reader: an open movie, or a pass over it that is shared with others.
        video: its name in the results.
        seconds: increasing times of the keyframes, in the source movie.
        people: finds boxes.
        actions: scores them; None for people only.
        movie_start: second of the source movie at which the file's first frame lies (900 for AVA's
            15-minute cuts).
        batch_size: keyframes per run of the networks. More than 1 is faster where the device is
            large, and equal up to rounding only.
        cuts: is shown all frames that pass; after a keyframe is yielded it knows the cuts up to
            there.
        clock: gathers the time of the networks.
        ahead: decode in threads of their own.
    """
    keyframes = [Keyframe(video, float(second)) for second in seconds]
    if not keyframes:
        return iter(())
    ring = ClipRing(reader, keyframes, actions and actions.preprocessing, cuts, movie_start)
    shown_at = [keyframe.second - movie_start for keyframe in keyframes]
    pictures = reader.stream(shown_at) if people.needs_frames else iter(())
    return _analysed(
        keyframes, ring, pictures, people, actions, batch_size, clock or StageClock(), ahead
    )


def _analysed(
    keyframes: Sequence[Keyframe],
    ring: ClipRing,
    pictures: Iterator[tuple[float, np.ndarray]],
    people: PeopleFinder,
    actions: ActionScorer | None,
    batch_size: int,
    clock: StageClock,
    ahead: bool,
) -> Iterator[Detections]:
    with (
        Ahead(ring.stream, FRAMES_AHEAD * ahead, "clips") as passing,
        Ahead(pictures, KEYFRAMES_AHEAD * ahead, "keyframes") as shown,
    ):
        ring.take_from(passing)
        frames = (frame for _, frame in shown)
        for start in range(0, len(keyframes), batch_size):
            group = keyframes[start : start + batch_size]
            looked_at = list(islice(frames, len(group))) if people.needs_frames else None
            with clock("people"):
                found = people.find(group, looked_at)
            samples = []
            for keyframe, (boxes, scores) in zip(group, found):
                clip = ring.clip(keyframe, wanted=bool(len(boxes)))
                if clip is not None:
                    samples.append(make_sample(keyframe, clip, boxes, scores))
            yield from _scored(group, found, samples, actions, clock)


def _scored(
    group: Sequence[Keyframe],
    found: Sequence[Found],
    samples: list[Sample],
    actions: ActionScorer | None,
    clock: StageClock,
) -> Iterator[Detections]:
    answers: dict[Keyframe, Detections] = {}
    if actions is not None and samples:
        with clock("actions"):
            answers = {each.keyframe: each for each in actions.score(samples)}
    classes = 0 if actions is None else len(actions.class_names)
    for keyframe, (boxes, scores) in zip(group, found):
        none = np.zeros((len(boxes), classes), np.float32)
        yield answers.get(keyframe, Detections(keyframe, boxes, scores, none))
