"""``python -m committee`` is ``committee``."""

import sys

from committee.cli import main

sys.exit(main())
