"""The names of registers in assembly text: one table for the assembler, the disassembly and reports."""

from __future__ import annotations

from dataclasses import dataclass

GENERAL = "general"
HIGH_BYTE = "high_byte"  # AH CH DH BH, encoded as 4 to 7 where there is no REX prefix.  SDM 1 3.4.1.1
SEGMENT = "segment"
CONTROL = "control"
DEBUG = "debug"
INSTRUCTION_POINTER = "instruction_pointer"


@dataclass(frozen=True, slots=True)
class Register:
    """A register as an instruction encodes it; `width` in bits."""

    kind: str
    number: int
    width: int

    def __str__(self) -> str:
        return name_of(self)


_LEGACY = ("ax", "cx", "dx", "bx", "sp", "bp", "si", "di")
_LOW_BYTES = ("al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil")
_SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")


def _general_names() -> dict[str, Register]:
    names: dict[str, Register] = {}
    for number, (legacy, low) in enumerate(zip(_LEGACY, _LOW_BYTES, strict=True)):
        for name, width in ((f"r{legacy}", 64), (f"e{legacy}", 32), (legacy, 16), (low, 8)):
            names[name] = Register(GENERAL, number, width)
    for number in range(8, 16):
        for suffix, width in (("", 64), ("d", 32), ("w", 16), ("b", 8)):
            names[f"r{number}{suffix}"] = Register(GENERAL, number, width)
    return names


BY_NAME: dict[str, Register] = {
    **_general_names(),
    **{name: Register(HIGH_BYTE, number, 8) for number, name in enumerate(("ah", "ch", "dh", "bh"), start=4)},
    **{name: Register(SEGMENT, number, 16) for number, name in enumerate(_SEGMENTS)},
    **{f"cr{number}": Register(CONTROL, number, 64) for number in range(16)},
    **{f"dr{number}": Register(DEBUG, number, 64) for number in range(16)},
    "rip": Register(INSTRUCTION_POINTER, 0, 64),
    "eip": Register(INSTRUCTION_POINTER, 0, 32),
}

_BY_REGISTER = {register: name for name, register in BY_NAME.items()}


def name_of(register: Register) -> str:
    """The name in lower case."""
    return _BY_REGISTER[register]
