"""What a handler is specialised by."""

from __future__ import annotations

from collections.abc import Callable

from fastmodel.compiler.primitives import parameter

# Widths of the first and second operand, in bits.
WIDTH: int = parameter("WIDTH")
SECOND_WIDTH: int = parameter("SECOND_WIDTH")

# Where the operands are.
FIRST_KIND: int = parameter("FIRST_KIND")
SECOND_KIND: int = parameter("SECOND_KIND")
THIRD_KIND: int = parameter("THIRD_KIND")
KIND_NAMES = ("FIRST_KIND", "SECOND_KIND", "THIRD_KIND")
REGISTER = 0
MEMORY = 1
IMMEDIATE = 2
KINDS = {"r": REGISTER, "m": MEMORY, "i": IMMEDIATE}

# The number of the condition of Jcc.
CONDITION: int = parameter("CONDITION")

# What the template computes: (state, operands…) → result.
OPERATION: Callable[..., int] = parameter("OPERATION")
