"""The instruction forms that theorems are stated for.

A form is an instruction with operand widths and a kind for each operand. Register numbers, addresses and immediates
stay symbolic, so that one form covers all encodings of its kind.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import refmodel.forms
from grammar import ir
from grammar.widths import CODE_SIZES
from refmodel.registers import BY_NAME, GENERAL, Register


class Place(enum.StrEnum):
    """Where an operand's value is."""

    REGISTER = "register"
    MEMORY = "memory"
    VALUE = "value"  # in the instruction itself
    NUMBER = "number"  # nowhere: a control, debug or segment register, known by its number only


_SIZES = (32, 64, 16)
"""Operand sizes, those that need no prefix first: a form is shown in its plainest encoding."""


@dataclass(frozen=True, slots=True)
class OperandKind:
    """One operand of a form.

    `fixed` is its register number or value if the encoding fixes it; of memory, the register with its address. `limit`
    is the number of registers it can name, of memory that of segment registers.
    """

    name: str
    place: Place
    width: int | None
    fixed: int | None = None
    limit: int = 16


@dataclass(frozen=True, slots=True)
class Form:
    """An instruction with widths and kinds of operands; `encoded` has for each size of code a row that is it."""

    instruction: ir.Instruction
    body: ir.InstructionBody
    kinds: tuple[OperandKind, ...]
    encoded: dict[int, refmodel.forms.Form]

    @property
    def name(self) -> str:
        """`ADD/r64,m64`, or just `HLT`."""
        operands = ",".join(kind.name for kind in self.kinds)
        return f"{self.instruction.name}/{operands}" if operands else self.instruction.name


_latest: dict[int, tuple[ir.Program, dict[str, list[Form]]]] = {}


def forms_by_instruction(program: ir.Program) -> dict[str, list[Form]]:
    """The forms of each instruction; one that another covers (rAX where any register may stand) is left out.

    Those of the latest program are remembered, since several families ask one after the other.
    """
    if id(program) not in _latest:
        _latest.clear()
        _latest[id(program)] = program, _find_forms(program)  # with the program: its identity stays its own
    return _latest[id(program)][1]


def _find_forms(program: ir.Program) -> dict[str, list[Form]]:
    found: dict[str, dict[tuple[OperandKind, ...], Form]] = {name: {} for name in program.instructions}
    for code_size in CODE_SIZES:
        for encoded in sorted(
            refmodel.forms.forms(program, code_size), key=lambda one: _SIZES.index(one.size)
        ):
            for form in _forms_of(encoded):
                known = found[form.instruction.name].setdefault(form.kinds, form)
                known.encoded.setdefault(code_size, encoded)
    return {
        name: [form for form in forms.values() if not any(_covers(o, form) for o in forms.values())]
        for name, forms in found.items()
    }


def _forms_of(encoded: refmodel.forms.Form) -> Iterator[Form]:
    widths = encoded.widths()
    choices = [_kinds(code, width) for code, width in zip(encoded.pattern.operands, widths, strict=True)]
    for kinds in product(*choices):
        is_allowed = encoded.pattern.mode == "any" or not any(
            code.kind == "rm" and (kind.place is Place.MEMORY) == (encoded.pattern.mode == "register")
            for code, kind in zip(encoded.pattern.operands, kinds, strict=True)
        )
        if is_allowed:
            yield Form(encoded.instruction, encoded.instruction.body(widths), kinds, {})


def _kinds(code: ir.OperandCode, width: int | None) -> tuple[OperandKind, ...]:
    """What an operand code can stand for."""
    bits = width or ""
    register = OperandKind(f"r{bits}", Place.REGISTER, width)
    memory = OperandKind(f"m{bits}", Place.MEMORY, width, limit=6)
    match code.kind:
        case "rm":
            return (register, memory)
        case "rm_memory" | "offset":
            return (memory,)
        case "memory_at":
            return (replace(memory, fixed=code.register),)
        case "es_memory_at":
            return (replace(memory, fixed=code.register, limit=1),)
        case "rm_register" | "rm_as_register" | "reg" | "opcode_register":
            return (register,)
        case "immediate" | "signed_immediate":
            return (OperandKind(f"imm{bits}", Place.VALUE, width),)
        case "relative":
            return (OperandKind(f"rel{bits}", Place.VALUE, width),)
        case "one":
            return (OperandKind("1", Place.VALUE, width, fixed=1),)
        case "register":
            return (OperandKind(_fixed_name(code, width), Place.REGISTER, width, fixed=code.register),)
        case "control_register":
            return (OperandKind("cr", Place.NUMBER, width),)
        case "debug_register":
            return (OperandKind("dr", Place.NUMBER, width, limit=8),)
        case "segment_register":
            return (OperandKind("sreg", Place.NUMBER, width, limit=6),)
    raise ValueError(f"unknown kind of operand: {code.kind}")


def _fixed_name(code: ir.OperandCode, width: int | None) -> str:
    """`eax` for rAX at 32 bits; the code's own name for what is no single general register (EDX:EAX)."""
    register = Register(GENERAL, code.register or 0, width or 0)
    return str(register) if register in BY_NAME.values() else code.name.lower()


def _covers(general: Form, special: Form) -> bool:
    """Whether `general` is `special` with a symbolic register or value in place of a fixed one."""
    return general is not special and all(
        a == b or (a.place is b.place and a.width == b.width and a.fixed is None and b.fixed is not None)
        for a, b in zip(general.kinds, special.kinds, strict=True)
    )
