"""`python -m checks` is `nonroot`."""

import sys

from checks.cli import script

sys.exit(script())
