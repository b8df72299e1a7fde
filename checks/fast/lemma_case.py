"""Cases of refuted lemmas about operands and flags: an instruction that shows what is wrong, on both engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import z3

from checks.case import Case
from checks.fast.explain import BASE, COLUMNS
from checks.symbolic.terms import Truth
from checks.theorem import Counterexample
from checks.trap.concrete import Concrete

WRONG = "the fast model's text says something else than the manual"
GENERAL = 16
RSP = 4
DISTINCT = {f"GPR[{n}]": 0x0123_4567_89AB_CDE0 * (n + 1) & (1 << 64) - 1 for n in range(GENERAL)}
"""Values of the registers that tell each from the other, and their bytes too."""


@dataclass(frozen=True, slots=True)
class Shown:
    """An instruction in a state: `text` says what it is to show.  Without code there is no such instruction."""

    text: str
    code: bytes = b""
    state: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a lemma says, on one path of a text, and an instruction that does it."""

    holds: Truth
    shown: Callable[[Concrete], Shown]


def explained(goal: str, claims: Sequence[Claim], model: z3.ModelRef) -> Counterexample:
    """The counterexample under a model: the first claim that does not hold, or of a witness the first at all."""
    concrete = Concrete(model)
    shown = next((one for one in claims if not concrete.holds(one.holds)), claims[0]).shown(concrete)
    rows = [("code", shown.code.hex(" ")), *((name, f"{value:#x}") for name, value in shown.state.items())]
    case = _case(goal, shown).document() if shown.code else None
    return Counterexample(f"{shown.text}: {WRONG}", ("", "start"), tuple(rows), None, case)


def _case(goal: str, shown: Shown) -> Case:
    return Case(
        kind="fuzz",
        id=goal,
        code=shown.code,
        instruction=shown.text,
        base=BASE,
        state=shown.state,
        columns=COLUMNS,
        text=WRONG,
    )


# --- instructions ---


def load_address(base: int | None, index: int | None, scale: int, displacement: int) -> bytes:
    """LEA RAX of an address; none if it has no encoding.  SDM 2A 2.1.5"""
    low = displacement & (1 << 32) - 1
    if index == RSP or displacement != (low ^ 1 << 31) - (1 << 31) & (1 << 64) - 1:
        return b""
    number = index if index is not None else RSP  # which stands for none
    mod, low_base = (0, 5) if base is None else (2, base & 7)
    rex = 0x48 | (number >> 3) << 1 | ((base or 0) >> 3)
    sib = scale << 6 | (number & 7) << 3 | low_base
    return bytes((rex, 0x8D, mod << 6 | 4, sib)) + low.to_bytes(4, "little")


def move(rex: int | None, modrm: int, *, is_byte: bool) -> bytes:
    """MOV of a register to a register, by the bytes that say which.  SDM 2A 2.1.5, 2B 4.3"""
    return _prefix(rex) + bytes((0x88 if is_byte else 0x89, 0xC0 | modrm & 0x3F))


def move_immediate(rex: int | None, opcode: int, *, is_byte: bool) -> bytes:
    """MOV of a number to a register that the opcode says.  SDM 2B 4.3"""
    return _prefix(rex) + bytes(((0xB0 if is_byte else 0xB8) | opcode & 7, *range(0x11, 0x19)))


def with_fixed_register(number: int, *, is_byte: bool) -> bytes:
    """ADD of a number to the accumulator, or a shift by CL; none for registers that no opcode stands for."""
    if number == 0:
        return bytes((0x04 if is_byte else 0x05, *range(0x11, 0x15)))
    return b"\xd2\xe0" if number == 1 and is_byte else b""


def _prefix(rex: int | None) -> bytes:
    return b"" if rex is None else bytes((0x40 | rex & 0xF,))
