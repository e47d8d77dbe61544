"""`python tools/detect.py ...` is `avadet detect ...`, for those who run scripts by path."""

import sys

from avadet.cli import main

sys.exit(main(["detect", *sys.argv[1:]]))
