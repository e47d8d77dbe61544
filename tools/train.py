"""`python tools/train.py ...` is `avadet train ...`, for those who run scripts by path."""

import sys

from avadet.cli import main

sys.exit(main(["train", *sys.argv[1:]]))
