"""``avadet prepare annotations``: from an annotation tool's export to AVA's formats."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "annotations of your own, from COCO json, CVAT or VIA, in AVA's formats"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``avadet prepare annotations``."""
    add = parser.add_argument
    add("annotations", type=Path, nargs="+", metavar="FILE", help="exports; told by their content")
    add("--movies", type=Path, required=True, help="folder of the annotated movies")
    add("--out", type=Path, required=True, help="folder for classes.pbtxt, train.csv, val.csv")
    add("--val", nargs="+", default=[], metavar="VIDEO", help="movies kept for validation")
    add("--rate", type=float, default=1.0, help="keyframes per second of CVAT tracks (default: 1)")
    add(
        "--first-frame",
        type=int,
        default=0,
        metavar="N",
        help="number of a movie's first frame, where frames are told by file names (default: 0)",
    )


def run(args: argparse.Namespace) -> int:
    """Writes the data set and the line that trains on it."""
    from avadet.data.importers import read_annotations, write_ava
    from avadet.data.media import MovieFolder
    from avadet.errors import UserError

    if not 0 < args.rate < float("inf"):
        raise UserError(f"--rate {args.rate:g}: must be above 0")
    movies = _Measured(MovieFolder(args.movies))
    rows = [
        row
        for path in args.annotations
        for row in read_annotations(path, movies, rate=args.rate, first_frame=args.first_frame)
    ]
    classes = write_ava(rows, args.out, args.val)
    moments = {(row.video, row.second) for row in rows}
    labels = sum(len(row.actions) for row in rows)
    print(
        f"{len(moments)} keyframes, {len(rows)} people, {labels} labels of {len(classes)} classes: "
        f"{', '.join(classes.names)}"
    )
    seconds = [second for _, second in moments]
    held_out = f"{args.out}/val.csv" if args.val else "''"
    print(
        "train with\n"
        f"  avadet train configs/ava/slowfast_r50_8x8.yaml data.movies={args.movies}"
        f" data.label_map={args.out}/classes.pbtxt eval.label_map={args.out}/classes.pbtxt"
        f" data.train_groundtruth={args.out}/train.csv data.val_groundtruth={held_out}"
        " data.train_excluded=null data.val_excluded=null data.train_proposals=null"
        f" data.val_proposals=null data.first_second={min(seconds):g}"
        f" data.last_second={max(seconds):g} data.keyframe_rate={args.rate:g}"
    )
    return 0


class _Measured:
    """Sizes and frame rates of movies, each opened once."""

    def __init__(self, folder: object) -> None:
        self._folder = folder
        self._known: dict[str, tuple[tuple[int, int], float]] = {}

    def _look(self, video: str) -> tuple[tuple[int, int], float]:
        if video not in self._known:
            with self._folder.open(video) as reader:  # type: ignore[attr-defined]
                self._known[video] = ((reader.width, reader.height), reader.fps)
        return self._known[video]

    def size(self, video: str) -> tuple[int, int]:
        return self._look(video)[0]

    def fps(self, video: str) -> float:
        return self._look(video)[1]
