"""Random cases for the integer instructions: forms of the specification with operands that stay in bounds."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

from grammar.ir import OperandCode
from refmodel.encoder import Encoder
from refmodel.forms import Form, implied
from refmodel.model import Model
from refmodel.operands import Immediate, Memory, Operand
from refmodel.registers import GENERAL, HIGH_BYTE, Register

CODE, DATA, STACK = 0x10000, 0x20000, 0x30000
REGION = 0x1000  # bytes of each of these regions
ORIGIN = CODE + REGION // 2  # where the instruction stands
PAGE_TABLES = 0x1000
RCX, RBX, RSP, RBP = 1, 3, 4, 5
ADDRESS_HIGH = 0xFFFFFFFF << 32
CS = 1
BRANCHES = frozenset({"JMP", "CALL", "RET", "RET_RELEASE"})
BIT_TESTS = frozenset({"BT", "BTS", "BTR", "BTC"})
STATUS_FLAGS = 0xCD5  # CF PF AF ZF SF DF OF
INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 63)


def flat_machine(model: Model, cpl: int = 0) -> Any:
    """A machine in 64-bit mode whose linear addresses are physical ones."""
    m = model.machine(1 << 20)
    m.CR0, m.CR4, m.EFER, m.CR3 = 0x80050033, 0x20, 0x500, PAGE_TABLES
    m.PHYSICAL.write_64(PAGE_TABLES, PAGE_TABLES + 0x1000 | 0x27)  # present, writable, user, accessed
    m.PHYSICAL.write_64(PAGE_TABLES + 0x1000, 0xE7)  # and dirty, 1 GiB
    for segment in range(6):
        m.SEGMENT_RIGHTS[segment] = 0x93 | cpl << 5
    m.SEGMENT_RIGHTS[CS] = 0xA09B | cpl << 5
    return m


@dataclass
class Case:
    """One instruction at ORIGIN and the state it starts in; `content` fills the data region and the stack.

    `repeats` tells that it has a REP prefix.
    """

    form: Form
    code: bytes
    operands: dict[str, Operand]
    registers: list[int]
    flags: int
    content: bytes
    repeats: bool = False


@dataclass
class Cases:
    """Makes cases; the same seed makes the same ones."""

    encoder: Encoder
    source: random.Random = field(default_factory=lambda: random.Random(1))

    def number(self) -> int:
        """A 64-bit number, often one at which something changes."""
        match self.source.randrange(4):
            case 0:
                return self.source.choice(INTERESTING)
            case 1:
                return -self.source.choice(INTERESTING) % (1 << 64)
            case 2:
                return self.source.getrandbits(6)
            case _:
                return self.source.getrandbits(64)

    def case(self, form: Form) -> Case:
        """A case of this form."""
        for _ in range(1000):
            found = self._attempt(form)
            if found is not None:
                return found
        raise AssertionError(f"no operands found for {form.instruction.name} {form.row.span}")

    def _attempt(self, form: Form) -> Case | None:
        branches = form.instruction.name in BRANCHES
        registers = [self.number() for _ in range(16)]
        registers[RSP] = STACK + REGION // 2 + 8 * self.source.randrange(16)
        registers[RBP] = registers[RSP] + 8 * self.source.randrange(16)
        operands: dict[str, Operand] = {}
        for name, code, width in zip(
            form.instruction.operands, form.pattern.operands, form.widths(), strict=True
        ):
            operand = operands[name] = self._operand(code, width, registers, form.size)
            if branches and isinstance(operand, Register) and code.kind != "register":
                registers[operand.number] = self._target()
        if len({o.address_width for o in operands.values() if isinstance(o, Memory)}) > 1:
            return None  # one prefix is for all operands
        self._stay_in_bounds(form, operands, registers)
        prefix = self._prefix(form)
        if prefix:
            is_short = any(isinstance(o, Memory) and o.address_width == 32 for o in operands.values())
            registers[RCX] = self.source.randrange(6) | (registers[RCX] & ADDRESS_HIGH if is_short else 0)
        encoded = self.encoder.encode_form(form, operands, ORIGIN, prefix)
        if encoded is None:
            return None
        words = [self._target() if branches else self.number() for _ in range(REGION // 8)]
        content = b"".join(word.to_bytes(8, "little") for word in words)
        flags = 2 | self.source.getrandbits(12) & STATUS_FLAGS
        return Case(form, encoded, operands, registers, flags, content, bool(prefix))

    def _prefix(self, form: Form) -> str:
        """No prefix, or one that repeats a string instruction."""
        attributes = form.row.attributes
        repeats = ("rep",) if "rep" in attributes else ("repe", "repne") if "repe" in attributes else ()
        chosen: str = self.source.choice(("", *repeats))
        return chosen

    def _stay_in_bounds(self, form: Form, operands: dict[str, Operand], registers: list[int]) -> None:
        """Keeps the registers that make up an address in other ways from leaving the regions."""
        name = form.instruction.name
        if name == "XLAT":
            registers[RBX] = DATA + self.source.randrange(REGION // 2)
        if name == "ENTER":
            operands["size"] = Immediate(self.source.randrange(REGION // 8))
            operands["nesting"] = Immediate(self.source.randrange(2) | 0xE0)
        if (
            name in BIT_TESTS
            and isinstance(operands["base"], Memory)
            and isinstance(operands["offset"], Register)
        ):
            base, offset = operands["base"], operands["offset"]
            free = next(n for n in range(16) if n not in (base.base, base.index, RSP))
            operands["offset"] = Register(GENERAL, free, offset.width)
            registers[free] = self.source.randrange(-64, 64) % (1 << 64)

    def _target(self) -> int:
        """An address in the code region."""
        return CODE + self.source.randrange(REGION)

    def _operand(self, code: OperandCode, width: int | None, registers: list[int], size: int) -> Operand:
        match code.kind:
            case "rm_memory" | "offset":
                return self._memory(code.kind == "offset", width, registers)
            case "rm" if self.source.random() < 0.5:
                return self._memory(False, width, registers)
            case "immediate" | "signed_immediate":
                bits = min(size, 32) if code.width == "z" else size if code.width == "v" else code.width
                assert isinstance(bits, int)
                value = self.number() % (1 << bits)
                signed = (
                    value - (1 << bits) if value >> bits - 1 and code.kind == "signed_immediate" else value
                )
                return Immediate(signed)
            case "relative":
                return Immediate(ORIGIN + self.source.randrange(-100, 100))
            case "register" | "one":
                return implied(code, size)
            case "memory_at" | "es_memory_at":
                return self._string(implied(code, size), registers)
        return self._register(width or 64)

    def _register(self, width: int) -> Register:
        if width == 8 and self.source.random() < 0.3:
            return Register(HIGH_BYTE, self.source.randrange(4, 8), 8)
        return Register(GENERAL, self.source.randrange(16), width)

    def _string(self, memory: Operand, registers: list[int]) -> Memory:
        """An element of a string in the data region; with 32-bit addresses the high half of the register is noise."""
        assert isinstance(memory, Memory)
        assert memory.base is not None
        address_width = self.source.choice((64, 64, 32))
        noise = self.number() & ADDRESS_HIGH if address_width == 32 else 0
        registers[memory.base] = DATA + 8 * self.source.randrange(8, REGION // 8 - 8) | noise
        return replace(memory, address_width=address_width)

    def _memory(self, absolute: bool, width: int | None, registers: list[int]) -> Memory:
        """A memory operand whose address lies in the data region; sets the registers it is made of."""
        target = DATA + 8 * self.source.randrange(8, REGION // 8 - 8)
        if absolute:
            return Memory(displacement=target, width=width)
        if self.source.random() < 0.1:
            return Memory(displacement=target, width=width, relative=True)
        base = self.source.randrange(16)
        index = self.source.choice([None, *(n for n in range(16) if n not in (RSP, base))])
        scale = self.source.choice((1, 2, 4, 8)) if index is not None else 1
        displacement = self.source.choice(
            (0, self.source.randrange(-128, 128), self.source.randrange(-(1 << 31), 1 << 31))
        )
        if base == RSP:  # the stack pointer must stay where it is
            return Memory(base=RSP, displacement=8 * self.source.randrange(-8, 8), width=width)
        registers[base] = target - displacement
        if index is not None:
            registers[index] = self.source.getrandbits(64)
            registers[base] -= registers[index] * scale
        registers[base] %= 1 << 64
        return Memory(base, index, scale, displacement, width)
