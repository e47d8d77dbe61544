"""``avadet bench mini-ava``: what each pathway sees, by one recipe on one drawn data set."""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avadet.errors import UserError
from avadet.files import write_json, write_text

HELP = "Slow-only, Fast-only, SlowFast and CSN for equal epochs on one Mini-AVA, several seeds"

log = logging.getLogger(__name__)
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
    data = _data(out, args)
    for seed in args.seeds:
        for model in args.models:
            rows[model, seed] = _one(out, data, model, seed, args)
    table = make_table(rows, args.models, args.seeds)
    write_text(out / "table.md", table)
    write_json(out / "result.json", list(rows.values()))
    print(table)
    return 0


def _data(out: Path, args: argparse.Namespace) -> Path:
    from avadet.synthetic import mini_ava

    overrides = {"movies": args.movies, "val_movies": args.val_movies}
    given = {key: value for key, value in overrides.items() if value is not None}
    return Path(mini_ava.generate(out / "data", args.preset, 0, **given))


def _one(out: Path, data: Path, model: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One run; read back when it was done before by the same settings."""
    from avadet import build
    from avadet.commands import eval as scoring
    from avadet.commands.tasks import train
    from avadet.config import dump, load_config
    from avadet.engine.precision import default_device
    from avadet.engine.scoring import score_detections
    from avadet.models.cost import count_flops, count_parameters

    annotations = data / "annotations"
    facts = json.loads((data / "mini_ava.json").read_text(encoding="utf-8"))
    folder = out / f"{model}_{seed}"
    config = load_config(
        CONFIG,
        [
            f"model.backbone={{name: {model}, alpha: {MODELS[model]}}}",
            f"out={folder}",
            f"seed={seed}",
            f"data.movies={data / 'movies'}",
            f"data.label_map={annotations / 'ava_action_list.pbtxt'}",
            f"eval.label_map={annotations / 'ava_action_list.pbtxt'}",
            f"data.train_groundtruth={annotations / 'ava_train.csv'}",
            f"data.train_excluded={annotations / 'ava_train_excluded_timestamps.csv'}",
            f"data.val_groundtruth={annotations / 'ava_val.csv'}",
            f"data.val_excluded={annotations / 'ava_val_excluded_timestamps.csv'}",
            f"data.first_second={facts['first_second']}",
            f"data.last_second={facts['last_second']}",
            f"train.epochs={args.epochs}",
            *args.set,
        ],
    )
    settings = dump(config)
    done = folder / "row.json"
    if done.is_file():
        row = json.loads(done.read_text(encoding="utf-8"))
        if row["settings"] == settings:
            return dict(row)
        raise UserError(f"{folder}: holds a run by other settings; delete it or choose --out")
    log.info("%s, seed %d", model, seed)
    started = time.monotonic()
    result = train(config, resume=True)
    if not result.finished:
        raise KeyboardInterrupt
    minutes = result.progress.minutes
    network = scoring.load_checkpoint(config)
    detections, classes = scoring.detect(config, network, default_device("cpu"), "fp32")
    scored = score_detections(
        folder / "detections.csv",
        detections,
        groundtruth=config.data.val_groundtruth,
        class_ids=classes.ids,
        label_map=config.data.label_map,
        excluded=config.data.val_excluded,
    )
    side = config.data.test_short_side
    fresh = build.build_model(config, classes)
    row = {
        "model": model,
        "seed": seed,
        "mAP": scored.mAP,
        "AP": {each.name: each.AP for each in scored.per_class.values()},
        "num_gt": {each.name: each.num_gt for each in scored.per_class.values()},
        "params": count_parameters(fresh),
        "macs": count_flops(fresh.backbone, (1, 3, config.data.num_frames, side, side)),
        "minutes": minutes,
        "settings": settings,
    }
    write_json(done, row)
    log.info(
        "%s, seed %d: %.4f in %.1f min", model, seed, scored.mAP or 0, time.monotonic() - started
    )
    return row


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
