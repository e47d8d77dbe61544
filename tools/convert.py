"""`python tools/convert.py ...` is `avadet convert ...`, for those who run scripts by path."""

import sys

from avadet.cli import main

sys.exit(main(["convert", *sys.argv[1:]]))
