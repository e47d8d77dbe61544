"""``avadet bench demo``: where the demo's time goes, and what its arrangement gains."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avadet.commands import bench_table

HELP = "the stages of the demo, side by side and one after another"

BASELINE = "one after another, fp32"
_STAGES = ("decode", "people", "actions", "draw", "encode")
_NOTE = (
    f"'{BASELINE}' is the straightforward program: for every keyframe seek to its picture, "
    "detect people, seek to its clip, score their actions; then go through the movie once more, "
    "draw and encode frame by frame. Its networks are avadet's own in plain float32. The stages' "
    "columns are their shares of the busy time; frames: how many were decoded for a frame of the "
    "movie. Weights are drawn, not trained; boxes are given whatever the detector says."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the bench."""
    parser.add_argument("--movie", type=Path, help="instead of a drawn one")
    parser.add_argument("--seconds", type=float, default=8.0, help="of movie (default 8)")
    parser.add_argument("--width", type=int, default=854)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--rate", type=float, default=1.0, help="keyframes per second")
    parser.add_argument("--people", type=int, default=3, help="boxes per keyframe (default 3)")
    parser.add_argument("--backbone", default="slowfast_r50_8x8")
    parser.add_argument("--persons", default="faster_rcnn_r50_fpn", help="person detector, or none")
    parser.add_argument("--short-side", type=int, default=256, help="of the clips")
    parser.add_argument("--batch-size", type=int, default=8, help="of the batched arrangement")
    parser.add_argument("--device", default="auto")
    bench_table.add_arguments(parser, repeat=3)


def run(args: argparse.Namespace) -> int:
    """Runs every arrangement in turn, several times, and prints a markdown table."""
    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory(prefix="avadet-bench-") as name:
        movie = args.movie or _draw_movie(Path(name), args)
        timings = bench_table.interleave(
            _variants(args, movie, Path(name)), rounds=args.repeat, warmup=0
        )
    scores = timings[0].result["scores"]
    for timing in timings:
        stages, busy = timing.result["seconds"], sum(timing.result["seconds"].values())
        timing.facts = {stage: f"{stages.get(stage, 0) / busy:.0%}" for stage in _STAGES}
        timing.facts["frames"] = timing.result["decoded"]
        difference = np.abs(timing.result["scores"] - scores).max()
        timing.facts["score difference"] = float(difference)
    bench_table.report(
        f"{args.seconds:g} s of movie at {args.width}x{args.height}, {args.rate:g} keyframes/s, "
        f"{args.people} people, {args.backbone} at {args.short_side}, {args.persons}",
        bench_table.rows(timings, BASELINE),
        baseline=BASELINE,
        args=args,
        notes=[_NOTE],
        case="arrangement",
        unit="s",
    )
    return 0


def _draw_movie(folder: Path, args: argparse.Namespace) -> Path:
    from avadet.synthetic import mini_ava

    mini_ava.generate(
        folder, "large", 0, movies=1, val_movies=0,
        seconds=max(2, int(args.seconds)), width=args.width, height=args.height,
    )  # fmt: skip
    return folder / "movies" / "train_0000.mp4"


class _Crowd:
    """Runs the detector for its cost and answers with boxes that do not depend on weights."""

    needs_frames = True

    def __init__(self, detector: Any, count: int) -> None:
        self.detector = detector
        left = np.linspace(0.05, 0.75, count)
        # Overlap of people and different sizes, as in life.
        rows = [(x, 0.15 + 0.05 * (k % 3), x + 0.2, 0.9) for k, x in enumerate(left)]
        self.boxes = np.array(rows, np.float32).reshape(-1, 4)

    def find(self, keyframes: Sequence[Any], frames: Sequence[np.ndarray] | None) -> list[Any]:
        """See ``PeopleFinder``."""
        if self.detector is not None:
            self.detector.detect(frames)
        return [(self.boxes, np.ones(len(self.boxes), np.float32)) for _ in keyframes]


class _Plain:
    """A network as it was built, run eagerly; else what ``ActionScorer`` says of it."""

    def __init__(self, model: Any, scorer: Any) -> None:
        self.model, self._scorer = model, scorer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scorer, name)

    def score(self, samples: Sequence[Any]) -> list[Any]:
        """See ``ActionScorer``."""
        from avadet.engine.infer import detect_batch
        from avadet.structures import Batch

        return detect_batch(
            self.model, Batch.collate(samples), preprocessing=self.preprocessing,
            activation=self.description.activation, device=self.device,
        )  # fmt: skip


