"""AVA frame-mAP with the flags and the output of the official script.

    python evaluation/ava_frame_map.py -l labelmap.pbtxt -g groundtruth.csv -d detections.csv

``-e`` takes an exclusion list, ``--protocol`` reproduces another code base (see README.md here).
"""

from __future__ import annotations

import argparse
import pprint
import sys

from avadet.errors import UserError
from avadet.evaluation.ava import FrameMap, frame_map
from avadet.evaluation.protocols import PROTOCOLS


def official_metrics(result: FrameMap) -> dict[str, float]:
    """The dictionary that the official script prints; fractions, NaN without ground truth."""
    nan = float("nan")
    metrics = {"PascalBoxes_Precision/mAP@0.5IOU": nan if result.mAP is None else result.mAP}
    for row in result.per_class.values():
        name = f"PascalBoxes_PerformanceByCategory/AP@0.5IOU/{row.name}"
        metrics[name] = nan if row.AP is None else row.AP
    return metrics


def main() -> int:
    """Scores and prints; 2 on bad input."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-l", "--labelmap", help="label map (default: the 60 classes of AVA)")
    parser.add_argument("-g", "--groundtruth", required=True, help="CSV of the ground truth")
    parser.add_argument("-d", "--detections", required=True, help="CSV of the detections")
    parser.add_argument("-e", "--exclusions", help="CSV of excluded video_id,timestamp")
    parser.add_argument("--protocol", default="official", choices=list(PROTOCOLS))
    args = parser.parse_args()
    try:
        result = frame_map(
            args.groundtruth, args.detections, args.labelmap, args.exclusions, args.protocol
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    pprint.pprint(official_metrics(result), indent=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
