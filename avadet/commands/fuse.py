"""``avadet fuse``: the weighted mean of the scores of several networks."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "late fusion of two or more streams: detections (CSV) or scores of clips (npz)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``avadet fuse``."""
    add = parser.add_argument
    add(
        "scores",
        nargs="+",
        metavar="FILE",
        help="detections.csv, or scores.npz of clips, as `avadet eval` writes them",
    )
    add("--weights", type=float, nargs="+", metavar="W", help="one a file (default: all equal)")
    add("--out", type=Path, required=True, help="the fused file, of the same kind")
    add("--groundtruth", metavar="CSV", help="also score the fused detections against it")
    add("--label-map", metavar="PBTXT", help="classes that count (default: AVA's 60)")
    add("--excluded", metavar="CSV", help="keyframes that do not count")


def run(args: argparse.Namespace) -> int:
    """Fuses, and scores where there are answers to compare with."""
    from avadet.errors import UserError
    from avadet.files import keep_inputs

    read = (*args.scores, args.groundtruth, args.label_map, args.excluded)
    keep_inputs(args.out, filter(None, read), "--out")
    kinds = {Path(name).suffix.lower() == ".npz" for name in (*args.scores, args.out)}
    if len(kinds) > 1:
        raise UserError("detections (.csv) and scores of clips (.npz) cannot be fused together")
    if not kinds.pop():
        return _boxes(args)
    if args.groundtruth or args.label_map or args.excluded:
        raise UserError("scores of clips carry their labels; leave out --groundtruth and its like")
    return _clips(args)


def _boxes(args: argparse.Namespace) -> int:
    from avadet.errors import UserError
    from avadet.evaluation.ava import frame_map
    from avadet.evaluation.fusion import fuse_boxes
    from avadet.evaluation.show import print_frame_map

    for name in filter(None, (args.groundtruth, args.label_map, args.excluded)):
        # Before the fused file is written.
        if not Path(name).is_file():
            raise UserError(f"{name}: no such file")
    fused = fuse_boxes(args.scores, args.weights)
    fused.write(args.out)
    print(f"{args.out}: {len(fused.score)} scores of {fused.boxes} boxes")
    if fused.filled:
        print(f"{fused.filled} scores that a file leaves out counted as 0")
    if args.groundtruth:
        print_frame_map(frame_map(args.groundtruth, args.out, args.label_map, args.excluded))
    return 0


def _clips(args: argparse.Namespace) -> int:
    from avadet.engine.clip_task import top_accuracy
    from avadet.evaluation.fusion import fuse_clips

    fused = fuse_clips(args.scores, args.weights)
    fused.write(args.out)
    print(f"{args.out}: {len(fused.names)} clips")
    for name, value in top_accuracy(fused).items():
        print(f"{name}: {100 * value:.2f}")
    return 0
