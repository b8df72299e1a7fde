"""Operands of instructions, drawn together with the registers and the memory that they need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from checks.fuzz.bases import CODE, DATA, MEMORY_SIZE, PAGE_SIZE, SPECIAL_PAGES, STACK_TOP
from checks.fuzz.tables import Entry
from checks.fuzz.values import MASK_64, WIDTHS, boundaries
from grammar.ir import OperandCode
from refmodel.addressing import RSP
from refmodel.encoding import encoded_bits
from refmodel.forms import implied
from refmodel.operands import Immediate, Memory, Operand
from refmodel.registers import BY_NAME, CONTROL, DEBUG, GENERAL, HIGH_BYTE, SEGMENT, Register

_OFFSETS = (0, 1, 8, 0x104, 0x7F9, 0xA00, *(PAGE_SIZE - before for before in (16, 8, 7, 3, 1)))
_PAGES = (*(DATA,) * 10, CODE, *(special.address for special in SPECIAL_PAGES))
_NOT_CANONICAL = (1 << 47, (1 << 47) - 4, MASK_64, MASK_64 - 7)

# Addresses at which something can happen.
TARGETS = (*(page + offset for page in _PAGES for offset in _OFFSETS), *_NOT_CANONICAL)

_DISPLACEMENTS = (0, 0, 1, -1, 0x7F, -0x80, 0x80, 0x1000, -0x7FFFFFFF)
_ADDRESS_HIGH = 0xFFFFFFFF << 32
_FS = 4

# A memory operand: its index register's scale, None for no index, 0 for an address relative to RIP.
_SHAPES = (None, None, None, None, 1, 2, 4, 8, 0)

_GENERAL = {
    width: [r for r in BY_NAME.values() if r.kind in (GENERAL, HIGH_BYTE) and r.width == width]
    for width in WIDTHS
}
_SPECIAL = {
    name: [r for r in BY_NAME.values() if r.kind == kind]
    for name, kind in (
        ("control_register", CONTROL),
        ("debug_register", DEBUG),
        ("segment_register", SEGMENT),
    )
}


@dataclass
class Draft:
    """A case in the making: what it changes in the machine so far, its code, and how many steps that takes.

    `address` is where it starts, `targets` the addresses that its memory operands may have, `names` its instructions;
    `values` are the items of `state` that are numbers to calculate with, not addresses; `operands` are addresses in
    memory that it uses, `entries` page-table entries that it changes.
    """

    source: Random
    address: int
    targets: Sequence[int]
    state: dict[str, int] = field(default_factory=dict)
    memory: dict[int, bytes] = field(default_factory=dict)
    code: bytes = b""
    steps: int = 0
    names: list[str] = field(default_factory=list)
    values: set[str] = field(default_factory=set)
    operands: list[int] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)

    @property
    def next_address(self) -> int:
        """Where the next instruction will stand."""
        return self.address + len(self.code)

    def put(self, address: int, value: int) -> None:
        """Gives a 64-bit word of memory a value; where something stands already, that stays."""
        if address <= MEMORY_SIZE - 8:
            self.memory.setdefault(address, value.to_bytes(8, "little"))

    def put_on_stack(self, value: int) -> None:
        """Gives the top of the stack a value."""
        self.put(self.state.get(f"GPR[{RSP}]", STACK_TOP), value)

    def new_content(self, special: Sequence[int]) -> bytes:
        """Another value for a word of memory."""
        return draw_value(self.source, special).to_bytes(8, "little")

    def set_value(self, number: int | None, value: int) -> None:
        """Gives a general register a number to calculate with, if it has no value yet."""
        name = f"GPR[{number}]"
        if name not in self.state:
            self.state[name] = value
            self.values.add(name)


def draw_value(source: Random, special: Sequence[int]) -> int:
    """A 64-bit number: a special one, or any of any length."""
    chance = source.random()
    if chance < 0.5:
        return source.choice(special)
    return source.getrandbits(64 if chance < 0.8 else source.randrange(1, 64))


class Operands:
    """Draws the operands of one instruction; `special` are the values at which its text changes course."""

    def __init__(self, draft: Draft, special: Sequence[int]) -> None:
        self._draft = draft
        self._source = draft.source
        self._special = special
        self._used: list[Register] = []

    def operand(self, code: OperandCode, width: int | None, size: int) -> Operand:
        """An operand that the code allows."""
        match code.kind:
            case "reg" | "opcode_register" | "rm_register" | "rm_as_register":
                return self._register(width)
            case "rm" | "rm_memory":
                if code.kind == "rm" and self._source.random() < 0.5:
                    return self._register(width)
                return self._memory(width)
            case "register":
                self._draft.set_value(code.register, self.value())
                return implied(code, size)
            case "memory_at" | "es_memory_at":
                self._draft.state[f"GPR[{code.register}]"] = self._target()
                self._draft.values.discard(f"GPR[{code.register}]")
                return implied(code, size)
            case "one":
                return implied(code, size)
            case "control_register" | "debug_register" | "segment_register":
                return self._source.choice(_SPECIAL[code.kind])
            case "relative":
                return Immediate(self._draft.next_address + self._source.randrange(-8, 25))
            case "offset":
                return Memory(displacement=self._target(), width=width)
        bits = encoded_bits(code, size)
        value = self.value() & (1 << bits) - 1
        signed = value - (1 << bits) if value >> bits - 1 else value
        return Immediate(signed if code.kind == "signed_immediate" else value)

    def value(self) -> int:
        """A 64-bit number: a special one, or any of any length."""
        return draw_value(self._source, self._special)

    def _register(self, width: int | None) -> Register:
        """Any register; more often than by chance one that the instruction uses already."""
        choices = _GENERAL[width or 64]
        aliases = [r for r in self._used if r.width == (width or 64)]
        register = self._source.choice(aliases if aliases and self._source.random() < 0.15 else choices)
        self._used.append(register)
        number = register.number & 3 if register.kind == HIGH_BYTE else register.number
        self._draft.set_value(number, self.value())
        return register

    def _target(self) -> int:
        """An address of memory, which gets a value that matters as often as not."""
        target = self._source.choice(self._draft.targets)
        self._draft.operands.append(target)
        if self._source.random() < 0.5:
            self._draft.put(target, self.value())
        return target

    def _number(self) -> int:
        """The number of a register for an address; sometimes that of an operand."""
        if self._used and self._source.random() < 0.15:
            return self._used[-1].number & 15
        return self._source.randrange(16)

    def _memory(self, width: int | None) -> Memory:
        """A memory operand; its base register is such that the address is one of the interesting ones."""
        source, state = self._source, self._draft.state
        target, shape = self._target(), source.choice(_SHAPES)
        if shape == 0:
            near = target if target >> 31 == 0 else DATA
            return Memory(displacement=near, width=width, relative=True)
        displacement, base, index = source.choice(_DISPLACEMENTS), self._number(), None
        offset = displacement
        if shape is not None:
            index = source.randrange(16)
            if index in (RSP, base):
                index = None
            else:
                offset += shape * state.setdefault(f"GPR[{index}]", source.choice(boundaries()))
        is_short = source.random() < 0.06
        high = source.getrandbits(64) & _ADDRESS_HIGH if is_short else 0
        start = (target - offset & (~_ADDRESS_HIGH if is_short else MASK_64)) & MASK_64 | high
        state.setdefault(f"GPR[{base}]", start)
        return Memory(
            base=base,
            index=index,
            scale=shape if index is not None and shape is not None else 1,
            displacement=displacement,
            width=width,
            segment=_FS if source.random() < 0.06 else None,
            address_width=32 if is_short else 64,
        )
