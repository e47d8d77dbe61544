"""``avadet bench demo``: where the demo's time goes, and what its arrangement gains."""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

HELP = "the stages of the demo, side by side and one after another"

BASELINE = "clip by clip, fp32"


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
    parser.add_argument("--repeat", type=int, default=3, help="timed rounds of each (default 3)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="CPU threads of torch")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the measurements here")


def run(args: argparse.Namespace) -> int:
    """Runs every arrangement in turn, several times, and prints a markdown table."""
    import torch

    from avadet.files import write_json

    if args.threads:
        torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory(prefix="avadet-bench-") as name:
        movie = args.movie or _draw_movie(Path(name), args)
        variants = _variants(args, movie, Path(name))
        times: dict[str, list[float]] = {variant: [] for variant in variants}
        cpu: dict[str, list[float]] = {variant: [] for variant in variants}
        last: dict[str, Any] = {}
        for _ in range(args.repeat):
            for variant, work in variants.items():
                start, busy = time.perf_counter(), time.process_time()
                last[variant] = work()
                times[variant].append(time.perf_counter() - start)
                cpu[variant].append(time.process_time() - busy)
    machine = (
        f"{args.device} on {platform.machine()}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}"
    )
    rows = _rows(times, cpu, last)
    print(_table(args, machine, rows))
    if args.json:
        write_json(args.json, {"machine": machine, "options": _plain(args), "rows": rows})
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


def _variants(
    args: argparse.Namespace, movie: Path, folder: Path
) -> dict[str, Callable[[], dict[str, Any]]]:
    """Arrangements by name, the baseline first; each returns scores and stage times."""
    import torch

    from avadet.engine.precision import default_device
    from avadet.models.description import ModelDescription, create
    from avadet.models.preprocess import Preprocessing
    from avadet.persons import weights as person_weights
    from avadet.persons.faster_rcnn import DetectorDescription
    from avadet.persons.native import NativeDetector
    from avadet.pipeline import ActionScorer, MovieJob, process
    from avadet.video.reader import open_video

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

    finders = {name: people(name) for name in ("fp32", "auto")}
    scorers = {name: actions(name) for name in ("fp32", "auto")}
    end = args.seconds

    def arranged(precision: str, overlap: bool, batch_size: int = 1) -> dict[str, Any]:
        out = folder / "out.mp4"
        job = MovieJob(
            movie, out=out, csv=folder / "out.csv", end=end, rate=args.rate, top_k=3,
            overlap=overlap, batch_size=batch_size,
        )  # fmt: skip
        with open_video(movie) as reader:
            outcome = process(reader, job, finders[precision], scorers[precision])
        scores = np.loadtxt(job.csv, delimiter=",", usecols=7, dtype=np.float32)
        return {"scores": scores, "seconds": dict(outcome.clock.seconds)}

    variants: dict[str, Callable[[], dict[str, Any]]] = {
        BASELINE: lambda: _clip_by_clip(movie, folder, args, finders["fp32"], scorers["fp32"]),
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
    from avadet.video.reader import open_video
    from avadet.video.sampling import clip_seconds

    clock = StageClock()
    shape = actions.preprocessing
    found = []
    with open_video(movie) as reader:
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
        render(
            moments, reader, stretch, folder / "out.mp4", Labels(actions.class_names, top_k=3),
            Timeline(interval=1 / args.rate, max_gap=2 / args.rate), clock=clock, ahead=False,
        )  # fmt: skip
    scores = np.concatenate([each.scores.ravel() for each in found])
    return {"scores": scores, "seconds": dict(clock.seconds)}


def _rows(
    times: dict[str, list[float]], cpu: dict[str, list[float]], last: dict[str, Any]
) -> list[dict[str, Any]]:
    base = statistics.median(times[BASELINE])
    rows = []
    for variant, seconds in times.items():
        median = statistics.median(seconds)
        stages = last[variant]["seconds"]
        busy = sum(stages.values())
        rows.append(
            {
                "arrangement": variant,
                "seconds": median,
                "lowest": min(seconds),
                "highest": max(seconds),
                "cpu_seconds": statistics.median(cpu[variant]),
                "ratio": base / median,
                "shares": {stage: spent / busy for stage, spent in sorted(stages.items())},
                "score_difference": float(
                    np.abs(last[variant]["scores"] - last[BASELINE]["scores"]).max()
                ),
            }
        )
    return rows


def _table(args: argparse.Namespace, machine: str, rows: list[dict[str, Any]]) -> str:
    stages = ("decode", "people", "actions", "draw", "encode")
    lines = [
        f"{args.seconds:g} s of movie, {args.rate:g} keyframes/s, {args.people} people, "
        f"{args.backbone} at {args.short_side}, {args.persons}; {machine}; median of "
        f"{args.repeat}, arrangements in turn; weights are drawn, not trained",
        "",
        "| arrangement | s | spread | ratio | CPU s | "
        + " | ".join(stages)
        + " | score difference |",
        "|---|---|---|---|---|" + "---|" * (len(stages) + 1),
    ]
    for row in rows:
        shares = " | ".join(f"{row['shares'].get(stage, 0):.0%}" for stage in stages)
        lines.append(
            f"| {row['arrangement']} | {row['seconds']:.2f} | {row['lowest']:.2f}-"
            f"{row['highest']:.2f} | {row['ratio']:.2f} | {row['cpu_seconds']:.1f} | {shares} | "
            f"{row['score_difference']:.1e} |"
        )
    return "\n".join(lines)


def _plain(args: argparse.Namespace) -> dict[str, Any]:
    return {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()}
