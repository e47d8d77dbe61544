"""`python tools/eval.py ...` is `avadet eval ...`, for those who run scripts by path."""

import sys

from avadet.cli import main

sys.exit(main(["eval", *sys.argv[1:]]))
