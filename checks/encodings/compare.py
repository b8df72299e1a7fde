"""One code at a time: what the opcode tables make of it, and what iced-x86 does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import iced_x86
from iced_x86 import OpKind

from checks.encodings.enumerate import Code
from checks.encodings.known import KNOWN, LOW_PARTS, OTHER_NAMES, UNCOMPARED
from grammar.ir import Instruction, Program
from refmodel.access import ImmediateAccess, OperandAccess, RelativeAccess
from refmodel.decoder import Decoded, Decoder, NotModelled, opcode_rows
from refmodel.forms import forms
from refmodel.model import build
from refmodel.operands import Immediate, Memory
from refmodel.registers import GENERAL, Register
from refmodel.syntax import Template, template

ADDRESS = 0x40_0000
FS = 4
_MNEMONICS = {
    value: name.lower() for name, value in vars(iced_x86.Mnemonic).items() if isinstance(value, int)
}
_REGISTERS = {
    value: name.lower() for name, value in vars(iced_x86.Register).items() if isinstance(value, int)
}
_NEAR = (OpKind.NEAR_BRANCH16, OpKind.NEAR_BRANCH32, OpKind.NEAR_BRANCH64)
Widths = tuple[int | None, ...]
_FAR = (OpKind.FAR_BRANCH16, OpKind.FAR_BRANCH32)  # one operand there, a selector and an offset here


@dataclass(frozen=True, slots=True)
class Difference:
    """A code that the two decoders read differently; `reason` is why that is right, empty if it is not known."""

    code: bytes
    ours: str
    theirs: str
    reason: str

    def __str__(self) -> str:
        return f"{self.code.hex(' ')}: {self.ours}; iced-x86: {self.theirs}"


@dataclass(slots=True)
class Comparison:
    """Compares codes for code of one size; `agreed` counts those that both read as the same instruction.

    `plain` are the opcodes without a ModR/M byte.
    """

    program: Program
    code_size: int = 64
    agreed: int = 0
    plain: frozenset[tuple[bytes, int]] = field(init=False)
    _decoder: Decoder = field(init=False)
    _rows: frozenset[tuple[bytes, int]] = field(init=False)
    _mnemonics: frozenset[str] = field(init=False)
    _templates: dict[tuple[str, Widths], Template] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._decoder = build(self.program).decoders[self.code_size]
        rows = opcode_rows(self.program)
        self._rows = frozenset(rows)
        self.plain = frozenset(at for at, found in rows.items() if not any(row.has_modrm for row, _ in found))
        self._mnemonics = frozenset(
            m for form in forms(self.program, self.code_size) for m in form.template.mnemonics
        )

    def differences(self, codes: Iterable[Code]) -> Iterator[Difference]:
        """The codes that are read differently."""
        for escape, opcode, code in codes:
            theirs = iced_x86.Decoder(self.code_size, code, ip=ADDRESS).decode()
            mnemonic = _MNEMONICS[theirs.mnemonic]
            if mnemonic in ("call", "jmp") and _is_far(theirs):
                mnemonic = f"l{mnemonic}"
            mnemonic = OTHER_NAMES.get(mnemonic, mnemonic)
            ours = self._decode(code) if (escape, opcode) in self._rows else None
            is_ours = ours is not None and ours.instruction is not None
            if not is_ours and mnemonic not in self._mnemonics:
                continue
            problem = self._problem(ours, theirs, mnemonic)
            if problem is None:
                self.agreed += 1
                continue
            name = ours.instruction.name if ours is not None and ours.instruction is not None else ""
            reason = next((k.reason for k in KNOWN if k.matches(name, theirs, self.code_size)), "")
            yield Difference(code, problem, str(theirs) or "invalid", reason)

    def _decode(self, code: bytes) -> Decoded | None:
        try:
            return self._decoder.decode(code)
        except NotModelled:
            return None
        finally:
            self._decoder.known.clear()

    def _problem(self, ours: Decoded | None, theirs: iced_x86.Instruction, mnemonic: str) -> str | None:
        """What is different, None if nothing is."""
        if ours is None:
            return "not modelled"
        if ours.instruction is None or ours.pattern is None:
            return "#UD"
        name = ours.instruction.name
        written = self._template(ours.instruction, ours.pattern.widths(ours.size))
        if mnemonic not in written.mnemonics:
            return name
        if ours.length != theirs.len:
            return f"{name} of {ours.length} bytes"
        if (name, ours.size) in UNCOMPARED:
            return None
        if name in LOW_PARTS:
            return None if _same_numbers(ours, theirs) else f"{name} with other operands"
        by_name = dict(zip(ours.instruction.operands, ours.operands, strict=True))
        shown = [(i, by_name[place]) for i, place in enumerate(written.operands) if isinstance(place, str)]
        same = all(_same(access, ours.length, theirs, i) for i, access in shown)
        if not same and name == "XCHG":  # the order of its operands means nothing
            same = all(_same(access, ours.length, theirs, 1 - i) for i, access in shown)
        return None if same else f"{name} with other operands"

    def _template(self, instruction: Instruction, widths: Widths) -> Template:
        """How an instruction is written with operands of these widths; each is made once."""
        key = instruction.name, widths
        if key not in self._templates:
            self._templates[key] = template(instruction, widths)
        return self._templates[key]


def _is_far(theirs: iced_x86.Instruction) -> bool:
    return (
        theirs.is_call_far or theirs.is_call_far_indirect or theirs.is_jmp_far or theirs.is_jmp_far_indirect
    )


def _same_numbers(ours: Decoded, theirs: iced_x86.Instruction) -> bool:
    """Whether the register operands have the same numbers."""
    return all(
        iced_x86.RegisterExt.number(theirs.op_register(index)) == access.written.number
        for index, access in enumerate(ours.operands)
        if isinstance(access.written, Register)
    )


def _same(access: OperandAccess, length: int, theirs: iced_x86.Instruction, index: int) -> bool:
    """Whether an operand is the same."""
    kind = theirs.op_kind(0) if theirs.op_count == 1 else OpKind.REGISTER
    if kind not in _FAR and index >= theirs.op_count:
        return False
    kind = kind if kind in _FAR else theirs.op_kind(index)
    if isinstance(access, RelativeAccess):
        target = ADDRESS + length + access.distance & access.mask
        return kind in _NEAR and theirs.near_branch_target == target
    if kind in _FAR:
        return isinstance(access, ImmediateAccess) and access.value in (
            theirs.far_branch_selector,
            theirs.far_branch16 if kind == OpKind.FAR_BRANCH16 else theirs.far_branch32,
        )
    match access.written:
        case Register() as register:
            return kind == OpKind.REGISTER and _name(register) == _REGISTERS[theirs.op_register(index)]
        case Immediate(value=value, width=width):
            return (theirs.immediate(index) - value) % (1 << (width or 64)) == 0
        case Memory() as memory:
            return kind == OpKind.MEMORY and _same_memory(memory, length, theirs)


def _same_memory(memory: Memory, length: int, theirs: iced_x86.Instruction) -> bool:
    wrap = 1 << memory.address_width
    displacement = memory.displacement + (ADDRESS + length if memory.relative else 0)
    parts = (memory.base, memory.index)
    found = (theirs.memory_base, theirs.memory_index)
    if memory.relative:
        parts, found = (None, None), (iced_x86.Register.NONE, iced_x86.Register.NONE)
    names = [_name(Register(GENERAL, n, memory.address_width)) if n is not None else "none" for n in parts]
    fs = memory.segment == FS
    return (
        names == [_REGISTERS[register] for register in found]
        and (memory.index is None or memory.scale == theirs.memory_index_scale)
        and (displacement - theirs.memory_displacement) % wrap == 0
        and fs == (theirs.memory_segment == iced_x86.Register.FS)
    )


def _name(register: Register) -> str:
    """A register as iced-x86 calls it."""
    name = str(register)
    return f"r{register.number}l" if register.width == 8 and register.number > 7 else name
