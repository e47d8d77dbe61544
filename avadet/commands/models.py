"""``avadet models``: the table of networks."""

from __future__ import annotations

import argparse

HELP = "list the networks that create_model knows, with parameters and multiply-adds"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``avadet models``."""
    parser.add_argument(
        "pattern", nargs="?", default="*", help="shell pattern, such as 'slowfast*'"
    )
    parser.add_argument("--json", metavar="FILE", help="also write the table as JSON")


def run(args: argparse.Namespace) -> int:
    """Prints one line a network; costs are counted on the meta device, nothing is allocated."""
    from avadet.build import list_models, model_costs
    from avadet.errors import UserError
    from avadet.files import write_json

    names = list_models(args.pattern)
    if not names:
        raise UserError(f"no model matches '{args.pattern}'; see `avadet models`")
    rows = []
    print(f"{'name':<42} {'task':<15} {'classes':>7} {'params M':>9} {'GFLOPs':>8}  input")
    for name in names:
        row = model_costs(name)
        rows.append(row)
        frames, side = row["frames"], row["side"]
        print(
            f"{name:<42} {row['task']:<15} {row['classes']:>7} {row['params'] / 1e6:>9.2f} "
            f"{row['macs'] / 1e9:>8.2f}  {frames}x{side}x{side}"
        )
    print("\nGFLOPs counts one multiply-add as one, per clip, as the papers do, of the backbone.")
    if args.json:
        write_json(args.json, rows)
    return 0
