"""The operands of an instruction as written: a register, a memory operand or a number."""

from __future__ import annotations

from dataclasses import dataclass

from refmodel.registers import Register


@dataclass(frozen=True, slots=True)
class Memory:
    """`segment:[base + index*scale + displacement]`.

    Absent parts are None. `width` in bits is None where the text does not say it. `relative` means that
    `displacement` is an absolute address to be reached from RIP; `address_width` is 64 or 32 (prefix 67).
    """

    base: int | None = None
    index: int | None = None
    scale: int = 1
    displacement: int = 0
    width: int | None = None
    segment: int | None = None
    relative: bool = False
    address_width: int = 64


@dataclass(frozen=True, slots=True)
class Immediate:
    """A number: an immediate operand, or the absolute target of a branch.

    `width` in bits is what the text asks for (`byte 5`), None if it does not; of a branch, how long its
    displacement is to be (`short` 8, `near` 32).
    """

    value: int
    width: int | None = None


Operand = Register | Memory | Immediate
