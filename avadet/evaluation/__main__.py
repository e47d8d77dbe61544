"""``python -m avadet.evaluation``: scores files without importing torch."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from avadet.errors import UserError
from avadet.evaluation.ava import evaluate_tables, frame_map
from avadet.evaluation.ava_io import read_boxes, read_excluded, read_label_map
from avadet.evaluation.protocols import PROTOCOLS
from avadet.evaluation.show import percent, print_frame_map
from avadet.files import write_json

_Commands = Any


def _add(
    commands: _Commands, name: str, about: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=about, description=about)
    parser.set_defaults(run=run)
    parser.add_argument("--json", metavar="OUT", help="write the result here")
    return parser


def _add_ava(commands: _Commands) -> None:
    parser = _add(commands, "ava", "AVA frame-mAP at IoU 0.5 under a named protocol", _run_ava)
    parser.add_argument("--groundtruth", required=True, help="CSV, CSV.GZ or Parquet")
    parser.add_argument("--detections", required=True, help="CSV, CSV.GZ or Parquet")
    parser.add_argument("--labelmap", help="pbtxt of the scored classes (default: the 60 of AVA)")
    parser.add_argument("--excluded", help="CSV of excluded video_id,timestamp")
    parser.add_argument(
        "--protocol",
        default="official",
        choices=[*PROTOCOLS, "all"],
        help="whose number; 'all' prints every one (default: official)",
    )
    parser.add_argument(
        "--timings", action="store_true", help="print seconds taken by stage, as one JSON line"
    )


def _run_ava(args: argparse.Namespace) -> int:
    if args.protocol == "all":
        return _run_every_protocol(args)
    result = frame_map(
        args.groundtruth, args.detections, args.labelmap, args.excluded, args.protocol
    )
    _save(args, result.to_json())
    print_frame_map(result)
    if args.timings:
        print("timings " + json.dumps(result.seconds))
    return 0


def _run_every_protocol(args: argparse.Namespace) -> int:
    classes = read_label_map(args.labelmap)
    truth, found = read_boxes(args.groundtruth), read_boxes(args.detections)
    excluded = None if args.excluded is None else read_excluded(args.excluded)
    results: dict[str, Any] = {}
    for name, protocol in PROTOCOLS.items():
        if name != protocol.name:
            continue
        try:
            result = evaluate_tables(truth, found, classes, excluded, protocol)
        except UserError as error:
            print(f"{name:<11} refused: {error}")
            results[name] = {"error": str(error)}
            continue
        print(f"{name:<11} {percent(result.mAP):>7}  {protocol.origin}")
        results[name] = result.to_json()
    _save(args, results)
    return 0


def _add_persons(commands: _Commands) -> None:
    parser = _add(commands, "persons", "person boxes: COCO AP and AP at IoU 0.5", _run_persons)
    parser.add_argument("--groundtruth", required=True, help="AVA ground truth")
    parser.add_argument(
        "--detections", required=True, help="CSV rows video,timestamp,x1,y1,x2,y2,label,score"
    )
    parser.add_argument("--excluded", help="CSV of excluded video_id,timestamp")


def _run_persons(args: argparse.Namespace) -> int:
    from avadet.evaluation.persons import person_ap_files

    result = person_ap_files(args.groundtruth, args.detections, args.excluded)
    _save(args, result.to_json())
    print(
        f"person AP {percent(result.AP)}, AP50 {percent(result.AP50)}, AP75 {percent(result.AP75)}"
    )
    print(f"{result.num_gt} persons, {result.num_det} boxes on {result.num_frames} keyframes")
    return 0


def _add_charades(commands: _Commands) -> None:
    parser = _add(commands, "charades", "Charades classification or localisation", _run_charades)
    parser.add_argument("--groundtruth", required=True, help="Charades_v1_test.csv")
    parser.add_argument("--scores", required=True, help="submission: id and 157 scores a line")
    parser.add_argument("--protocol", default="official", choices=["official", "pyslowfast"])
    parser.add_argument("--localize", action="store_true", help="25 points per video")


def _run_charades(args: argparse.Namespace) -> int:
    from avadet.evaluation import charades

    truth = charades.read_groundtruth(args.groundtruth)
    if args.localize:
        points: Any = charades.read_scores(args.scores, localize=True)
        result = charades.localization_map(truth, points)
    else:
        scores: Any = charades.read_scores(args.scores)
        result = charades.classification_map(truth, scores, args.protocol)
    _save(args, result.to_json())
    print(f"charades, {result.protocol}: mAP {percent(result.mAP)}, WAP {percent(result.WAP)}")
    return 0


def _add_topk(commands: _Commands) -> None:
    parser = _add(commands, "topk", "top-1 and top-5 accuracy over several views", _run_topk)
    parser.add_argument("--scores", required=True, help="CSV rows video,label,score,score,...")
    parser.add_argument("--views", default="sum", choices=["sum", "max"], help="how views combine")


def _run_topk(args: argparse.Namespace) -> int:
    from avadet.evaluation.topk import topk_file

    result = topk_file(args.scores, method=args.views)
    _save(args, result.to_json())
    text = ", ".join(f"top-{k} {percent(value)}" for k, value in result.accuracy.items())
    print(f"{text} on {result.num_videos} videos with up to {result.num_views} views")
    return 0


def _add_tubes(commands: _Commands) -> None:
    parser = _add(commands, "tubes", "video-mAP of action tubes", _run_tubes)
    parser.add_argument(
        "--groundtruth", required=True, help="CSV rows video,label,tube,frame,x1,y1,x2,y2"
    )
    parser.add_argument("--detections", required=True, help="alike, with score")
    parser.add_argument("--convention", default="trapezoid", choices=["trapezoid", "voc"])


def _run_tubes(args: argparse.Namespace) -> int:
    from avadet.evaluation.tubes import read_tubes, video_map

    truth, found = read_tubes(args.groundtruth), read_tubes(args.detections)
    result = video_map(truth, found, convention=args.convention)
    _save(args, result.to_json())
    for threshold, value in result.mAP.items():
        print(f"video-mAP at {threshold}, {result.convention}: {percent(value)}")
    print(f"video-mAP at 0.5:0.95, {result.convention}: {percent(result.mAP_coco)}")
    return 0


def _save(args: argparse.Namespace, value: Any) -> None:
    if args.json:
        write_json(args.json, value)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m avadet.evaluation", description="Scores action detections and more."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_add_ava, _add_persons, _add_charades, _add_topk, _add_tubes):
        add(commands)
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        return int(args.run(args))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of the printed lines has seen enough; results in files are written before.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  nothing is left to be flushed
        return 0


if __name__ == "__main__":
    sys.exit(main())
