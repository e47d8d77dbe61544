"""`python demo/demo.py ...` is `avadet demo ...`, for those who run scripts by path."""

import sys

from avadet.cli import main

sys.exit(main(["demo", *sys.argv[1:]]))
