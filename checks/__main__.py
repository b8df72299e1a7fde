"""`python -m checks` is `nonroot`."""

import sys

from checks.cli import main

sys.exit(main())
