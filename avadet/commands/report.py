"""``avadet report``: why the mAP is what it is, as one HTML page, from two CSV files."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

HELP = "write an HTML report about detections, from CSV files alone"

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    parser.add_argument("--groundtruth", required=True, help="CSV, CSV.GZ or Parquet")
    parser.add_argument("--detections", required=True, help="CSV, CSV.GZ or Parquet")
    parser.add_argument("--other", help="detections of a second run, to compare with")
    parser.add_argument("--labelmap", help="pbtxt of the scored classes (default: the 60 of AVA)")
    parser.add_argument("--excluded", help="CSV of excluded video_id,timestamp")
    parser.add_argument("--protocol", default="official", help="protocol (default: official)")
    parser.add_argument("--movies", type=Path, help="folder of movies, for pictures")
    parser.add_argument(
        "--movie-start",
        type=float,
        default=0.0,
        help="second at which each file begins: 0 for whole movies, 900 for 15-minute cuts",
    )
    parser.add_argument("--title", default="Action detection report")
    parser.add_argument("--out", required=True, help="HTML file to write")


def run(args: argparse.Namespace) -> int:
    """Writes the page."""
    from avadet.report.page import write_report as write_page

    frame_at = None if args.movies is None else frames_of(args.movies, args.movie_start)
    names = [Path(args.detections).name, Path(args.other or "").name]
    if names[0] == names[1]:
        names = [str(args.detections), str(args.other)]
    result = write_page(
        args.out,
        args.groundtruth,
        args.detections,
        labelmap=args.labelmap,
        excluded=args.excluded,
        protocol=args.protocol,
        other=args.other,
        frame_at=frame_at,
        title=args.title,
        names=names,
    )
    for note in result.notes:
        logger.warning("%s", note)
    value = "-" if result.mAP is None else f"{100 * result.mAP:.2f}"
    print(f"frame-mAP at IoU 0.5, protocol {result.protocol}: {value}; report in {args.out}")
    return 0


def write_report(config: Any, detections: Path, out: str | Path) -> None:
    """Writes the page about detections made with a config: its ground truth, classes and movies.

    Args:
        config: of the run.
        detections: CSV in the AVA format.
        out: HTML file.
    """
    from avadet.report.page import write_report as write_page

    data = config.data
    frame_at = None
    if data.movies and Path(data.movies).is_dir():
        start = data.movie_start
        if start is None:
            start = 900.0 if data.reader == "frames" else 0.0
        frame_at = frames_of(Path(data.movies), start)
    write_page(
        out,
        data.val_groundtruth,
        detections,
        labelmap=config.eval.label_map or data.label_map or None,
        excluded=data.val_excluded,
        protocol=config.eval.protocol,
        frame_at=frame_at,
    )


def frames_of(folder: Path, movie_start: float = 0.0) -> Callable[[str, float], Any]:
    """A function that gives the picture of a video at a second, from a folder of movies.

    Args:
        folder: of movie files or frame folders named by the video id.
        movie_start: second at which each file begins.

    Raises:
        UserError: (the function) when the folder has no movie of that name.
    """
    from avadet.errors import UserError
    from avadet.video.reader import open_video

    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of movies")
    paths = {path.stem: path for path in sorted(folder.iterdir())}

    def frame_at(video: str, second: float) -> Any:
        path = paths.get(video) or paths.get(Path(video).stem)
        if path is None:
            raise UserError(f"{folder}: no movie named {video}")
        with open_video(path) as reader:
            return reader.read([second - movie_start], short_side=288).frames[0]

    return frame_at
