"""``avadet detect``: person boxes for every keyframe of many movies."""

from __future__ import annotations

import argparse
import hashlib
import logging
from functools import partial
from pathlib import Path
from typing import Any

from avadet.errors import UserError

HELP = "run the person detector over movies and write proposals"

_log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("movies", nargs="*", help="movie files, or folders of them")
    parser.add_argument("--out", required=True, help="result: .csv (AVA), .npz (dictionary), .json")
    parser.add_argument("--format", choices=("csv", "npz", "coco"), help="instead of the suffix")
    parser.add_argument(
        "--proposals",
        metavar="FILE",
        help="convert or label these boxes (.csv, .npz, MMAction2's .pkl) instead of detecting",
    )
    detector = parser.add_argument_group("detector")
    detector.add_argument("--weights", help="avadet's .safetensors or Detectron2's .pkl, .pth")
    detector.add_argument("--engine", default="auto", choices=("auto", "native", "detectron2"))
    detector.add_argument("--config", help="Detectron2 yaml, for its engine")
    detector.add_argument(
        "--score", type=float, default=0.05, help="leave out boxes below it (default 0.05)"
    )
    detector.add_argument("--short-side", type=int, help="resize frames to it")
    detector.add_argument("--max-side", type=int, help="limit of the longer side")
    detector.add_argument("--flip", action="store_true", help="average with mirror images")
    detector.add_argument(
        "--scales", type=int, nargs="+", default=[], help="average over these short sides"
    )
    detector.add_argument(
        "--smooth",
        action="store_true",
        help="steady and rescore boxes by those of neighbouring keyframes (docs/benchmarks.md)",
    )
    detector.add_argument("--nms", type=float, help="IoU of suppression (default: the weights')")
    detector.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1")
    detector.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    detector.add_argument("--batch-size", type=int, default=8)
    time = parser.add_argument_group("keyframes")
    time.add_argument("--rate", type=float, default=1.0, help="per second (default 1)")
    time.add_argument("--first-second", type=float, help="default: the movie's first")
    time.add_argument("--last-second", type=float, help="default: the movie's last")
    time.add_argument(
        "--movie-start",
        type=float,
        default=0.0,
        help="second of the source movie at which the files begin (900 for AVA's 15 minute cuts)",
    )
    labels = parser.add_argument_group("labels")
    labels.add_argument(
        "--assign-labels",
        metavar="GT.csv",
        help="give each box the actions of the true box it overlaps, else -1; writes CSV",
    )
    labels.add_argument("--iou", type=float, default=0.9, help="overlap for it (default 0.9)")
    parser.add_argument("--restart", action="store_true", help="forget finished movies")
    parser.add_argument(
        "--skip-unreadable", action="store_true", help="write the rest when movies are broken"
    )


def run(args: argparse.Namespace) -> int:
    """Detects, or converts boxes that are there already."""
    from avadet.persons import proposals as files

    out = Path(args.out)
    file_format = files.format_of(out, args.format)
    if args.assign_labels and file_format != "csv":
        raise UserError(f"{out}: labelled proposals are written as CSV; end the name in .csv")
    if out.is_dir():
        raise UserError(f"{out}: is a folder; --out names a file")
    if not 0 < args.iou <= 1:
        raise UserError(f"--iou {args.iou:g}: must be above 0 and at most 1")
    # The annotation file is read first: a typo in its name must not cost a night.
    truth = files.read_labelled_truth(args.assign_labels) if args.assign_labels else None
    if (args.proposals is None) == (not args.movies):
        raise UserError("give movies, or --proposals FILE, and not both")
    result = files.read(args.proposals) if args.proposals else _detect(args, out)
    if result is None:
        return 0
    if args.smooth:
        from avadet.persons.smoothing import smooth

        result = smooth(result)
    if truth is not None:
        assigned = files.assign_labels(result, truth, args.iou)
        rows = files.write_csv(out, result, assigned)
        matched = sum(label != [-1] for labels in assigned.values() for label in labels)
        _log.info(
            "%s: %d rows; %d of %d boxes overlap a true one by %g",
            out, rows, matched, result.num_boxes, args.iou,
        )  # fmt: skip
    else:
        files.write(out, result, file_format)
        _log.info("%s: %d boxes on %d keyframes", out, result.num_boxes, len(result.boxes_norm))
    return 0


def _detect(args: argparse.Namespace, out: Path) -> Any:
    """All movies' boxes on the first process, None on the others."""
    from avadet.engine import distributed
    from avadet.engine.precision import default_device
    from avadet.persons import create_detector
    from avadet.persons.movies import (
        PartFolder,
        Schedule,
        detect_movies,
        list_movies,
        wait_for_all,
    )
    from avadet.persons.weights import WHERE_TO_GET

    if not args.weights:
        raise UserError(f"--weights is missing: {WHERE_TO_GET}")
    rank, world_size = distributed.share()
    movies = list_movies(args.movies)
    schedule = Schedule(args.rate, args.first_second, args.last_second, args.movie_start)
    detector = create_detector(
        args.engine,
        weights=args.weights,
        config=args.config,
        score_threshold=args.score,
        device=str(default_device(args.device, distributed.local_rank())),
        precision=args.precision,
        short_side=args.short_side,
        max_side=args.max_side,
        flip=args.flip,
        scales=args.scales,
        nms_threshold=args.nms,
        batch_size=args.batch_size,
    )
    parts = PartFolder(out, _settings(args), args.restart, alone=world_size == 1)
    detect = partial(
        detect_movies,
        detector,
        parts=parts,
        schedule=schedule,
        batch_size=args.batch_size,
    )
    detect(movies, rank=rank, world_size=world_size)
    if rank:
        return None
    failed = wait_for_all(movies, parts, retry=detect)
    if failed and (not args.skip_unreadable or len(failed) == len(movies)):
        raise UserError(
            f"{len(failed)} of {len(movies)} movies cannot be read, first: "
            f"{next(iter(failed.values()))}; the others are kept in {parts.path}; mend these and "
            "run again, or give --skip-unreadable"
        )
    return parts.join([video for video in movies if video not in failed])


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """What decides the boxes of a movie; the batch size and the device do not."""
    names = (
        "engine", "config", "score", "short_side", "max_side", "flip", "scales", "nms",
        "precision", "rate", "first_second", "last_second", "movie_start",
    )  # fmt: skip
    settings = {name: getattr(args, name) for name in names}
    digest = hashlib.sha256()
    with Path(args.weights).open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    settings["weights_sha256"] = digest.hexdigest()
    return settings
