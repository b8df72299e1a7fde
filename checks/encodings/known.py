"""What iced-x86 calls otherwise, and the codes that are read differently for a reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from iced_x86 import CpuidFeature, Instruction, Mnemonic

# Forms of 16 and 32 bits and with REX.W, the second encoding of SHL, and NOPs to which extensions give a meaning.
OTHER_NAMES = {
    "cwd": "cdq",
    "cbw": "cwde",
    **{name: f"{name}w" for name in ("pushf", "popf", "pusha", "popa", "iret")},
    "sal": "shl",
    **dict.fromkeys(("jcxz", "jecxz"), "jrcxz"),
    **dict.fromkeys(("endbr32", "endbr64", "rdsspd", "rdsspq", "cldemote", "reservednop"), "nop"),
    **dict.fromkeys(("prefetch", "prefetchwt1", "prefetchit0", "prefetchit1", "prefetchreserved"), "nop"),
    "getsecq": "getsec",
    **{f"{name}64": name for name in ("xsave", "xsaveopt", "xsavec", "xsaves", "xrstor", "xrstors")},
}

# iced-x86 shows a 16-bit register for BSWAP with prefix 66, and one of 32 bits for RDSSPD, which is a NOP here.
UNCOMPARED = {("BSWAP", 16), ("NOP_OPERAND", 16)}

# iced-x86 shows the whole register of an operand of which the instruction uses the low part, whatever the size.
LOW_PARTS = {"LMSW", "LAR", "LSL", "VERR", "VERW", "LLDT", "LTR", "MOV_TO_SEGMENT", "ARPL"}
LOW_PARTS |= {"UMONITOR", "UMWAIT", "TPAUSE"}

_NOT_ANNOUNCED = {Mnemonic.TZCNT, Mnemonic.LZCNT, Mnemonic.WBNOINVD}


@dataclass(frozen=True, slots=True)
class Known:
    """Why codes are read differently; `matches(name of our instruction or "", iced-x86's instruction, code size)`."""

    matches: Callable[[str, Instruction, int], bool]
    reason: str


KNOWN = (
    Known(
        lambda ours, theirs, _size: ours in ("MOV_TO_DR", "MOV_FROM_DR") and theirs.is_invalid,
        "DR8 to DR15 do not exist: an instruction that raises #UD, no instruction for iced-x86",
    ),
    Known(
        lambda ours, theirs, _size: ours in ("MOV_TO_SEGMENT", "MOV_FROM_SEGMENT") and theirs.is_invalid,
        "no such segment register, or CS: an instruction that raises #UD, no instruction for iced-x86",
    ),
    Known(
        lambda ours, theirs, _size: bool(ours) and theirs.mnemonic in _NOT_ANNOUNCED,
        "CPUID does not announce it, and the prefix has no effect then",
    ),
    Known(
        lambda ours, theirs, _size: ours == "NOP_OPERAND" and theirs.op_count == 0,
        "ENDBR32 and ENDBR64: a NOP whose operand iced-x86 does not show",
    ),
    Known(
        lambda ours, theirs, _size: not ours and CpuidFeature.SSE2 in theirs.cpuid_features(),
        "an instruction of SSE2 with the name of a string instruction",
    ),
)
