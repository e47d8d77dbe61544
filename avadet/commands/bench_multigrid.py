"""``avadet bench multigrid``: what varying the size of clips saves, and what it costs."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HELP = "multigrid training against the plain schedule: time per clip and run; accuracy"

log = logging.getLogger(__name__)
CONFIG = "configs/mini_kinetics/slowfast_tiny.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the bench."""
    from avadet.commands import bench_table

    parser.add_argument("--backbone", default="slowfast_tiny", help="its training step is timed")
    parser.add_argument("--frames", type=bench_table.positive, default=32, help="of a full clip")
    parser.add_argument("--side", type=bench_table.positive, default=112, help="of its crop")
    parser.add_argument("--batch", type=bench_table.positive, default=1, help="of full clips")
    parser.add_argument("--epochs", type=float, default=239, help="of the plain schedule")
    parser.add_argument(
        "--steps", type=float, nargs="+", default=[0, 94, 154, 196], help="of its learning rate"
    )
    parser.add_argument(
        "--train", type=Path, metavar="FOLDER", help="also train on Mini-Kinetics drawn there"
    )
    parser.add_argument("--clips", type=int, default=60, help="training clips per class")
    parser.add_argument("--train-epochs", type=float, default=12)
    parser.add_argument("--train-side", type=bench_table.positive, default=64, help="of the crop")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    bench_table.add_arguments(parser, repeat=5)


def run(args: argparse.Namespace) -> int:
    """Times the steps on random clips; trains where asked."""
    import torch

    from avadet.commands import bench_table
    from avadet.data.draws import ClipShape
    from avadet.data.multigrid import plan

    if args.threads:
        torch.set_num_threads(args.threads)
    factors = [0.1**number for number in range(len(args.steps))]
    base = ClipShape(args.frames, 2, args.side)
    schedule = {"epochs": args.epochs, "steps": args.steps, "factors": factors}
    plans = {factor: plan(base, **schedule, epoch_factor=factor) for factor in (1.5, 1.0)}
    rows, baseline = _steps(args, plans[1.5])
    notes, totals = [], {}
    for factor, made in plans.items():
        for clock in ("seconds", "cpu_seconds"):
            per_clip = {row["grid"]: row[clock] for row in rows}
            plain = args.epochs * per_clip[max(per_clip, key=lambda each: each.batch == 1)]
            totals[f"speed-up, {factor:g} x epochs, {clock}"] = plain / run_cost(made, per_clip)
        notes.append(
            f"{args.epochs:g} epochs, rate steps {args.steps}: multigrid sees {made.epochs} epochs "
            f"({factor:g} x) {totals[f'speed-up, {factor:g} x epochs, seconds']:.2f} times as fast "
            f"(CPU time: {totals[f'speed-up, {factor:g} x epochs, cpu_seconds']:.2f})"
        )
    for row in rows:
        del row["grid"]
    trained = _trainings(args) if args.train else []
    notes += [
        f"{each['schedule']}, seed {each['seed']}: {each['epochs']:g} epochs, {each['steps']} "
        f"steps, {each['minutes']:.2f} min, {each['cpu_minutes']:.2f} CPU min, "
        f"top-1 {100 * each['top1']:.1f}"
        for each in trained
    ]
    bench_table.report(
        f"training steps of {args.backbone}, time per clip; a base batch is {args.batch}",
        rows,
        baseline=baseline,
        args=args,
        notes=notes,
        case="clips x frames x side",
        more={"totals": totals, "trained": trained},
    )
    return 0


def run_cost(made: Any, per_clip: Mapping[Any, float]) -> float:
    """Time of a whole multigrid run, per clip of the data set.

    Args:
        made: the plan.
        per_clip: grid -> time of one clip in a batch of it.
    """
    total = 0.0
    for phase in made.phases:
        clips = sum(grid.batch for grid in phase.grids)
        cycle = sum(grid.batch * per_clip[grid] for grid in phase.grids)
        total += (phase.end - phase.start) * cycle / clips
    return total


