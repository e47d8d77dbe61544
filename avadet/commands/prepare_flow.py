"""``avadet prepare flow``: optical flow of movies, for the second stream."""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

HELP = "optical flow of movies, as movies of the same names, for networks with data.modality=flow"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``avadet prepare flow``."""
    add = parser.add_argument
    add("movies", type=Path, nargs="+", metavar="MOVIES", help="folders of movies, or movie files")
    add("--out", type=Path, required=True, help="folder to write; what is finished there is kept")
    add(
        "--method",
        default="tvl1",
        help="tvl1 (as published), farneback (both need OpenCV: pip install 'avadet[flow]'), "
        "raft, raft_small (default: tvl1)",
    )
    add("--weights", type=Path, help="RAFT's file (default: torchvision's, downloaded once)")
    add("--short-side", type=int, default=256, help="pixels of the shorter side (default: 256)")
    add(
        "--fps",
        type=float,
        default=30.0,
        help="pictures per second; I3D's published flow has 25 (default: 30)",
    )
    add("--device", default="auto", help="where RAFT runs: auto, cpu, cuda")


def run(args: argparse.Namespace) -> int:
    """Writes the flow of this process's share of the movies; 2 where one could not be read."""
    from avadet.data.flow import create_estimator, movie_names
    from avadet.data.flow_movies import FlowSettings, make_flow
    from avadet.data.media import MOVIE_SUFFIXES
    from avadet.engine import distributed
    from avadet.engine.precision import default_device
    from avadet.errors import UserError

    movies = movie_names(args.movies, MOVIE_SUFFIXES)
    for place in args.movies:
        # A second run would find the flow of the first and take it for movies.
        if place.is_dir() and args.out.resolve().is_relative_to(place.resolve()):
            raise UserError(
                f"--out {args.out}: lies in {place}, whose movies it would join; choose a folder "
                "beside it"
            )
    digest = hashlib.sha256(args.weights.read_bytes()).hexdigest() if _given(args.weights) else ""
    settings = FlowSettings(args.method, args.short_side, args.fps, digest)
    estimate = create_estimator(
        args.method, weights=args.weights, device=str(default_device(args.device))
    )
    # As `avadet detect`: several processes with RANK and WORLD_SIZE take movies in turn.
    rank, world_size = distributed.share()
    mine = dict(list(movies.items())[rank::world_size])
    report = make_flow(mine, args.out, settings, estimate)
    for name, reason in report.unreadable.items():
        print(f"left out: {name}: {reason}", file=sys.stderr)
    print(
        f"{report.written} flow movies written, {report.kept} kept, {len(report.unreadable)} "
        "movies left out"
    )
    if report.written or report.kept:
        print(
            f"read them with data.movies={args.out} data.modality=flow data.fps={args.fps:g} "
            "data.reader=movies"
        )
    return 2 if report.unreadable else 0


def _given(weights: Path | None) -> bool:
    from avadet.errors import UserError

    if weights is not None and not weights.is_file():
        raise UserError(f"{weights}: there is no such file of RAFT's weights")
    return weights is not None
