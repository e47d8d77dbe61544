"""``avadet models``: the table of networks."""

from __future__ import annotations

import argparse
from typing import Any

HELP = "list the networks: sizes, costs, published numbers, and which weights there are"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``avadet models``."""
    parser.add_argument(
        "pattern", nargs="?", default="*", help="shell pattern, such as 'slowfast*' or '*ava22*'"
    )
    parser.add_argument("--json", metavar="FILE", help="also write the table as JSON")


def run(args: argparse.Namespace) -> int:
    """Prints one line a network, and one more for each further file of weights."""
    from avadet.convert import model_table
    from avadet.errors import UserError
    from avadet.files import write_json

    rows = model_table.rows(args.pattern)
    if not rows:
        raise UserError(f"no network matches '{args.pattern}'; see `avadet models`")
    if args.json:
        write_json(args.json, rows)
    width = max(len(row["name"]) for row in rows)
    print(
        f"{'name':<{width}} {'task':<14} {'classes':>7} {'params M':>9} {'GFLOPs':>8}  "
        f"{'input':<11}  published, weights"
    )
    for row in rows:
        print("\n".join(_lines(row, width)))
    print(
        "\nGFLOPs counts one multiply-add as one, of the backbone and a clip, as papers do.\n"
        "Numbers are the publishers', in per cent. `avadet zoo get NAME` fetches weights, tells\n"
        "protocol and licence; docs/zoo.md has it all. A 'backbone' is what a config's\n"
        "model.backbone names; its parameters are without a head."
    )
    return 0


def _lines(row: dict[str, Any], width: int) -> list[str]:
    side = row["side"]
    size = f"{row['frames']}x{side}x{side}"
    first = (
        f"{row['name']:<{width}} {row['task']:<14} {row['classes'] or '':>7} "
        f"{row['params'] / 1e6:>9.2f} {row['macs'] / 1e9:>8.2f}  {size:<11}"
    )
    found = [_weights(each) for each in row["published"]]
    further = [" " * len(first) + f"  {text}" for text in found[1:]]
    return [(first + f"  {found[0]}") if found else first.rstrip(), *further]


def _weights(published: dict[str, Any]) -> str:
    numbers = ", ".join(f"{key} {value:g}" for key, value in published["numbers"].items())
    return f"{numbers or '-'} ({published['source']}): {published['weights']}"
