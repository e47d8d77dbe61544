"""``avadet bench pretraining``: what learning from single clips first gives on Mini-AVA."""

from __future__ import annotations

import argparse
import json
import logging
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from avadet.commands import mini_ava_runs
from avadet.errors import UserError
from avadet.files import write_json, write_text

HELP = "Mini-AVA from scratch, fine-tuned and linearly probed from Mini-Kinetics, equal epochs"
CLIPS = "configs/mini_kinetics/slowfast_tiny.yaml"
BOXES = "configs/mini_ava/slowfast_tiny.yaml"
# What each start adds to the config of Mini-AVA; {weights} are those of Mini-Kinetics.
STARTS: dict[str, list[str]] = {
    "from scratch": ["model.init={source: none}"],
    "linear probe": ["model.init={source: file, path: {weights}}", "model.freeze=backbone"],
    "fine-tuned": ["model.init={source: file, path: {weights}}"],
}

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``avadet bench pretraining``."""
    add = parser.add_argument
    add("--out", default="runs/bench_pretraining", help="folder; runs are resumed")
    add(
        "--weights",
        type=Path,
        metavar="FILE",
        help="of a classifier trained before; else one is trained for each seed",
    )
    add("--clips", type=int, default=160, help="training clips per class of Mini-Kinetics")
    add("--val-clips", type=int, default=25, help="its test clips per class")
    add("--clip-epochs", type=float, default=12, help="epochs on Mini-Kinetics")
    add("--movies", type=int, default=48, help="training movies of Mini-AVA")
    add("--val-movies", type=int, default=24, help="its test movies")
    add("--epochs", type=float, default=4, help="epochs on Mini-AVA, from every start")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2])


def run(args: argparse.Namespace) -> int:
    """Trains what is missing; ``result.json`` and ``table.md`` after each run."""
    from avadet.synthetic import mini_kinetics

    out = Path(args.out)
    if args.weights is None:
        counts = {"movies": args.clips, "val_movies": args.val_clips}
        clips = Path(mini_kinetics.generate(out / "clips", "small", 0, **counts, seconds=2))
    data = mini_ava_runs.make_data(out, "small", args.movies, args.val_movies)
    rows: list[dict[str, Any]] = []
    top1: dict[int, float] = {}
    for seed in args.seeds:
        weights = args.weights
        if weights is None:
            weights, top1[seed] = _pretrain(clips, out / f"clips_{seed}", seed, args.clip_epochs)
        for start, more in STARTS.items():
            overrides = [
                *mini_ava_runs.data_overrides(data),
                f"seed={seed}",
                f"train.epochs={args.epochs}",
                *(text.replace("{weights}", json.dumps(str(weights))) for text in more),
            ]
            folder = out / f"{start.replace(' ', '_')}_{seed}"
            row = mini_ava_runs.train_and_score(BOXES, overrides, folder)
            rows.append({"start": start, "seed": seed, **row})
            write_json(out / "result.json", {"top1": top1, "rows": rows})
            write_text(out / "table.md", make_table(rows, top1))
    print((out / "table.md").read_text(encoding="utf-8"), end="")
    return 0


def _pretrain(clips: Path, folder: Path, seed: int, epochs: float) -> tuple[Path, float]:
    """(weights, top-1) of the classifier of one seed; trained on, or read back once it is done."""
    from avadet.commands.tasks import train
    from avadet.config import dump, load_config

    annotations = clips / "annotations"
    config = load_config(
        CLIPS,
        [
            f"out={folder}",
            f"seed={seed}",
            f"data.movies={clips}",
            f"data.train_clips={annotations / 'train.csv'}",
            f"data.val_clips={annotations / 'val.csv'}",
            f"data.classes={annotations / 'classes.txt'}",
            f"train.epochs={epochs}",
            "train.eval_every=0",
        ],
    )
    settings, done = dump(config), folder / "row.json"
    if done.is_file():
        row = json.loads(done.read_text(encoding="utf-8"))
        if row["settings"] != settings:
            raise UserError(f"{folder}: holds a run by other settings; delete it or choose --out")
        return folder / "model.safetensors", float(row["top1"])
    result = train(config, resume=True)
    if not result.finished:
        raise KeyboardInterrupt
    top1, minutes = result.metrics["top1"], result.progress.minutes
    write_json(done, {"top1": top1, "minutes": minutes, "settings": settings})
    log.info("Mini-Kinetics, seed %d: top-1 %.3f in %.1f min", seed, top1, minutes)
    return folder / "model.safetensors", float(top1)


def make_table(rows: Sequence[Mapping[str, Any]], top1: Mapping[int, float]) -> str:
    """Markdown: frame-mAP in per cent for every start and seed, and the mean."""
    seeds = sorted({row["seed"] for row in rows})
    lines = [
        f"| start | frame-mAP, mean | {' | '.join(f'seed {seed}' for seed in seeds)} |",
        "|---|" + "---:|" * (len(seeds) + 1),
    ]
    for start in STARTS:
        scores = {row["seed"]: 100 * (row["mAP"] or 0.0) for row in rows if row["start"] == start}
        if scores:
            cells = [f"{scores[seed]:.1f}" if seed in scores else "-" for seed in seeds]
            mean = statistics.fmean(scores.values())
            lines.append(f"| {start} | {mean:.1f} | {' | '.join(cells)} |")
    if top1:
        shares = ", ".join(f"{100 * value:.1f}" for _, value in sorted(top1.items()))
        lines += ["", f"Top-1 on Mini-Kinetics, by seed: {shares}."]
    return "\n".join(lines) + "\n"
