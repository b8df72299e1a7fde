"""Which instructions of a specification the fast model executes itself, and how it runs the others."""

from __future__ import annotations

from importlib.util import find_spec

from fastmodel.table import table_of
from grammar.ir import Program


def coverage(program: Program) -> dict[str, bool]:
    """Which instructions of a specification have a handler."""
    handled = table_of(program).handled
    return {name: name in handled for name in program.instructions}


def ways(program: Program) -> dict[str, str]:
    """How guests' instructions run: by a "handler", "compiled" from the specification, or in the "reference"."""
    otherwise = "compiled" if find_spec("llvmlite") else "reference"
    return {name: "handler" if covered else otherwise for name, covered in coverage(program).items()}
