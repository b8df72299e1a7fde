"""A model of the solver as concrete values: start states, operands, the instruction's bytes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import cast

import z3

from checks.symbolic.evaluate import Evaluator
from checks.symbolic.state import State
from checks.symbolic.values import Point, Value, leaves
from checks.trap.forms import OperandKind, Place
from checks.trap.operands import OperandSymbols
from checks.trap.runs import Run
from grammar import ir
from refmodel.encoder import Encoder
from refmodel.encoding import REP
from refmodel.forms import Form
from refmodel.operands import Immediate, Memory, Operand
from refmodel.registers import CONTROL, DEBUG, GENERAL, HIGH_BYTE, SEGMENT, Register
from refmodel.text import operand_text

SS, DS, FS, RBX, RBP = 2, 3, 4, 3, 5
_SPECIAL = {"cr": CONTROL, "dr": DEBUG, "sreg": SEGMENT}


@dataclass(frozen=True, slots=True)
class Concrete:
    """Values under one model; what the model leaves open is zero."""

    model: z3.ModelRef

    def number(self, value: Value) -> int:
        """A bit vector or truth value as a number."""
        if isinstance(value, (int, bool)):
            return int(value)
        result = self.model.eval(cast(z3.ExprRef, value), model_completion=True)
        return int(z3.is_true(result)) if z3.is_bool(result) else int(result.as_long())

    def holds(self, condition: Value) -> bool:
        """Whether a condition is true."""
        return self.number(condition) == 1

    def point(self, point: Point) -> tuple[int, ...]:
        """The indices of an element."""
        return tuple(self.number(index) for index in point)

    def start(self, run: Run) -> dict[str, int]:
        """A run's start state by item: every register and VMCS field, of indexed ones the elements that it uses."""
        return self.items(run.start, run.evaluator)

    def items(self, state: State, evaluator: Evaluator) -> dict[str, int]:
        """A state by item: every register and VMCS field, of indexed ones the elements that the evaluator used."""
        found: dict[str, int] = {}
        for variable in evaluator.program.state.values():
            if variable.space not in ("register", "vmcs") or isinstance(variable.type, ir.Struct):
                continue
            for point in (
                evaluator.touched.points.get(variable.name, {}).values() if variable.indices else [()]
            ):
                elements = state.elements(variable.name) if point else None
                value = elements.read(point) if elements is not None else state.get(variable.name)
                found[item(variable.name, self.point(point))] = self.number(value)
        return found

    def bytes_read(self, run: Run, memory: str) -> dict[int, int]:
        """The bytes that a run's start state has at the addresses it accesses, and the fifteen behind each."""
        state: State = run.start
        found: dict[int, int] = {}
        for point in run.evaluator.touched.points.get(memory, {}).values():
            address = self.number(point[0])
            for number in range(16):
                place = address + number & (1 << 64) - 1
                found[place] = self.number(state.elements(memory).read((place,)))
        return found


def item(name: str, indices: tuple[int, ...]) -> str:
    """`GPR[3]`: how a case file names an element."""
    return f"{name}[{','.join(str(index) for index in indices)}]" if indices else name


def show(value: int, type_: ir.Type) -> str:
    """A value as a reader wants it: a name, or a hexadecimal number and the names of the bits set in it."""
    if isinstance(type_, ir.Bool):
        return "true" if value else "false"
    if isinstance(type_, ir.Enum):
        return next((name for name, number in type_.members if number == value), f"{value:#x}")
    text = f"{value:#x}" if value > 9 else str(value)
    if isinstance(type_, ir.Bitfield) and value:
        bits = [m.name for m in type_.members if m.high == m.low and value >> m.low & 1]
        text += f" ({' '.join(bits)})" if bits else ""
    return text


def show_record(concrete: Concrete, value: Value, type_: ir.Type) -> str:
    """A value of any type; of a struct the fields that are not zero."""
    if not isinstance(type_, ir.Struct):
        return show(concrete.number(value), type_)
    parts = [(name, concrete.number(leaf), t) for name, leaf, t in leaves(value, type_)]
    return ", ".join(f"{name} {show(number, t)}" for name, number, t in parts if number) or "0"


_PADDING = 0x3E  # a prefix for DS: makes an instruction without a memory operand as long as the model has it


