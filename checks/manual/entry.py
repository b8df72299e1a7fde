"""What VM entry accepts, written down once more, by bit positions and without a function of the specification.

Other theorems say that guests never have what VM entry refuses; that it refuses no less is said here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import z3

from checks.manual.machine import Machine, bit, bits

Expectation = Callable[..., z3.ExprRef]

EXTERNAL, NMI, HARDWARE, OTHER = 0, 2, 3, 7
"""Types of events.  SDM 3C 25.8.3"""
WITH_ERROR_CODE = (8, 10, 11, 12, 13, 14, 17)
"""The exceptions that have one.  SDM 3A 6.15, table 6-1"""
UNRESTRICTED_GUEST = 7
"""The bit of the secondary controls.  SDM 3C 25.6.2"""
PHYSICAL_BITS = 40
"""Addresses of this processor.  SDM 3D A.1"""


def _event(machine: Machine) -> tuple[z3.BitVecRef, z3.BitVecRef]:
    """The type and the vector of the event to inject."""
    information = machine.register("ENTRY_INTERRUPTION_INFORMATION")
    return bits(information, 10, 8), bits(information, 7, 0)


def _is_unrestricted(machine: Machine) -> z3.BoolRef:
    primary, secondary = (machine.register(f"{which}_CONTROLS") for which in ("PRIMARY", "SECONDARY"))
    return cast(z3.BoolRef, z3.And(bit(primary, 31), bit(secondary, UNRESTRICTED_GUEST)))


def is_allowed(_: Machine, value: z3.BitVecRef, ones: z3.BitVecRef, possible: z3.BitVecRef) -> z3.ExprRef:
    """No bit is 0 that must be 1, none is 1 that cannot be.  SDM 3D A.3.1"""
    return z3.And(*(z3.If(bit(value, n), bit(possible, n), z3.Not(bit(ones, n))) for n in range(32)))


def is_page_address(_: Machine, address: z3.BitVecRef) -> z3.ExprRef:
    """A multiple of 4 KiB that the processor can address.  SDM 3C 27.2.1.1"""
    return z3.And(z3.URem(address, 1 << 12) == 0, z3.ULT(address, 1 << PHYSICAL_BITS))


def is_msr_area(_: Machine, address: z3.BitVecRef, count: z3.BitVecRef) -> z3.ExprRef:
    """Nothing is asked of no entry; otherwise a multiple of 16, and the first and the last byte can be addressed. The
    sum has 64 bits.  SDM 3C 27.2.1.2
    """
    last = address + 16 * z3.ZeroExt(32, count) - 1
    limit = 1 << PHYSICAL_BITS
    inside = z3.And(z3.URem(address, 16) == 0, z3.ULT(address, limit), z3.ULT(last, limit))
    return z3.Or(count == 0, inside)


def is_ept_pointer(_: Machine, pointer: z3.BitVecRef) -> z3.ExprRef:
    """Memory type 0 or 6, a walk of four levels, bits 11 to 7 and those beyond the addresses clear.  SDM 3C 27.2.1.1"""
    kind = bits(pointer, 2, 0)
    return z3.And(
        z3.Or(kind == 0, kind == 6),
        bits(pointer, 5, 3) == 3,
        bits(pointer, 11, 7) == 0,
        z3.ULT(pointer, 1 << PHYSICAL_BITS),
    )


def is_efer_for(_: Machine, efer: z3.BitVecRef, ia32e_mode: z3.BoolRef) -> z3.ExprRef:
    """SCE, LME, LMA and NXE exist; LME and LMA are as said.  SDM 3A 2.2.1, 3C 27.3.1.1"""
    reserved = [z3.Not(bit(efer, n)) for n in range(64) if n not in (0, 8, 10, 11)]
    return z3.And(*reserved, bit(efer, 8) == ia32e_mode, bit(efer, 10) == ia32e_mode)


def is_valid_pat(_: Machine, value: z3.BitVecRef) -> z3.ExprRef:
    """Each of the eight bytes is a memory type; 2 and 3 are none.  SDM 3A 12.12.2"""
    fields = [bits(value, n + 7, n) for n in range(0, 64, 8)]
    return z3.And(*(z3.And(z3.ULT(one, 8), one != 2, one != 3) for one in fields))


def is_injectable_vector(machine: Machine) -> z3.ExprRef:
    """Type 1 is reserved; an NMI has vector 2, an exception at most 31, "other event" 0.  SDM 3C 27.2.1.3"""
    kind, vector = _event(machine)
    return z3.And(
        kind != 1,
        z3.Implies(kind == NMI, vector == 2),
        z3.Implies(kind == HARDWARE, z3.ULE(vector, 31)),
        z3.Implies(kind == OTHER, vector == 0),
    )


def is_injectable_error(machine: Machine) -> z3.ExprRef:
    """Bit 11 says that there is an error code: with some exceptions, and with nothing else. It has 16 bits.
    SDM 3C 27.2.1.3
    """
    kind, vector = _event(machine)
    has_code = bit(machine.register("ENTRY_INTERRUPTION_INFORMATION"), 11)
    wants = z3.And(kind == HARDWARE, z3.Or(*(vector == one for one in WITH_ERROR_CODE)))
    is_short = z3.ULT(machine.register("ENTRY_EXCEPTION_ERROR_CODE"), 1 << 16)
    return z3.And(has_code == wants, z3.Implies(has_code, is_short))


def is_injectable_length(machine: Machine) -> z3.ExprRef:
    """Software interrupts and exceptions come from an instruction of at most 15 bytes.  SDM 3C 27.2.1.3"""
    kind, _ = _event(machine)
    is_software = z3.And(z3.UGE(kind, 4), z3.ULE(kind, 6))
    return z3.Implies(is_software, z3.ULE(machine.register("ENTRY_INSTRUCTION_LENGTH"), 15))


def can_wake(machine: Machine) -> z3.ExprRef:
    """In the HLT state (1) interrupts, NMIs, debug exceptions, machine checks and "other events" may be injected, in
    shutdown (2) NMIs and machine checks, while waiting for a SIPI (3) nothing.  SDM 3C 27.3.1.5
    """
    kind, vector = _event(machine)
    activity = machine.register("GUEST_ACTIVITY_STATE")
    is_check, is_debug = (z3.And(kind == HARDWARE, vector == n) for n in (18, 1))
    in_halt = z3.Or(kind == EXTERNAL, kind == NMI, kind == OTHER, is_debug, is_check)
    return z3.Or(
        activity == 0, z3.And(activity == 1, in_halt), z3.And(activity == 2, z3.Or(kind == NMI, is_check))
    )


def is_after_instruction(machine: Machine) -> z3.ExprRef:
    """Blocking by STI (bit 0) or MOV SS (bit 1), or the HLT state.  SDM 3C 27.3.1.5"""
    blocking = machine.register("GUEST_INTERRUPTIBILITY_STATE")
    return z3.Or(bit(blocking, 0), bit(blocking, 1), machine.register("GUEST_ACTIVITY_STATE") == 1)


def is_single_stepping(machine: Machine) -> z3.ExprRef:
    """RFLAGS.TF (bit 8) is set, and DEBUGCTL.BTF (bit 1) is not.  SDM 3B 18.3.1.4, 3C 27.3.1.5"""
    branches_only = bit(machine.register("GUEST_IA32_DEBUGCTL"), 1)
    return z3.And(bit(machine.register("GUEST_RFLAGS"), 8), z3.Not(branches_only))


def is_limit_valid(_: Machine, limit: z3.BitVecRef, rights: z3.BitVecRef) -> z3.ExprRef:
    """If one of bits 11 to 0 is clear, G (bit 15) is 0; if one of bits 31 to 20 is set, G is 1.  SDM 3C 27.3.1.2"""
    in_pages = bit(rights, 15)
    low, high = z3.Extract(11, 0, ~limit) != 0, z3.Extract(31, 20, limit) != 0
    return z3.And(z3.Implies(low, z3.Not(in_pages)), z3.Implies(high, in_pages))


def is_data_valid(
    machine: Machine, selector: z3.BitVecRef, limit: z3.BitVecRef, rights: z3.BitVecRef
) -> z3.ExprRef:
    """Unusable (bit 16); or accessed, readable if it is code, with S and P, no reserved bits and a limit that fits; the
    DPL is not below the RPL, but for conforming code and unrestricted guests.  SDM 3C 27.3.1.2
    """
    kind, privilege = bits(rights, 3, 0), bits(rights, 6, 5)
    is_free = z3.Or(_is_unrestricted(machine), z3.UGT(kind, 11))
    usable = z3.And(
        bit(kind, 0),
        z3.Implies(bit(kind, 3), bit(kind, 1)),
        bit(rights, 4),
        z3.Or(is_free, z3.Not(z3.ULT(privilege, bits(selector, 1, 0)))),
        bit(rights, 7),
        bits(rights, 11, 8) == 0,
        bits(rights, 31, 17) == 0,
        is_limit_valid(machine, limit, rights),
    )
    return z3.Or(bit(rights, 16), usable)


def is_code_privilege_valid(machine: Machine) -> z3.ExprRef:
    """Code that does not conform (types 9 and 11) has the DPL of SS, other code no higher one.  SDM 3C 27.3.1.2"""
    code, stack = (machine.register(f"GUEST_{name}_ACCESS_RIGHTS") for name in ("CS", "SS"))
    own, limit = bits(code, 6, 5), bits(stack, 6, 5)
    is_plain = z3.Or(bits(code, 3, 0) == 9, bits(code, 3, 0) == 11)
    return z3.And(z3.ULE(own, limit), z3.Implies(is_plain, own == limit))


def unrestricted_cr0(machine: Machine) -> z3.ExprRef:
    """PE (bit 0) and PG (bit 31) need not be set in an unrestricted guest.  SDM 3C 27.3.1.1"""
    context = machine.terms.context
    return z3.If(
        _is_unrestricted(machine), z3.BitVecVal(1 << 31 | 1, 64, context), z3.BitVecVal(0, 64, context)
    )


ENTRY: dict[str, Expectation] = {
    one.__name__: one
    for one in (
        *(is_allowed, is_page_address, is_msr_area, is_ept_pointer, is_efer_for, is_valid_pat),
        *(is_injectable_vector, is_injectable_error, is_injectable_length, can_wake, is_after_instruction),
        *(is_single_stepping, is_limit_valid, is_data_valid, is_code_privilege_valid, unrestricted_cr0),
    )
}
"""By the name of the function of the specification."""
