"""The specification: `*.isa` files, listed in reading order by `main.isa`.  This package only says where they are."""

from pathlib import Path

DIRECTORY = Path(__file__).parent
