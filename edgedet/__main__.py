"""``python -m edgedet``."""

import sys

from .cli import main

sys.exit(main())
