"""``avadet bench <what>``: each measurement is a module of its own beside this one."""

from __future__ import annotations

import argparse
import importlib

HELP = "measure speed and accuracy; what is worth keeping goes into docs/benchmarks.md"

BENCHES = {
    "scaling": "cost of scoring against clips per batch, boxes per clip and classes",
    "memory": "peak memory of scoring and of a training step, activation checkpointing too",
    "train": "a training step: plain float32, as `avadet train` runs it, and PyTorchVideo's",
    "infer": "scoring a clip: as trained, prepared, and PyTorchVideo's network",
    "data": "clips per CPU core from movies, proxies and frames; the steps of the loader",
    "startup": "from `avadet train` to its first batch, on lists of AVA's full size",
    "evaluation": "AVA frame-mAP at full scale: parse, match and AP times, peak memory",
    "mini-ava": "Slow-only, Fast-only, SlowFast and CSN on one Mini-AVA, several seeds",
    "family": "every tiny network on one Mini-AVA with one budget: accuracy against cost",
    "multigrid": "multigrid training against the plain schedule: time and accuracy",
    "persons": "the native person detector beside the detectron2 library",
    "boxes": "action frame-mAP with true boxes and detected ones at several score cuts",
    "person-views": "person AP of mirror images, sizes and smoothing on crowded movies",
    "memory-bank": "what a feature bank gives on classes that need many seconds of context",
    "demo": "the stages of the demo, overlapped and one after another",
    "pretraining": "Mini-AVA from scratch, linearly probed and fine-tuned from Mini-Kinetics",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One sub-command a bench; its module is imported only when it is the one asked for."""
    parser.add_argument(
        "what", choices=BENCHES, help="; ".join(f"{k}: {v}" for k, v in BENCHES.items())
    )
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="options of that bench (--help)")


def run(args: argparse.Namespace) -> int:
    """Runs the bench asked for."""
    module = importlib.import_module(f"avadet.commands.bench_{args.what.replace('-', '_')}")
    parser = argparse.ArgumentParser(prog=f"avadet bench {args.what}", description=module.HELP)
    module.add_arguments(parser)
    return int(module.run(parser.parse_args(args.rest)))
