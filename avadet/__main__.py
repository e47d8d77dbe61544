"""``python -m avadet``."""

from avadet.cli import run

run()
