"""``avadet bench startup``: how long a training on the full lists of AVA takes to begin."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from avadet.commands import bench_table

HELP = "from `avadet train` to the first batch being asked for, on lists of AVA's full size"

# AVA 2.2: 235 training and 64 validation movies of 897 key frames, 1.6 million label rows.
TRAIN_MOVIES, VAL_MOVIES, KEYFRAMES, FIRST_SECOND = 235, 64, 897, 902
_CHILD = """
import time
started = time.time()
import json, resource, sys
from avadet.commands import tasks
from avadet.config import load_config
from avadet import build
imported = time.time()
config = load_config(sys.argv[1], sys.argv[2:])
build.validate(config)
parts = tasks.assemble(config)
tasks.build_optimizer(config, parts.task.model)
first = next(iter(parts.loader.batches))
# So far: taking the interpreter down needs more.
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
peak *= 1 if sys.platform == "darwin" else 1024
print(json.dumps({"keyframes": len(parts.loader.dataset), "batch": len(first),
                  "imports s": round(imported - started, 2),
                  "lists and model s": round(time.time() - imported, 2),
                  "peak MB": round(peak / 1e6)}))
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the bench."""
    parser.add_argument("--config", default="configs/ava/slowfast_r50_8x8.yaml")
    parser.add_argument("--movies", type=int, default=TRAIN_MOVIES, help="in the training list")
    parser.add_argument(
        "--rows", type=int, default=1_602_617, help="label rows of the full training list"
    )
    bench_table.add_arguments(parser, repeat=3)


def run(args: argparse.Namespace) -> int:
    """Writes lists of a quarter, a half and all of the movies; starts on each in a new process."""
    with tempfile.TemporaryDirectory(prefix="avadet-bench-") as name:
        parts = sorted({max(1, args.movies // share) for share in (4, 2, 1)})
        cases = {}
        for movies in parts:
            rows = args.rows * movies // args.movies
            folder = Path(name) / str(movies)
            write_lists(folder, movies, max(1, VAL_MOVIES * movies // args.movies), rows)
            title = f"{movies} movies, {rows:,} rows"
            cases[title] = lambda folder=folder: _start(args.config, folder)
        timings = bench_table.interleave(cases, rounds=args.repeat, warmup=0)
    for timing in timings:
        timing.facts = json.loads(timing.result.output.splitlines()[-1])
    baseline = next(iter(cases))
    bench_table.report(
        f"Start of {args.config} on generated lists, up to the first batch being asked for",
        bench_table.rows(timings, baseline),
        baseline=baseline,
        args=args,
        case="training list",
        unit="s",
    )
    return 0


def write_lists(folder: Path, movies: int, val_movies: int, rows: int) -> None:
    """Annotations and proposals in AVA's formats, and empty files in place of the movies.

    Args:
        rows: labels in the training list; the validation list has as many for each movie.
    """
    import numpy as np

    (folder / "movies").mkdir(parents=True)
    for split, count, first in (("train", movies, 0), ("val", val_movies, movies)):
        wanted = rows * count // movies
        names = [f"movie{first + number:05d}" for number in range(count)]
        for name in names:
            (folder / "movies" / f"{name}.mp4").touch()
        rng = np.random.default_rng(first)
        # A person has about 2.5 labels, whose rows lie together, as in AVA.
        labels = rng.integers(1, 5, wanted)
        labels = labels[np.cumsum(labels) <= wanted]
        moment = np.sort(rng.integers(0, count * KEYFRAMES, len(labels)))
        x, y = rng.uniform(0, 0.5, (2, len(labels)))
        w, h = rng.uniform(0.1, 0.5, (2, len(labels)))
        corners = np.stack([x, y, x + w, y + h], axis=1).round(3).astype(str).tolist()
        truth, found = [], []
        for number, times, box in zip(moment.tolist(), labels.tolist(), corners):
            second = FIRST_SECOND + number % KEYFRAMES
            start = f"{names[number // KEYFRAMES]},{second:04d},{','.join(box)}"
            truth += [f"{start},{1 + (number + 7 * label) % 80},0\n" for label in range(times)]
            found.append(f"{start},,0.95\n")
        (folder / f"{split}.csv").write_text("".join(truth), encoding="utf-8")
        (folder / f"{split}_boxes.csv").write_text("".join(found), encoding="utf-8")


def _start(config: str, folder: Path) -> bench_table.Child:
    overrides = [
        f"data.movies={folder / 'movies'}",
        f"data.train_groundtruth={folder / 'train.csv'}",
        f"data.train_proposals={folder / 'train_boxes.csv'}",
        f"data.val_groundtruth={folder / 'val.csv'}",
        f"data.val_proposals={folder / 'val_boxes.csv'}",
        "data.train_excluded=null",
        "data.val_excluded=null",
        "data.label_map=",
        "eval.label_map=",
        "model.init={source: none}",
        f"out={folder / 'run'}",
    ]
    return bench_table.run_child([sys.executable, "-c", _CHILD, config, *overrides])
