"""The handlers: what each instruction does, in restricted Python.

To add one, write a function in the module of its family and decorate it with `handles`, naming the instruction as
the specification does. Most are only an operation on values, and a template of `operands` does the rest.
"""

from __future__ import annotations

from fastmodel.handlers import arithmetic, branches, conditional, logic, moves, shift, stack
from fastmodel.handlers.registry import HANDLERS, Handler

FAMILIES = (arithmetic, logic, shift, moves, stack, branches, conditional)

__all__ = ["FAMILIES", "HANDLERS", "Handler"]
