"""``avadet bench mini-ava``: what each pathway sees, by one recipe on one drawn data set."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avadet.commands import mini_ava_runs
from avadet.files import write_json, write_text

HELP = "Slow-only, Fast-only, SlowFast and CSN for equal epochs on one Mini-AVA, several seeds"

CONFIG = "configs/mini_ava/bench.yaml"
# What is taken of each clip of 32 frames: Slow-only every eighth, as SlowFast's Slow pathway; CSN
# every second, since depthwise 3x3x3 convolutions are slow on CPUs (175 ms a clip for all frames,
# forward and backward, against SlowFast's 36).
MODELS = {"slow_tiny": 8, "fast_tiny": 1, "slowfast_tiny": 8, "ir_csn_tiny": 2}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``avadet bench mini-ava``."""
    parser.add_argument("--out", default="runs/bench_mini_ava", help="folder; runs are resumed")
    parser.add_argument("--preset", default="bench", help="of `avadet prepare mini-ava`")
    parser.add_argument("--movies", type=int, help="training movies instead of the preset's")
    parser.add_argument("--val-movies", type=int, help="test movies instead of the preset's")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument(
        "--set",
        nargs="*",
        default=[],
        metavar="key.sub=value",
        help="overrides of the config, the same for all",
    )


def run(args: argparse.Namespace) -> int:
    """Trains what is missing, scores with true boxes, writes ``result.json`` and ``table.md``."""
    out = Path(args.out)
    rows = {}
    data = mini_ava_runs.make_data(out, args.preset, args.movies, args.val_movies)
    for seed in args.seeds:
        for model in args.models:
            rows[model, seed] = _one(out, data, model, seed, args)
    table = make_table(rows, args.models, args.seeds)
    write_text(out / "table.md", table)
    write_json(out / "result.json", list(rows.values()))
    print(table)
    return 0


def _one(out: Path, data: Path, model: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    overrides = [
        f"model.backbone={{name: {model}, alpha: {MODELS[model]}}}",
        f"seed={seed}",
        *mini_ava_runs.data_overrides(data),
        f"train.epochs={args.epochs}",
        *args.set,
    ]
    row = mini_ava_runs.train_and_score(CONFIG, overrides, out / f"{model}_{seed}")
    return {"model": model, "seed": seed, **row}


def make_table(
    rows: dict[tuple[str, int], dict[str, Any]], models: Sequence[str], seeds: Sequence[int]
) -> str:
    """Mean and spread (highest less lowest) over the seeds, per class, as Markdown."""

    def cell(values: Sequence[float]) -> str:
        mean = 100 * statistics.mean(values)
        return f"{mean:.1f} ± {100 * (max(values) - min(values)) / 2:.1f}"

    first = rows[models[0], seeds[0]]
    lines = [
        "| | " + " | ".join(models) + " | boxes |",
        "|---|" + "---:|" * (len(models) + 1),
    ]
    scores = [cell([rows[m, s]["mAP"] for s in seeds]) for m in models]
    lines.append("| **frame-mAP** | " + " | ".join(f"**{score}**" for score in scores) + " | |")
    for name in first["AP"]:
        cells = [cell([rows[m, s]["AP"][name] or 0.0 for s in seeds]) for m in models]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {first['num_gt'][name]} |")
    costs = [f"{rows[m, seeds[0]]['params'] / 1e6:.2f}" for m in models]
    lines.append("| parameters (M) | " + " | ".join(costs) + " | |")
    costs = [f"{rows[m, seeds[0]]['macs'] / 1e9:.2f}" for m in models]
    lines.append("| GFLOPs a clip | " + " | ".join(costs) + " | |")
    times = [f"{statistics.mean(rows[m, s]['minutes'] for s in seeds):.1f}" for m in models]
    lines.append("| training (min) | " + " | ".join(times) + " | |")
    return "\n".join(lines) + "\n"
