"""``avadet train``: train what a config describes."""

from __future__ import annotations

import argparse

HELP = "train an action detector, a clip classifier or a person detector from a config"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``avadet train``."""
    parser.add_argument("config", help="a YAML file, such as configs/ava/slowfast_r50_8x8.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value", help="train.lr=0.05 ...")
    parser.add_argument(
        "--resume", action="store_true", help="continue from the newest checkpoint of `out`"
    )
    parser.add_argument("--dump", action="store_true", help="print the whole config and stop")


def run(args: argparse.Namespace) -> int:
    """Trains; 0 when finished, 130 when stopped on request (it can be resumed)."""
    from avadet.config import dump, load_config

    config = load_config(args.config, args.overrides)
    if args.dump:
        print(dump(config), end="")
        return 0
    from avadet.commands.tasks import train

    result = train(config, resume=args.resume)
    print(result.message)
    return 0 if result.finished else 130