def _steps(args: argparse.Namespace, made: Any) -> tuple[list[dict[str, Any]], str]:
    """Rows of time per clip, one for each size of the plan, the full one as baseline."""
    import torch

    from avadet.commands import bench_table
    from avadet.models.action import ActionClassifier
    from avadet.models.backbones import BACKBONES
    from avadet.models.heads import PoolHead

    torch.manual_seed(0)
    backbone = BACKBONES.get(args.backbone)()
    model = ActionClassifier(backbone, PoolHead(backbone.out_channels, 400)).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def step(video: Any, labels: Any) -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(model(video), labels).backward()
        optimizer.step()

    grids = {grid for phase in made.phases for grid in phase.grids}
    ordered = sorted(grids, key=lambda grid: (grid.batch, -grid.num_frames))
    cases, items, names = {}, {}, {}
    for grid in ordered:
        clips = grid.batch * args.batch
        name = f"{clips} x {grid.num_frames} x {grid.side}"
        video = torch.randn(clips, 3, grid.num_frames, grid.side, grid.side)
        labels = torch.arange(clips) % 400
        cases[name] = lambda video=video, labels=labels: step(video, labels)
        items[name], names[name] = float(clips), grid
    timings = bench_table.interleave(cases, rounds=args.repeat, items=items)
    baseline = next(iter(cases))
    rows = bench_table.rows(timings, baseline)
    for row in rows:
        row["grid"] = names[row["name"]]
        row["clips/s"] = 1 / row["seconds"]
    return rows, baseline


def _trainings(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Plain and multigrid runs on one Mini-Kinetics, for equal epochs and for 1.5 times as many."""
    from avadet.commands.tasks import train
    from avadet.config import load_config
    from avadet.synthetic import mini_kinetics

    data = mini_kinetics.generate(
        args.train / "data", "small", 0, movies=args.clips, val_movies=25, seconds=2
    )
    last, side = args.train_epochs, args.train_side
    cycles = {
        "plain": [],
        "multigrid, equal epochs": ["train.multigrid={epoch_factor: 1.0}"],
        "multigrid, 1.5 x epochs": ["train.multigrid={epoch_factor: 1.5}"],
    }
    found = []
    for seed in args.seeds:
        for name, extra in cycles.items():
            folder = args.train / f"{name.replace(',', '').replace(' ', '_')}_{seed}"
            config = load_config(
                CONFIG,
                [
                    f"out={folder}",
                    f"seed={seed}",
                    f"data.movies={data}",
                    f"data.train_clips={data / 'annotations' / 'train.csv'}",
                    f"data.val_clips={data / 'annotations' / 'val.csv'}",
                    f"data.classes={data / 'annotations' / 'classes.txt'}",
                    # The rate is scaled with the batch, which is a rule for SGD.
                    "train.optimizer=sgd",
                    "train.lr=0.02",
                    "train.weight_decay=1e-4",
                    "train.schedule=step",
                    f"train.steps=[0, {0.5 * last:g}, {0.8 * last:g}]",
                    "train.factors=[1, 0.1, 0.01]",
                    f"train.epochs={last:g}",
                    "train.warmup_epochs=1",
                    "train.batch_size=8",
                    "train.precise_bn_batches=20",
                    "train.eval_every=0",
                    "model.norm=sub_batch",
                    f"data.train_short_side=[{side}, {side}]",
                    f"data.crop={side}",
                    f"data.test_short_side={side}",
                    *extra,
                ],
            )
            log.info("%s, seed %d", name, seed)
            busy = time.process_time()
            result = train(config, resume=False)
            if not result.finished:
                raise KeyboardInterrupt
            found.append(
                {
                    "schedule": name,
                    "seed": seed,
                    "epochs": result.progress.position,
                    "steps": result.progress.step,
                    "minutes": result.progress.minutes,
                    "cpu_minutes": (time.process_time() - busy) / 60,
                    **result.metrics,
                }
            )
    return found
