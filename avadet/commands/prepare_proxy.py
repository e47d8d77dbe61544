"""``avadet prepare proxy``: copies of movies that decode several times faster."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HELP = "small copies of movies for training: frames at their original times, several times faster"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``avadet prepare proxy``."""
    add = parser.add_argument
    add("movies", type=Path, nargs="+", metavar="MOVIES", help="folder of movies, or movie files")
    add("--out", type=Path, required=True, help="folder to write; what is finished there is kept")
    add("--short-side", type=int, default=320, help="pixels of the shorter side (default: 320)")
    add("--gop", type=int, default=16, help="frames between key frames (default: 16)")
    add("--crf", type=int, default=20, help="x264 quality, 0 best .. 51 (default: 20)")
    add("--workers", type=int, help="processes (default: one per core)")


def run(args: argparse.Namespace) -> int:
    """Makes the proxies; 2 where some movie could not be read."""
    from avadet.data.proxies import find_movies, make_proxies
    from avadet.errors import UserError
    from avadet.video.proxy import ProxySettings

    if args.workers is not None and args.workers < 1:
        raise UserError(f"--workers {args.workers}: must be at least 1")
    settings = ProxySettings(args.short_side, args.gop, args.crf)
    report = make_proxies(find_movies(args.movies), args.out, settings, workers=args.workers)
    for name, count in sorted(report.damaged.items()):
        print(f"{name}: damaged, {count} packets cannot be decoded", file=sys.stderr)
    for reason in (text for _, text in sorted(report.unreadable.items())):
        print(f"left out: {reason}", file=sys.stderr)
    print(
        f"{report.made} proxies made, {report.kept} kept, {len(report.unreadable)} movies left "
        f"out; {report.source_bytes / 1e6:.1f} MB of movies, {report.proxy_bytes / 1e6:.1f} MB of "
        "proxies"
    )
    if report.made or report.kept:
        print(f"read them with data.movies={args.out}")
    return 2 if report.unreadable else 0
