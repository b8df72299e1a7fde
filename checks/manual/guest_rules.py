"""What VM entry checks of the guest, written down once more, by bit positions.  SDM 3C 27.3.1"""

from __future__ import annotations

import z3

from checks.manual.control_rules import Rules, canonical, event, has_all, has_features, pin, secondary
from checks.manual.entry import (
    EXTERNAL,
    NMI,
    PHYSICAL_BITS,
    UNRESTRICTED_GUEST,
    can_wake,
    is_after_instruction,
    is_code_privilege_valid,
    is_data_valid,
    is_efer_for,
    is_limit_valid,
    is_page_address,
    is_single_stepping,
    is_valid_pat,
)
from checks.manual.expected import CR4_FEATURES
from checks.manual.machine import Machine, any_of, bit, bits

DEBUGCTL_FEATURES = (0, 1, *range(6, 13), 14, 15)
"""LBR, BTF, TR to FREEZE_PERFMON_ON_PMI, FREEZE_WHILE_SMM and RTM_DEBUG.  SDM 4 2.1, table 2-2"""
PENDING_FEATURES = (0, 1, 2, 3, 12, 14)
"""B0 to B3, enabled breakpoint, BS.  SDM 3C 25.4.2, table 25-4"""
FLAGS = (0, 1, 2, 4, *range(6, 15), 16, 18, 19, 20, 21)
"""CF to ID without VM, which is 0 in IA-32e mode; bit 1 is always 1.  SDM 1 3.4.3, 3C 27.3.1.4"""
HALTED = 1
STI, MOV_SS, SMI, NMIS = 0, 1, 2, 3
"""Bits of the interruptibility state.  SDM 3C 25.4.2, table 25-3"""
BUSY_TSS, LDT = 11, 2
"""Types of system segments.  SDM 3A 3.5"""
NO_VMCS = (1 << 64) - 1


def _entry_control(machine: Machine, number: int) -> z3.BoolRef:
    """A VM-entry control.  SDM 3C 25.8.1"""
    return bit(machine.register("ENTRY_CONTROLS"), number)


def guest_register_rules(m: Machine) -> Rules:
    """Of a guest in IA-32e mode.  SDM 3C 27.3.1.1, 3D A.7, A.8"""
    cr0, cr4 = m.register("GUEST_CR0"), m.register("GUEST_CR4")
    fixed = z3.Or(secondary(m, UNRESTRICTED_GUEST), has_all(cr0, 0, 31))
    debug, efer = m.register("GUEST_IA32_DEBUGCTL"), m.register("GUEST_IA32_EFER")
    yes = z3.BoolVal(True, m.terms.context)
    return {
        "cr0": z3.And(bit(cr0, 5), fixed, z3.ULT(cr0, 1 << 32)),
        "paging": z3.And(has_all(cr0, 0, 31), bit(cr4, 5)),
        "cr4": z3.And(bit(cr4, 13), has_features(cr4, CR4_FEATURES)),
        "ia32e_mode": _entry_control(m, 9),
        "cr3": z3.ULT(m.register("GUEST_CR3"), 1 << PHYSICAL_BITS),
        "dr7": z3.Implies(_entry_control(m, 2), z3.ULT(m.register("GUEST_DR7"), 1 << 32)),
        "debugctl": z3.Implies(_entry_control(m, 2), has_features(debug, DEBUGCTL_FEATURES)),
        "sysenter": canonical(m, "GUEST_IA32_SYSENTER_ESP", "GUEST_IA32_SYSENTER_EIP"),
        "pat": z3.Implies(_entry_control(m, 14), is_valid_pat(m, m.register("GUEST_IA32_PAT"))),
        "efer": z3.Implies(_entry_control(m, 15), is_efer_for(m, efer, yes)),
    }


def _selector(machine: Machine, name: str) -> z3.BitVecRef:
    return machine.register(f"GUEST_{name}_SELECTOR")


def _rights(machine: Machine, name: str) -> z3.BitVecRef:
    return machine.register(f"GUEST_{name}_ACCESS_RIGHTS")


def _is_usable(machine: Machine, name: str) -> z3.BoolRef:
    return z3.Not(bit(_rights(machine, name), 16))


def _has_form(machine: Machine, name: str, types: tuple[int, ...], *, is_system: bool) -> z3.BoolRef:
    """The type is one of these, S as said, P set, reserved bits clear, and the limit fits G."""
    rights = _rights(machine, name)
    return z3.And(
        any_of(bits(rights, 3, 0) == one for one in types),
        bit(rights, 4) != is_system,
        bit(rights, 7),
        bits(rights, 11, 8) == 0,
        bits(rights, 31, 17) == 0,
        is_limit_valid(machine, machine.register(f"GUEST_{name}_LIMIT"), rights),
    )


def _is_low(machine: Machine, name: str) -> z3.BoolRef:
    return z3.ULT(machine.register(f"GUEST_{name}_BASE"), 1 << 32)


