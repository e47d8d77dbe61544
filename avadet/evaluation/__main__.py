"""``python -m avadet.evaluation``: scores files without importing torch."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence

from avadet.errors import UserError
from avadet.evaluation.ava import frame_map
from avadet.evaluation.protocols import PROTOCOLS
from avadet.evaluation.show import print_frame_map
from avadet.files import write_json


def _add_ava(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("ava", help="AVA frame-mAP at IoU 0.5 under a named protocol")
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
    parser.add_argument("--json", metavar="OUT", help="write the result here")
    parser.add_argument(
        "--timings", action="store_true", help="print seconds taken by stage, as one JSON line"
    )
    parser.set_defaults(run=_run_ava)


def _run_ava(args: argparse.Namespace) -> int:
    result = frame_map(
        args.groundtruth, args.detections, args.labelmap, args.excluded, args.protocol
    )
    print_frame_map(result)
    if args.json:
        write_json(args.json, result.to_json())
    if args.timings:
        print("timings " + json.dumps(result.seconds))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m avadet.evaluation", description="Scores action detections and more."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_ava(commands)
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        return int(args.run(args))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
