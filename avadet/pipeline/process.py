"""One movie from end to end: analysis in front, drawing and writing behind it."""

from __future__ import annotations

import errno
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from avadet import __version__
from avadet.data.ava_csv import write_detections_csv, write_proposals_csv
from avadet.errors import UserError
from avadet.pipeline.actions import ActionScorer
from avadet.pipeline.analyse import analyse, keyframe_seconds
from avadet.pipeline.background import Behind
from avadet.pipeline.clock import StageClock
from avadet.pipeline.cuts import ShotCuts
from avadet.pipeline.passes import MOMENTS_TO_DRAW, passes, waiting_bytes
from avadet.pipeline.people import GivenPeople, PeopleFinder
from avadet.pipeline.render import Labels, Moment, Stretch, render
from avadet.pipeline.results import write_results
from avadet.pipeline.ring import Reader
from avadet.structures import Detections
from avadet.tracking import Timeline, Tracker
from avadet.visualize import Painter

# Detections that may wait to be written; a minute of movie at one keyframe a second.
_MOMENTS_WAITING = 64


@dataclass(frozen=True)
class MovieJob:
    """What to do with a movie; the options of ``avadet demo``.

    Attributes:
        movie: file, or folder of frames; its stem is the video's name in the results.
        out, csv, json: files to write, or None.
        start, end: seconds of the source; ``end`` None is the end of the movie.
        movie_start: second of the source at which the file begins.
        rate: keyframes per second.
        action_threshold, top_k: which labels are drawn, see ``Labels``.
        min_height, scale: see ``Stretch.of``.
        font, font_size, max_labels: see ``Painter``.
        sound: keep the movie's sound.
        batch_size: see ``analyse``.
        overlap: run the stages side by side.
    """

    movie: Path
    out: Path | None = None
    csv: Path | None = None
    json: Path | None = None
    start: float = 0.0
    end: float | None = None
    movie_start: float = 0.0
    rate: float = 1.0
    action_threshold: float = 0.5
    top_k: int | None = None
    min_height: int = 360
    scale: float | None = None
    font: Path | None = None
    font_size: int | None = None
    max_labels: int = 6
    sound: bool = True
    batch_size: int = 1
    overlap: bool = True

    def check(self, reader: Reader) -> None:
        """Opens the movie and looks whether the stretch asked for is in it.

        Raises:
            UserError: unreadable, or it ends before ``start``.
        """
        first, last = self.movie_start, self.movie_start + reader.duration
        if self.start >= last and self.start > first:
            raise UserError(
                f"{self.movie}: start {self.start:g} s lies after its end ({last:.1f} s)"
            )
        if self.end is not None and self.end <= first:
            raise UserError(
                f"{self.movie}: end {self.end:g} s lies before its first frame ({first:.1f} s)"
            )


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        keyframes, people, tracks: how many; ``people`` counts boxes.
        frames: drawn.
        last_second: of the last keyframe.
        interrupted: the user stopped it.
        elapsed: seconds.
        clock: time per stage.
    """

    keyframes: int = 0
    people: int = 0
    tracks: int = 0
    frames: int = 0
    last_second: float = 0.0
    interrupted: bool = False
    elapsed: float = 0.0
    clock: StageClock = field(default_factory=StageClock)


def process(
    reader: Reader, job: MovieJob, people: PeopleFinder, actions: ActionScorer | None
) -> Outcome:
    """Analyses a movie and writes what the job asks for.

    An interrupt (Ctrl-C) ends the analysis; the files are completed with what is known by then.

    Raises:
        UserError: the movie, a file to write, the disk or the scores are at fault; no half
            written file is left.
    """
    outcome = Outcome()
    stretch = Stretch.of(
        reader,
        job.start,
        job.end,
        movie_start=job.movie_start,
        scale=job.scale,
        min_height=job.min_height,
    )
    interval, gap = 1 / job.rate, max(2 / job.rate, 0.5)
    tracker = Tracker(aspect=reader.width / reader.height, max_gap=gap)
    started = time.perf_counter()
    waiting = waiting_bytes(
        reader,
        stretch.fps,
        actions and actions.preprocessing,
        interval=interval,
        gap=gap,
        batch_size=job.batch_size,
    )
    try:
        with ExitStack() as stack:
            analysed, drawn = stack.enter_context(passes(reader, outcome.clock, waiting))
            cuts = ShotCuts()
            found = _analysis(analysed, job, people, actions, stretch, cuts, outcome.clock)
            sinks = _sinks(stack, drawn, job, actions, stretch, (interval, gap), outcome)
            moments = stack.enter_context(closing(_moments(found, cuts, tracker, outcome)))
            try:
                for moment in moments:
                    for sink in sinks:
                        sink.put(moment)
                for sink in sinks:
                    sink.finish()
            except KeyboardInterrupt:
                # Once: complete the files with what there is. Twice: leave none.
                outcome.interrupted = True
                for sink in sinks:
                    sink.finish()
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise UserError(
                f"{job.out or job.json or job.csv}: the disk is full; free some space and run again"
            ) from error
        raise
    outcome.elapsed = time.perf_counter() - started
    return outcome


def _analysis(
    reader: Reader,
    job: MovieJob,
    people: PeopleFinder,
    actions: ActionScorer | None,
    stretch: Stretch,
    cuts: ShotCuts,
    clock: StageClock,
) -> Iterator[Detections]:
    return analyse(
        reader,
        job.movie.stem,
        _keyframes(people, job, stretch),
        people,
        actions,
        movie_start=job.movie_start,
        batch_size=job.batch_size,
        cuts=cuts,
        clock=clock,
        ahead=job.overlap,
    )


def _moments(
    found: Iterator[Detections], cuts: ShotCuts, tracker: Tracker, outcome: Outcome
) -> Generator[Moment, None, None]:
    """Detections with track ids; counts as it goes."""
    last = -float("inf")
    newest_track = 0
    for detections in found:
        second = detections.keyframe.second
        between = tuple(cuts.between(last, second))
        tracked = tracker.update(detections, cut=bool(between))
        outcome.keyframes += 1
        outcome.people += len(tracked)
        newest_track = max([newest_track, *tracked.track_ids.tolist()])
        outcome.tracks, outcome.last_second = newest_track, second
        last = second
        yield Moment(tracked, between)


def _keyframes(people: PeopleFinder, job: MovieJob, stretch: Stretch) -> list[float]:
    """Where the boxes are, where they are given; else at the job's rate."""
    start, end = (job.movie_start + second for second in (stretch.start, stretch.end))
    if isinstance(people, GivenPeople):
        return [second for second in people.seconds if start <= second < end]
    return keyframe_seconds(start, end, job.rate)


