"""The full-scale case of the evaluator: 64 movies x 897 keyframes, 12.7 million rows."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from avadet.commands import bench_table

HELP = "time the AVA evaluator on a generated full-scale validation set"

FIRST_SECOND, KEYFRAMES, MOVIES = 902, 897, 64
NUM_CLASSES = 80
# 158,831 boxes x 80 scores = 12,706,480 rows, as a detector with a threshold near 0.8 leaves them.
BOXES = 158_831


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    positive = bench_table.positive
    parser.add_argument("--movies", type=positive, default=MOVIES, help="movies (default: 64)")
    parser.add_argument("--format", choices=["csv", "parquet", "both"], default="both")
    parser.add_argument("--protocol", default="official", help="protocol (default: official)")
    parser.add_argument("--keep", type=Path, help="folder to leave the generated files in")
    parser.add_argument("--seed", type=int, default=0)
    bench_table.add_arguments(parser, repeat=3)


def run(args: argparse.Namespace) -> int:
    """Generates the files and scores them in fresh processes."""
    with tempfile.TemporaryDirectory(prefix="avadet-bench-") as temporary:
        folder = args.keep or Path(temporary)
        kinds = ["csv", "parquet"] if args.format == "both" else [args.format]
        written = generate(folder, args.movies, args.seed, kinds)
        cases = {kind: partial(measure, folder, kind, args.protocol) for kind in kinds}
        timings = bench_table.interleave(cases, rounds=args.repeat, warmup=0)
        for timing in timings:
            timing.facts = facts(folder, timing.name, timing.result)
    bench_table.report(
        f"{written['detections']:,} detection rows, {written['groundtruth']:,} ground-truth rows, "
        f"{args.protocol} protocol, from the files to the mAP in a new process",
        bench_table.rows(timings, kinds[0]),
        baseline=kinds[0],
        args=args,
        case="detections",
        unit="s",
        more={"written": written},
    )
    return 0


def generate(folder: Path, movies: int, seed: int, kinds: list[str]) -> dict[str, int]:
    """Writes groundtruth.csv and detections.{csv,parquet}.

    Each keyframe has two to five boxes. A detection box is a ground-truth box shifted a little, or
    a stray one; it carries a score for each of the 80 classes, rounded to six decimals.

    Args:
        folder: made if it is missing.
        movies: number of movies of 897 keyframes.
        seed: of the random numbers.
        kinds: formats of the detections.

    Returns:
        rows written, by file.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    rng = np.random.default_rng(seed)
    frames = movies * KEYFRAMES
    boxes = int(BOXES * movies / MOVIES)
    per_frame = np.full(frames, 2)
    per_frame += np.bincount(rng.integers(0, frames, boxes - 2 * frames), minlength=frames)
    frame = np.repeat(np.arange(frames), per_frame)
    size = rng.uniform(0.15, 0.5, (boxes, 2))
    corner = rng.uniform(0, 1, (boxes, 2)) * (1 - size)
    truth = np.concatenate([corner, corner + size], axis=1).round(3)
    # Few common and many rare actions, as in AVA.
    odds = 1.0 / np.arange(1, NUM_CLASSES + 1) ** 1.1
    odds = odds[rng.permutation(NUM_CLASSES)]
    labels = rng.random((boxes, NUM_CLASSES)) < 1.9 * odds / odds.sum()
    labels[np.arange(boxes), rng.choice(NUM_CLASSES, boxes, p=odds / odds.sum())] = True
    jitter = rng.normal(0, 0.03, (boxes, 4)) * np.tile(size, 2)
    found = np.clip(truth + jitter, 0, 1)
    stray = rng.random(boxes) < 0.12
    found[stray] = truth[rng.permutation(boxes)][stray]
    found = found.round(3)
    scores = rng.beta(0.6, 9.0, (boxes, NUM_CLASSES))
    scores += labels * rng.beta(1.5, 2.5, (boxes, NUM_CLASSES)) * 0.9
    scores = np.clip(scores, 0, 1).round(6)

    videos = pa.array([f"bench{index:06d}" for index in range(movies)])
    seconds = pa.array([f"{FIRST_SECOND + index:04d}" for index in range(KEYFRAMES)])

    def table(row: Any, corners: Any, label: Any, extra: dict[str, Any]) -> Any:
        def coded(codes: Any, values: Any) -> Any:
            indices = pa.array(codes.astype(np.int32))
            return pa.DictionaryArray.from_arrays(indices, values)

        columns = {
            "video": coded(row // KEYFRAMES, videos),
            "second": coded(row % KEYFRAMES, seconds),
        }
        for index, name in enumerate(("x1", "y1", "x2", "y2")):
            columns[name] = corners[:, index]
        return pa.table({**columns, "label": label.astype(np.int32), **extra})

    folder.mkdir(parents=True, exist_ok=True)
    plain = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")
    owner, action = np.nonzero(labels)
    gt_table = table(frame[owner], truth[owner], action + 1, {})
    pyarrow.csv.write_csv(gt_table, str(folder / "groundtruth.csv"), plain)
    everyone = np.repeat(np.arange(boxes), NUM_CLASSES)
    actions = np.tile(np.arange(1, NUM_CLASSES + 1), boxes)
    det_table = table(frame[everyone], found[everyone], actions, {"score": scores.reshape(-1)})
    if "csv" in kinds:
        pyarrow.csv.write_csv(det_table, str(folder / "detections.csv"), plain)
    if "parquet" in kinds:
        pyarrow.parquet.write_table(det_table, folder / "detections.parquet")
    return {"detections": det_table.num_rows, "groundtruth": gt_table.num_rows}


def measure(folder: Path, kind: str, protocol: str) -> bench_table.Child:
    """Scores the files in a process of its own."""
    command = [sys.executable, "-m", "avadet.evaluation", "ava", "--protocol", protocol]
    command += ["--groundtruth", str(folder / "groundtruth.csv")]
    command += ["--detections", str(folder / f"detections.{kind}")]
    command += ["--json", str(_result(folder, kind)), "--timings"]
    return bench_table.run_child(command)


def facts(folder: Path, kind: str, child: bench_table.Child) -> dict[str, Any]:
    """The mAP, the process's own times by stage and its most memory."""
    last = next(line for line in child.output.splitlines() if line.startswith("timings "))
    stages = json.loads(last.removeprefix("timings "))
    return {
        "mAP": round(100 * json.loads(_result(folder, kind).read_text())["mAP"], 2),
        **{f"{stage} s": round(seconds, 2) for stage, seconds in stages.items()},
        "peak MB": round(child.peak / 1e6),
    }


def _result(folder: Path, kind: str) -> Path:
    return folder / f"result-{kind}.json"