def _segments(m: Machine) -> Rules:
    """27.3.1.2: selectors, bases, and what is asked of data segments alike."""
    free = secondary(m, UNRESTRICTED_GUEST)
    bases = [z3.Implies(_is_usable(m, name), _is_low(m, name)) for name in ("SS", "DS", "ES")]
    local = z3.Implies(_is_usable(m, "LDTR"), canonical(m, "GUEST_LDTR_BASE"))
    data = {
        name.lower(): is_data_valid(
            m, _selector(m, name), m.register(f"GUEST_{name}_LIMIT"), _rights(m, name)
        )
        for name in ("DS", "ES", "FS", "GS")
    }
    return data | {
        "tr_selector": z3.Not(bit(_selector(m, "TR"), 2)),
        "ldtr_selector": z3.Implies(_is_usable(m, "LDTR"), z3.Not(bit(_selector(m, "LDTR"), 2))),
        "ss_rpl": z3.Or(free, bits(_selector(m, "SS"), 1, 0) == bits(_selector(m, "CS"), 1, 0)),
        "canonical_bases": z3.And(canonical(m, "GUEST_TR_BASE", "GUEST_FS_BASE", "GUEST_GS_BASE"), local),
        "low_bases": z3.And(_is_low(m, "CS"), *bases),
        "ss_privilege": z3.Or(free, bits(_rights(m, "SS"), 6, 5) == bits(_selector(m, "SS"), 1, 0)),
    }


def guest_segment_rules(m: Machine) -> Rules:
    """Types 9, 11, 13 and 15 are accessed code, 3 and 7 accessed writable data.  SDM 3C 27.3.1.2, 27.3.1.3"""
    is_both = has_all(_rights(m, "CS"), 13, 14)
    limits = [z3.ULT(m.register(f"GUEST_{table}_LIMIT"), 1 << 16) for table in ("GDTR", "IDTR")]
    code, task = (
        _has_form(m, "CS", (9, 11, 13, 15), is_system=False),
        _has_form(m, "TR", (BUSY_TSS,), is_system=True),
    )
    return {
        **_segments(m),
        "cs": z3.And(z3.Not(is_both), code),
        "cs_privilege": is_code_privilege_valid(m),
        "ss": z3.Implies(_is_usable(m, "SS"), _has_form(m, "SS", (3, 7), is_system=False)),
        "tr": z3.And(_is_usable(m, "TR"), task),
        "ldtr": z3.Implies(_is_usable(m, "LDTR"), _has_form(m, "LDTR", (LDT,), is_system=True)),
        "descriptor_tables": z3.And(canonical(m, "GUEST_GDTR_BASE", "GUEST_IDTR_BASE"), *limits),
    }


def guest_activity_rules(m: Machine) -> Rules:
    """SDM 3C 27.3.1.4, 27.3.1.5"""
    return {**_flags(m), **_activity(m), **_blocking(m)}


def _flags(m: Machine) -> Rules:
    """27.3.1.4: in 64-bit code (L, bit 13) the upper 16 bits of RIP are equal, otherwise the upper 32 are 0."""
    flags, rip = m.register("GUEST_RFLAGS"), m.register("GUEST_RIP")
    top = bits(rip, 63, 48)
    is_equal = z3.Or(top == 0, ~top == 0)
    pending = m.register("GUEST_PENDING_DEBUG_EXCEPTIONS")
    return {
        "rip": z3.If(bit(_rights(m, "CS"), 13), is_equal, z3.ULT(rip, 1 << 32)),
        "rflags": z3.And(bit(flags, 1), has_features(flags, FLAGS)),
        "interrupt_flag": z3.Implies(event(m, EXTERNAL), bit(flags, 9)),
        "pending_debug": has_features(pending, PENDING_FEATURES),
        "pending_single_step": z3.Implies(is_after_instruction(m), bit(pending, 14) == is_single_stepping(m)),
    }


def _activity(m: Machine) -> Rules:
    """27.3.1.5: active, HLT, shutdown, wait for SIPI."""
    state = m.register("GUEST_ACTIVITY_STATE")
    blocking = m.register("GUEST_INTERRUPTIBILITY_STATE")
    is_blocked = z3.Or(bit(blocking, STI), bit(blocking, MOV_SS))
    return {
        "activity": z3.ULT(state, 4),
        "halted_at_cpl_0": z3.Implies(state == HALTED, bits(_rights(m, "SS"), 6, 5) == 0),
        "activity_and_event": z3.Implies(event(m), can_wake(m)),
        "blocked_is_active": z3.Implies(is_blocked, state == 0),
    }


def _blocking(m: Machine) -> Rules:
    """27.3.1.5: bits 31 to 4 are reserved on this processor, and SMIs are blocked in SMM only. Whether STI keeps an NMI
    from being injected is left to the processor; this one is strict.
    """
    blocking = m.register("GUEST_INTERRUPTIBILITY_STATE")
    sti, mov_ss = bit(blocking, STI), bit(blocking, MOV_SS)
    is_interrupt, is_nmi = event(m, EXTERNAL), event(m, NMI)
    return {
        "interruptibility": has_features(blocking, (STI, MOV_SS, NMIS)),
        "one_blocking": z3.Not(z3.And(sti, mov_ss)),
        "blocking_by_sti": z3.Implies(sti, bit(m.register("GUEST_RFLAGS"), 9)),
        "blocking_and_event": z3.Implies(z3.Or(is_interrupt, is_nmi), z3.Not(z3.Or(sti, mov_ss))),
        "blocking_by_nmi": z3.Implies(z3.And(pin(m, 5), is_nmi), z3.Not(bit(blocking, NMIS))),
    }


def guest_link_rules(m: Machine) -> Rules:
    """A VMCS begins with its revision, here 2B (hexadecimal), and bit 31 of a shadow VMCS.  SDM 3C 25.2, 27.3.1.5"""
    pointer = m.register("VMCS_LINK_POINTER")
    first = z3.Concat(*(m.byte(pointer + n) for n in (3, 2, 1, 0)))
    is_right = z3.And(bits(first, 30, 0) == 0x2B, bit(first, 31) == secondary(m, 14))
    return {
        "link_address": z3.Or(pointer == NO_VMCS, is_page_address(m, pointer)),
        "link_revision": z3.Or(pointer == NO_VMCS, is_right),
    }
