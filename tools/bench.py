"""`python tools/bench.py ...` is `avadet bench ...`, for those who run scripts by path."""

import sys

from avadet.cli import main

sys.exit(main(["bench", *sys.argv[1:]]))
