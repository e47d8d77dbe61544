"""Charades mAP from the official file formats.

python evaluation/charades_map.py Charades_v1_test.csv submission.txt [--localize]
"""

from __future__ import annotations

import argparse
import sys

from avadet.evaluation.__main__ import main

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("groundtruth", help="Charades_v1_test.csv")
    parser.add_argument("scores", help="submission: id and 157 scores a line")
    parser.add_argument("--protocol", default="official", choices=["official", "pyslowfast"])
    parser.add_argument("--localize", action="store_true", help="25 points per video")
    args = parser.parse_args()
    command = ["charades", "--groundtruth", args.groundtruth, "--scores", args.scores]
    command += ["--protocol", args.protocol, *(["--localize"] if args.localize else [])]
    sys.exit(main(command))
