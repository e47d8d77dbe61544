"""``avadet zoo``: public checkpoints, listed and fetched."""

from __future__ import annotations

import argparse

HELP = "list public checkpoints, or fetch one into the cache"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``avadet zoo``."""
    verbs = parser.add_subparsers(dest="verb", required=True)
    listing = verbs.add_parser("list", help="one line a checkpoint")
    listing.add_argument("pattern", nargs="?", default="*", help="shell pattern, such as '*ava22*'")
    listing.add_argument("--json", metavar="FILE", help="also write the rows as JSON")
    getting = verbs.add_parser("get", help="fetch a checkpoint, resuming where it stopped")
    getting.add_argument("name", help="from `avadet zoo list`")


def run(args: argparse.Namespace) -> int:
    """Lists or fetches."""
    return _list(args) if args.verb == "list" else _get(args.name)


def _list(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from avadet.convert import zoo
    from avadet.errors import UserError
    from avadet.files import write_json

    names = zoo.names(args.pattern)
    if not names:
        raise UserError(f"no checkpoint matches '{args.pattern}'; see `avadet zoo list`")
    width = max(map(len, names))
    print(f"{'name':<{width}}  {'source':<12} {'published':<22} licence")
    for name in names:
        row = zoo.rows()[name]
        numbers = ", ".join(f"{key} {value:g}" for key, value in row.published.items()) or "-"
        marks = " [here]" if row.path.is_file() else ""
        marks += " [by hand]" if row.by_hand else ""
        if not row.arch:
            encoder = "start from" in row.note
            marks += " [to start from]" if encoder else " [cannot be loaded yet]"
        print(f"{name:<{width}}  {row.source:<12} {numbers:<22} {row.licence}{marks}")
    print(f"\n{len(names)} checkpoints; files are kept in {zoo.cache_folder()}")
    if args.json:
        write_json(args.json, [asdict(zoo.rows()[name]) for name in names])
    return 0


def _get(name: str) -> int:
    from avadet.convert import zoo

    row = zoo.rows().get(name)
    if row is not None:
        print(f"{name}: {row.url}")
        print(f"licence: {row.licence}" + (" - NOT for commercial use" * row.non_commercial))
        if row.published:
            numbers = ", ".join(f"{key} {value:g}" for key, value in row.published.items())
            print(f"published: {numbers} ({row.protocol})")
    print(zoo.get(name))
    return 0
