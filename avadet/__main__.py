"""``python -m avadet``."""

import sys

from avadet.cli import main

sys.exit(main())
