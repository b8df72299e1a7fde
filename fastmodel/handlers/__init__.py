"""The handlers: what each instruction does, in restricted Python.

To add one, write a function in the module of its family and decorate it with `handles`, naming the instruction as
the specification does. Most are only an operation on values, and a template of `operands` does the rest.
"""

from __future__ import annotations

from fastmodel.handlers import (
    arithmetic,
    bits,
    branches,
    conditional,
    exchange,
    flag_control,
    logic,
    moves,
    multiplication,
    rotate,
    shift,
    stack,
    strings,
)
from fastmodel.handlers.registry import HANDLERS, Handler

FAMILIES = (
    arithmetic,
    multiplication,
    logic,
    bits,
    shift,
    rotate,
    moves,
    exchange,
    stack,
    branches,
    conditional,
    flag_control,
    strings,
)

__all__ = ["FAMILIES", "HANDLERS", "Handler"]
