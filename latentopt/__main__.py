"""`python -m latentopt`."""

import sys

from latentopt.cli import main

sys.exit(main())