@dataclass(frozen=True, slots=True)
class Written:
    """The instruction of a counterexample: bytes, text, and the registers that hold its operands' addresses."""

    code: bytes
    text: str
    registers: dict[str, int]


def write_instruction(
    encoder: Encoder, concrete: Concrete, symbols: OperandSymbols, run: Run, rip: int
) -> Written | None:
    """The instruction as the model has it, None if there is no encoding for that."""
    used = {concrete.number(p[0]) for p in run.evaluator.touched.points.get("GPR", {}).values()}
    used |= {concrete.number(n) for n in symbols.numbers.values()}
    free = iter([n for n in (3, 6, 7, *range(8, 16), 0, 1, 2) if n not in used])
    operands: dict[str, Operand] = {}
    registers: dict[str, int] = {}
    for name, kind in symbols.kinds().items():
        if kind.place is Place.MEMORY:
            base = RBP if concrete.number(symbols.segments[name]) == SS else next(free, RBX)
            memory = operands[name] = _memory(concrete, symbols, name, base, kind)
            if memory.base is not None:
                registers[f"GPR[{memory.base}]"] = concrete.number(symbols.base_register(name))
        else:
            operands[name] = _operand(concrete, symbols, name, kind)
    encoded = _encoded(concrete, symbols)
    write = partial(encoder.for_code(encoded.code_size).encode_form, encoded, operands)
    code = write(rip, _prefix(concrete, symbols))
    if code is None:
        return None
    missing = 0 if registers else max(0, concrete.number(symbols.length) - len(code))
    padded = bytes((_PADDING,)) * missing + (write(rip + missing, _prefix(concrete, symbols)) or code)
    return Written(padded, _text(encoded, operands, rip), registers)


def _encoded(concrete: Concrete, symbols: OperandSymbols) -> Form:
    """The row of the opcode table in the code that the model has."""
    return symbols.form.encoded[concrete.number(symbols.code_size)]


def _prefix(concrete: Concrete, symbols: OperandSymbols) -> str:
    """The word for the prefix that repeats a string instruction."""
    attributes = _encoded(concrete, symbols).row.attributes
    repeat = concrete.number(symbols.repeat)
    if not repeat or not {"rep", "repe"}.intersection(attributes):
        return ""
    return "rep" if "rep" in attributes else "repe" if repeat == REP else "repne"


def _text(form: Form, operands: dict[str, Operand], following: int) -> str:
    written = form.template
    parts = [operands[one] if isinstance(one, str) else one for one in written.operands]
    return f"{written.mnemonics[0]} {', '.join(operand_text(part, following) for part in parts)}".rstrip()


def _memory(concrete: Concrete, symbols: OperandSymbols, name: str, base: int, kind: OperandKind) -> Memory:
    code = _encoded(concrete, symbols).pattern.operands[symbols.form.instruction.operands.index(name)]
    if code.kind == "offset":
        override = _override(concrete, symbols, name, None)
        return Memory(
            displacement=concrete.number(symbols.addresses[name]), width=kind.width, segment=override
        )
    if code.kind in ("memory_at", "es_memory_at"):
        base = code.register or 0
    override = _override(concrete, symbols, name, base) if code.kind != "es_memory_at" else None
    address_size = concrete.number(symbols.address_size)
    return Memory(base=base, width=kind.width, segment=override, address_width=address_size)


def _override(concrete: Concrete, symbols: OperandSymbols, name: str, base: int | None) -> int | None:
    """The segment that a prefix has to name; in 64-bit mode the others than FS and GS are one.  SDM 1 3.7.4"""
    segment = concrete.number(symbols.segments[name])
    default = SS if base == RBP else DS
    is_named = segment != default if concrete.number(symbols.code_size) != 64 else segment >= FS
    return segment if is_named else None


def _operand(concrete: Concrete, symbols: OperandSymbols, name: str, kind: OperandKind) -> Operand:
    if kind.place is Place.VALUE:
        return Immediate(concrete.number(symbols.values[name]))
    number = concrete.number(symbols.numbers[name])
    if kind.place is Place.NUMBER:
        return Register(_SPECIAL[kind.name], number, kind.width or 64)
    is_high = (
        kind.width == 8 and kind.fixed is None and 4 <= number < 8 and not concrete.holds(symbols.has_rex)
    )
    return Register(HIGH_BYTE if is_high else GENERAL, number, kind.width or 64)
