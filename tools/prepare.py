"""`python tools/prepare.py ...` is `avadet prepare ...`, for those who run scripts by path."""

import sys

from avadet.cli import main

sys.exit(main(["prepare", *sys.argv[1:]]))