def _sinks(
    stack: ExitStack,
    reader: Reader,
    job: MovieJob,
    actions: ActionScorer | None,
    stretch: Stretch,
    pace: tuple[float, float],
    outcome: Outcome,
) -> list[Any]:
    """Threads that write the movie, the CSV and the JSON as detections arrive."""
    names = actions.class_names if actions is not None else ()
    sinks: list[Any] = []

    def sink(work: Any, name: str, waiting: int = _MOMENTS_WAITING) -> None:
        sinks.append(stack.enter_context(Behind(work, waiting, name)))

    if job.json is not None:
        head = _head(reader, job, actions, stretch)
        sink(lambda moments: write_results(job.json, head, moments), "json")
    if job.csv is not None:
        sink(lambda moments: _write_csv(job.csv, actions, moments), "csv")
    total = len(stretch.seconds)
    bar = stack.enter_context(tqdm(total=total, unit="frame", desc=job.movie.name, disable=None))
    if job.out is not None:
        painter = Painter(
            stretch.height,
            stretch.width,
            font=job.font,
            font_size=job.font_size,
            max_labels=job.max_labels,
        )

        frames = stretch.frames(reader)

        def draw(moments: Iterator[Moment]) -> None:
            outcome.frames = render(
                moments,
                frames,
                stretch,
                job.out,
                Labels(names, job.action_threshold, job.top_k),
                Timeline(interval=pace[0], max_gap=pace[1]),
                painter=painter,
                audio_from=job.movie if job.sound and job.movie.is_file() else None,
                stop=lambda: outcome.interrupted,
                on_frame=bar.update,
                clock=outcome.clock,
                ahead=job.overlap,
            )

        sink(draw, "drawing", MOMENTS_TO_DRAW)
    else:

        def count(moments: Iterator[Moment]) -> None:
            for moment in moments:
                second = moment.detections.keyframe.second - job.movie_start
                bar.update(min(round((second - stretch.start) * stretch.fps), total) - bar.n)

        sink(count, "progress")
    return sinks


def _write_csv(path: Path, actions: ActionScorer | None, moments: Iterator[Moment]) -> int:
    """AVA's format: scored actions, or proposals where only people were looked for."""
    found = (moment.detections for moment in moments)
    if actions is None:
        return write_proposals_csv(path, found)
    return write_detections_csv(path, found, actions.class_ids)


def _head(
    reader: Reader, job: MovieJob, actions: ActionScorer | None, stretch: Stretch
) -> dict[str, Any]:
    """What the JSON says before the keyframes."""
    description = None if actions is None else actions.description
    names = () if actions is None else actions.class_names
    ids = () if actions is None else actions.class_ids
    return {
        "avadet": __version__,
        "movie": job.movie.name,
        "video": job.movie.stem,
        "width": reader.width,
        "height": reader.height,
        "fps": round(reader.fps, 6),
        "start": round(stretch.start + job.movie_start, 6),
        "end": round(stretch.end + job.movie_start, 6),
        "keyframes_per_second": job.rate,
        "model": None if description is None else description.name,
        "activation": None if description is None else description.activation,
        "classes": [{"id": k, "name": name} for k, name in zip(ids, names)],
    }
