"""How sure is an mAP: bootstrap over movies.

Keyframes of one movie resemble each other, so movies, not keyframes, are drawn with replacement
(a cluster bootstrap); two runs are compared on the same draws (paired).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avadet.evaluation.average_precision import rank
from avadet.evaluation.scored import ScoredRows
from avadet.evaluation.tables import Floats, Ints

# Draws are cut down where rows are many, so that a report never takes long.
MOST_DRAWS, FEWEST_DRAWS, WORK = 500, 100, 40_000_000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A value with its percentile interval.

    Attributes:
        value: on all movies.
        low, high: of the central 95 % of the draws.
        draws: number of draws.
        movies: movies drawn from; below about 10 the interval says little.
    """

    value: float
    low: float
    high: float
    draws: int
    movies: int


@dataclass(frozen=True)
class Comparison:
    """Second run minus first run on the same draws.

    Attributes:
        difference: of the mAPs, with its interval.
        share_better: share of draws in which the second run is better.
    """

    difference: Interval
    share_better: float


class _Run:
    """One run, ready to be scored with any weight per movie."""

    def __init__(self, rows: ScoredRows, videos: dict[str, int]) -> None:
        names = rows.frames.videos
        place = np.array([videos[name] for name in names], dtype=np.int64)
        times = max(1, len(rows.frames.times))
        gt_video = place[rows.gt_frame // times] if len(rows.gt_frame) else rows.gt_frame
        det_video = place[rows.det_frame // times] if len(rows.det_frame) else rows.det_frame
        keys = rows.frames.tie_keys(rows.det_frame)
        self.classes: list[tuple[Ints, Floats, Floats]] = []
        for index in np.unique(rows.gt_label):
            counts = np.bincount(gt_video[rows.gt_label == index], minlength=len(videos))
            chosen = np.flatnonzero(rows.det_label == index)
            ranking = rank(rows.det_score[chosen], rows.hit[chosen], keys[chosen])
            ranked = det_video[chosen[ranking.order]]
            self.classes.append((ranked, ranking.hits.astype(np.float64), counts.astype(float)))

    def score(self, weights: Floats) -> float:
        """mAP with each movie counted ``weights`` times; NaN if no ground truth is drawn."""
        values = []
        for videos, hits, counts in self.classes:
            positives = float(counts @ weights)
            if positives:
                values.append(_weighted_average(hits, weights[videos], positives))
        return float(np.mean(values)) if values else float("nan")


def _weighted_average(hits: Floats, weights: Floats, positives: float) -> float:
    drawn = weights > 0
    hits, weights = hits[drawn], weights[drawn]
    gained = hits * weights
    precision = np.cumsum(gained) / np.cumsum(weights)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float((gained * precision).sum() / positives)


def draws_for(rows: ScoredRows) -> int:
    """A number of draws that takes a bearable time."""
    return int(np.clip(WORK // max(1, len(rows.det_rows)), FEWEST_DRAWS, MOST_DRAWS))


def _movies(*runs: ScoredRows) -> tuple[dict[str, int], Ints]:
    """Numbers all videos; those with ground truth are drawn from."""
    names = sorted({name for rows in runs for name in rows.frames.videos})
    videos = {name: index for index, name in enumerate(names)}
    annotated = set()
    for rows in runs:
        times = max(1, len(rows.frames.times))
        annotated |= {rows.frames.videos[int(i)] for i in np.unique(rows.gt_frame // times)}
    return videos, np.array(sorted(videos[name] for name in annotated), dtype=np.int64)


def _draws(videos: dict[str, int], pool: Ints, draws: int, seed: int) -> list[Floats]:
    generator = np.random.default_rng(seed)
    weights = []
    for _ in range(draws):
        drawn = generator.choice(pool, len(pool)) if len(pool) else pool
        weight = np.bincount(drawn, minlength=len(videos)).astype(np.float64)
        weights.append(weight)
    return weights


def _interval(value: float, samples: Floats, movies: int) -> Interval:
    finite = samples[np.isfinite(samples)]
    if not len(finite):
        return Interval(value, float("nan"), float("nan"), len(samples), movies)
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(finite, [tail, 100 - tail])
    return Interval(value, float(low), float(high), len(samples), movies)


def map_interval(rows: ScoredRows, draws: int | None = None, seed: int = 0) -> Interval:
    """The mAP of a run with its 95 % interval over movies.

    Args:
        rows: of an evaluation.
        draws: number of bootstrap draws; by default as many as take a bearable time.
        seed: of the draws.
    """
    draws = draws or draws_for(rows)
    videos, pool = _movies(rows)
    run = _Run(rows, videos)
    samples = np.array([run.score(weight) for weight in _draws(videos, pool, draws, seed)])
    return _interval(run.score(np.ones(len(videos))), samples, len(pool))


def compare(
    first: ScoredRows, second: ScoredRows, draws: int | None = None, seed: int = 0
) -> Comparison:
    """Compares two runs on the same draws of movies.

    Args:
        first, second: evaluations against the same ground truth.
    """
    draws = draws or draws_for(first)
    videos, pool = _movies(first, second)
    runs = [_Run(first, videos), _Run(second, videos)]
    weights = _draws(videos, pool, draws, seed)
    samples = np.array([runs[1].score(w) - runs[0].score(w) for w in weights])
    everything = np.ones(len(videos))
    value = runs[1].score(everything) - runs[0].score(everything)
    finite = samples[np.isfinite(samples)]
    better = float((finite > 0).mean()) if len(finite) else float("nan")
    return Comparison(_interval(value, samples, len(pool)), better)
