"""What iced-x86 calls otherwise, and the codes that are read differently for a reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from iced_x86 import CpuidFeature, Instruction, Mnemonic, Register

# Forms of 16 and 32 bits, the second encoding of SHL, and a NOP to which CET gives a meaning.
OTHER_NAMES = {
    "cwd": "cdq",
    "cbw": "cwde",
    "pushf": "pushfq",
    "popf": "popfq",
    "sal": "shl",
    "jecxz": "jrcxz",
    "endbr64": "nop",
}

# iced-x86 shows a 16-bit register for BSWAP with prefix 66, and the whole register of LMSW with larger sizes.
UNCOMPARED = {("BSWAP", 16), ("LMSW", 32), ("LMSW", 64)}

_NOT_ANNOUNCED = {Mnemonic.TZCNT, Mnemonic.LZCNT, Mnemonic.WBNOINVD}


@dataclass(frozen=True, slots=True)
class Known:
    """Why codes are read differently; `matches(name of our instruction or "", iced-x86's instruction)`."""

    matches: Callable[[str, Instruction], bool]
    reason: str


KNOWN = (
    Known(
        lambda ours, theirs: ours in ("MOV_TO_DR", "MOV_FROM_DR") and theirs.is_invalid,
        "DR8 to DR15 do not exist: an instruction that raises #UD, no instruction for iced-x86",
    ),
    Known(
        lambda ours, theirs: ours == "NOP_OPERAND" and theirs.mnemonic == Mnemonic.RESERVEDNOP,
        "0F 1F with another reg field than 0 is reserved for hints and does nothing",
    ),
    Known(
        lambda ours, theirs: bool(ours) and theirs.mnemonic in _NOT_ANNOUNCED,
        "CPUID does not announce it, and the prefix has no effect then",
    ),
    Known(
        lambda ours, theirs: not ours and CpuidFeature.SSE2 in theirs.cpuid_features(),
        "an instruction of SSE2 with the name of a string instruction",
    ),
    Known(
        lambda ours, theirs: not ours and any(map(_is_segment_register, _registers(theirs))),
        "moves of segment registers are not modelled",
    ),
    Known(
        lambda ours, theirs: not ours and (theirs.is_call_far_indirect or theirs.is_jmp_far_indirect),
        "far branches are not modelled",
    ),
)


def _registers(instruction: Instruction) -> list[int]:
    return [instruction.op_register(i) for i in range(instruction.op_count)]


def _is_segment_register(register: int) -> bool:
    return Register.ES <= register <= Register.GS