def _variants(
    args: argparse.Namespace, movie: Path, folder: Path
) -> dict[str, Callable[[], dict[str, Any]]]:
    """Arrangements by name, the baseline first; each returns scores and stage times."""
    import torch

    from avadet.engine.precision import default_device, resolve
    from avadet.models.description import ModelDescription, create
    from avadet.models.preprocess import Preprocessing
    from avadet.persons import weights as person_weights
    from avadet.persons.faster_rcnn import DetectorDescription
    from avadet.persons.native import NativeDetector
    from avadet.pipeline import ActionScorer, MovieJob, process
    from avadet.video.reader import VideoReader

    device = default_device(args.device)
    torch.manual_seed(0)
    description = ModelDescription(
        name=args.backbone, task="detection", backbone=args.backbone, num_classes=80,
        preprocessing=Preprocessing(32, 2, args.short_side), activation="sigmoid",
    )  # fmt: skip

    def people(precision: str) -> _Crowd:
        torch.manual_seed(0)
        if args.persons == "none":
            return _Crowd(None, args.people)
        model = person_weights.create(DetectorDescription(args.persons)).eval()
        return _Crowd(
            NativeDetector(model, score_threshold=0.7, device=str(device), precision=precision),
            args.people,
        )

    def actions(precision: str) -> ActionScorer:
        torch.manual_seed(0)
        return ActionScorer(create(description), device=device, precision=precision)

    finders = {"fp32": people("fp32"), "auto": people(resolve("auto", device).name)}
    scorers = {name: actions(name) for name in ("fp32", "auto")}
    end = args.seconds

    def arranged(precision: str, overlap: bool, batch_size: int = 1) -> dict[str, Any]:
        out = folder / "out.mp4"
        job = MovieJob(
            movie, out=out, csv=folder / "out.csv", end=end, rate=args.rate, top_k=3,
            overlap=overlap, batch_size=batch_size,
        )  # fmt: skip
        with VideoReader(movie) as reader:
            outcome = process(reader, job, finders[precision], scorers[precision])
            decoded = reader.frames_decoded / outcome.frames
        scores = np.loadtxt(job.csv, delimiter=",", usecols=7, dtype=np.float32)
        return {"scores": scores, "seconds": dict(outcome.clock.seconds), "decoded": decoded}

    torch.manual_seed(0)
    plain = _Plain(create(description).to(device).eval(), scorers["fp32"])
    variants: dict[str, Callable[[], dict[str, Any]]] = {
        BASELINE: lambda: _clip_by_clip(movie, folder, args, finders["fp32"], plain),
        "in movie order, fp32": lambda: arranged("fp32", False),
        "side by side, fp32": lambda: arranged("fp32", True),
        "side by side, auto precision": lambda: arranged("auto", True),
    }
    if args.batch_size > 1:
        variants[f"the same, {args.batch_size} keyframes at a time"] = lambda: arranged(
            "auto", True, args.batch_size
        )
    return variants


def _clip_by_clip(
    movie: Path, folder: Path, args: argparse.Namespace, people: Any, actions: Any
) -> dict[str, Any]:
    """The straightforward program: for every keyframe seek, detect, seek, score; then draw."""
    from avadet.pipeline import Labels, Moment, StageClock, Stretch, keyframe_seconds, render
    from avadet.pipeline.ring import make_sample
    from avadet.structures import Keyframe
    from avadet.tracking import Timeline, Tracker
    from avadet.video.reader import VideoReader
    from avadet.video.sampling import clip_seconds

    clock = StageClock()
    shape = actions.preprocessing
    found = []
    with VideoReader(movie) as reader:
        stretch = Stretch.of(reader, 0.0, args.seconds, min_height=360)
        for second in keyframe_seconds(stretch.start, stretch.end, args.rate):
            keyframe = Keyframe(movie.stem, second)
            with clock("decode"):
                picture = reader.read([second]).frames
            with clock("people"):
                boxes, scores = people.find([keyframe], picture)[0]
            with clock("decode"):
                times = clip_seconds(second, shape.num_frames, shape.frame_stride, shape.fps)
                clip = reader.read(times, short_side=shape.test_short_side, fps=shape.fps)
            with clock("actions"):
                sample = make_sample(keyframe, clip, boxes, scores)
                found += actions.score([sample])
        tracker = Tracker(aspect=reader.width / reader.height, max_gap=2 / args.rate)
        moments = iter([Moment(tracker.update(each)) for each in found])
        frames = clock.each("decode", stretch.frames(reader))
        written = render(
            moments, frames, stretch, folder / "out.mp4", Labels(actions.class_names, top_k=3),
            Timeline(interval=1 / args.rate, max_gap=2 / args.rate), clock=clock, ahead=False,
        )  # fmt: skip
        decoded = reader.frames_decoded / written
    scores = np.concatenate([each.scores.ravel() for each in found])
    return {"scores": scores, "seconds": dict(clock.seconds), "decoded": decoded}
