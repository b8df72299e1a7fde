"""The forms of instructions: each row of the opcode tables at each operand size, as it is written."""

from __future__ import annotations

from dataclasses import dataclass

from grammar.ir import EncodingRow, Instruction, OperandCode, Program
from grammar.widths import operand_size, operand_width
from refmodel.addressing import ES
from refmodel.encoding import Pattern, pattern
from refmodel.operands import Immediate, Memory, Operand
from refmodel.registers import GENERAL, Register
from refmodel.syntax import Template, template


@dataclass(frozen=True, slots=True)
class Form:
    """An instruction in one of its encodings at one operand size, in code of one size."""

    instruction: Instruction
    pattern: Pattern
    size: int
    template: Template
    code_size: int = 64

    @property
    def row(self) -> EncodingRow:
        """The row of the opcode table."""
        return self.pattern.row

    def widths(self) -> tuple[int | None, ...]:
        """The widths of the operands' values."""
        return self.pattern.widths(self.size)

    @property
    def is_wide(self) -> bool:
        """Whether REX.W gives the operand size."""
        return self.size == 64 and operand_size(self.row, self.code_size, is_prefixed=False) != 64

    @property
    def is_prefixed(self) -> bool:
        """Whether the prefix 66 gives the operand size."""
        return not self.is_wide and self.size != operand_size(self.row, self.code_size, is_prefixed=False)


def forms(program: Program, code_size: int = 64) -> list[Form]:
    """Every form of every instruction in code of a size, in the order of the specification."""
    result = []
    for instruction in program.instructions.values():
        bodies = {body.widths for body in instruction.bodies}
        for row in instruction.rows:
            shape = pattern(row, program.operands)
            result += [
                Form(instruction, shape, size, template(instruction, shape.widths(size)), code_size)
                for size in shape.operand_sizes(code_size)
                if shape.widths(size) in bodies
            ]
    return result


def bind(form: Form, operands: tuple[Operand, ...]) -> dict[str, Operand] | None:
    """The operands by parameter name, None if the form is written differently."""
    written = form.template.operands
    if len(written) != len(operands):
        return None
    bound: dict[str, Operand] = {}
    for place, operand in zip(written, operands, strict=True):
        if isinstance(place, str):
            bound[place] = operand
        elif place != operand:
            return None
    for name, code in zip(form.instruction.operands, form.pattern.operands, strict=True):
        if name not in bound:
            bound[name] = implied(code, form.size)
    return bound


def implied(code: OperandCode, size: int) -> Operand:
    """What an operand that is not written stands for: a fixed register, memory at one, the constant 1, any register."""
    if code.kind == "one":
        return Immediate(1)
    number = 0 if code.kind == "rm_register" else code.register
    if number is None:
        raise ValueError(f"operand code {code.name} cannot be left out of the syntax")
    if code.kind.endswith("memory_at"):
        segment = ES if code.kind == "es_memory_at" else None
        return Memory(number, width=operand_width(code, size), segment=segment)
    width = code.width if isinstance(code.width, int) else size
    return Register(GENERAL, number, width)
