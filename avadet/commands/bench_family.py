"""``avadet bench family``: what each idea gives for what it costs, every tiny network alike."""

from __future__ import annotations

import argparse
import inspect
import json
import logging
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from avadet.commands import mini_ava_runs
from avadet.errors import UserError
from avadet.files import write_json, write_text

HELP = "every tiny network on one Mini-AVA with one budget: accuracy against cost, table and plot"
CONFIG = "configs/mini_ava/family.yaml"
# A clip has 16 frames: the Slow pathways take every fourth, R2D takes all as channels.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "slow_tiny": {"alpha": 4},
    "slowfast_tiny": {"alpha": 4},
    "r2d_tiny": {"num_frames": 16},
}
# Networks with an addition, beside those without: name -> (network, arguments).
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "i3d_tiny+nl": ("i3d_tiny", {"non_local": {"places": {"res3": [0], "res4": [0]}}}),
}
# Published recipes train transformers with AdamW at a fraction of what convolutions with batch
# norm bear; this one value was set beforehand, for all of them, and not tuned.
TRANSFORMER_LR = 5e-4
TRANSFORMERS = ("mvit", "vit", "torchvision")
KINDS = (
    ("2D", ("c2d", "f_r2d", "r2d", "cnn_lstm")),
    ("mixed 2D and 3D", ("mc", "rmc", "slow_")),
    ("full 3D", ("c3d", "r3d", "i3d", "fast")),
    ("factorised", ("r2plus1d", "p3d", "s3d")),
    ("channel-separated", ("ir_csn", "ip_csn", "x3d")),
    ("two pathways", ("slowfast",)),
    ("transformer", TRANSFORMERS),
)

log = logging.getLogger(__name__)


def networks() -> list[str]:
    """All tiny networks there are, and the variants."""
    from avadet.models.backbones import BACKBONES

    return sorted([*BACKBONES.names("*_tiny"), *VARIANTS])


def kind(name: str) -> str:
    """The idea behind a network, by the longest of its names' beginnings."""
    fitting = {
        prefix: title for title, words in KINDS for prefix in words if name.startswith(prefix)
    }
    return fitting[max(fitting, key=len)] if fitting else "other"


def backbone(name: str) -> dict[str, Any]:
    """The config's ``model.backbone`` for a network: a map of stride 16 from all that have one."""
    from avadet.models.backbones import BACKBONES

    base, more = VARIANTS.get(name, (name, {}))
    arguments = {**ARGUMENTS.get(base, {}), **more}
    if "output_stride" in inspect.signature(BACKBONES.get(base)).parameters:
        arguments["output_stride"] = 16
    return {"name": base, **arguments}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``avadet bench family``."""
    parser.add_argument("--out", default="runs/bench_family", help="folder; runs are resumed")
    parser.add_argument("--preset", default="bench", help="of `avadet prepare mini-ava`")
    parser.add_argument("--movies", type=int, default=48, help="training movies")
    parser.add_argument("--val-movies", type=int, default=24, help="test movies")
    parser.add_argument("--models", nargs="+", help="some of the networks (default: all)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument(
        "--set",
        nargs="*",
        default=[],
        metavar="key.sub=value",
        help="overrides of the config, the same for all",
    )


def run(args: argparse.Namespace) -> int:
    """Trains what is missing; ``result.json``, ``table.md`` and ``family.svg`` after each one."""
    known = networks()
    models = args.models or known
    for name in models:
        if name not in known:
            raise UserError(f"--models {name}: not one of {', '.join(known)}")
    out = Path(args.out)
    data = mini_ava_runs.make_data(out, args.preset, args.movies, args.val_movies)
    rows: list[dict[str, Any]] = []
    for seed in args.seeds:
        for name in models:
            rows.append(_one(out, data, name, seed, args))
            _write(out, rows)
    print((out / "table.md").read_text(encoding="utf-8"), end="")
    return 0


def _one(out: Path, data: Path, name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    overrides = [
        f"model.backbone={json.dumps(backbone(name))}",
        f"seed={seed}",
        *mini_ava_runs.data_overrides(data),
        f"train.epochs={args.epochs}",
        *([f"train.lr={TRANSFORMER_LR}"] if name.startswith(TRANSFORMERS) else []),
        *args.set,
    ]
    folder = out / f"{name}_{seed}"
    row = mini_ava_runs.train_and_score(CONFIG, overrides, folder)
    if "cpu_ms" not in row:
        row["cpu_ms"] = 1e3 * _seconds_per_clip(CONFIG, overrides)
        write_json(folder / "row.json", row)
    return {"model": name, "kind": kind(name), "seed": seed, **row}


def _seconds_per_clip(config_file: str, overrides: Sequence[str], repeats: int = 5) -> float:
    """CPU time of one clip's forward and backward pass in training, the median of ``repeats``.

    CPU time rather than the clock's, which depends on what else the machine does.
    """
    import torch

    from avadet import build
    from avadet.config import load_config
    from avadet.engine.precision import default_device, place, resolve

    config = load_config(config_file, overrides)
    model = build.build_model(config, build.read_classes(config)).train()
    device = default_device("cpu")
    precision = resolve(config.train.precision, device)
    place(model, device, precision)
    data, batch = config.data, config.train.batch_size
    clips = torch.randn(batch, 3, data.num_frames, data.test_short_side, data.test_short_side)
    seconds = []
    for _ in range(repeats + 1):
        started = time.process_time()
        with precision.autocast():
            loss = sum(each.float().square().mean() for each in model.backbone(clips))
        loss.backward()  # type: ignore[union-attr]
        seconds.append((time.process_time() - started) / batch)
    # The first pass also prepares kernels.
    return statistics.median(seconds[1:])


def _write(out: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    write_json(out / "result.json", list(rows))
    write_text(out / "table.md", make_table(rows))
    write_text(out / "family.svg", make_plot(rows))


def _by_model(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """The rows of each network, the best on average first."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["model"], []).append(row)
    return sorted(groups.items(), key=lambda item: (-_mean(item[1]), item[0]))


def _mean(rows: Sequence[Mapping[str, Any]]) -> float:
    return statistics.fmean(row["mAP"] or 0.0 for row in rows)


def make_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown, the best network first; over several seeds mean and half the spread."""
    seeds = sorted({row["seed"] for row in rows})
    lines = [
        "| network | idea | frame-mAP | parameters (M) | GFLOPs a clip | CPU ms a clip |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for name, group in _by_model(rows):
        scores = [100 * (row["mAP"] or 0.0) for row in group]
        shown = f"{statistics.fmean(scores):.1f}"
        if len(seeds) > 1:
            shown += f" ± {(max(scores) - min(scores)) / 2:.1f}"
        first = group[0]
        lines.append(
            f"| {name} | {first['kind']} | {shown} | {first['params'] / 1e6:.2f} | "
            f"{first['macs'] / 1e9:.2f} | {statistics.median(r['cpu_ms'] for r in group):.0f} |"
        )
    return "\n".join(lines) + "\n"


def make_plot(rows: Sequence[Mapping[str, Any]]) -> str:
    """Accuracy against multiply-adds, one dot a network, coloured by idea."""
    from avadet.report.scatter import Point, scatter

    points = [
        Point(
            name.replace("_tiny", ""), group[0]["macs"] / 1e9, 100 * _mean(group), group[0]["kind"]
        )
        for name, group in _by_model(rows)
    ]
    return scatter(
        points,
        title="Mini-AVA: accuracy against cost",
        x_title="GFLOPs of the backbone per clip (logarithmic)",
        y_title="frame-mAP, true boxes (%)",
    )
