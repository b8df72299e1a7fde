"""What the control state of a reference machine means for a run: whether it can run at all, and how it translates."""

from __future__ import annotations

from typing import Any

from fastmodel import state

# Control bits by position.  SDM 3A 2.2.1, 2.5, 3C 25.6
CR0_WP, CR0_AM, CR0_PG = 1 << 16, 1 << 18, 1 << 31
CR4_SMEP, CR4_SMAP, CR4_LA57, CR4_PKE = 1 << 20, 1 << 21, 1 << 12, 1 << 22
EFER_LMA, EFER_NXE = 1 << 10, 1 << 11
TF, IF, AC = 1 << 8, 1 << 9, 1 << 18
PRIMARY_INTERRUPT_WINDOW, PRIMARY_NMI_WINDOW, PRIMARY_MONITOR_TRAP = 1 << 2, 1 << 22, 1 << 27
PRIMARY_SECONDARY = 1 << 31
SECONDARY_EPT = 1 << 1
SECONDARY_APIC_ACCESSES, SECONDARY_MODE_BASED_EXECUTE = 1 << 0, 1 << 22
PIN_PREEMPTION_TIMER = 1 << 6
BLOCKING_BY_STI_OR_MOV_SS = 3
BLOCKING_BY_NMI = 8
CS, SS = 1, 2
RIGHTS_LONG = 1 << 13
DR7_ENABLED = 0xFF

# The registers and fields that decide whether a machine in VMX non-root operation can run, and how, with the element
# of those that have several.
DECIDING = (
    ("CR0", 0),
    ("CR3", 0),
    ("CR4", 0),
    ("EFER", 0),
    ("DR7", 0),
    ("SEGMENT_RIGHTS", CS),
    ("SEGMENT_RIGHTS", SS),
    ("ACTIVITY_STATE", 0),
    ("INTERRUPTIBILITY", 0),
    ("IN_NON_ROOT", 0),
    ("PIN_BASED_CONTROLS", 0),
    ("PRIMARY_CONTROLS", 0),
    ("SECONDARY_CONTROLS", 0),
    ("EPT_POINTER", 0),
)


def is_supported(m: Any) -> bool:
    """Whether nothing but instructions can happen, in 64-bit mode with 4-level paging; `refused_flags` aside."""
    return bool(
        m.CR0 & CR0_PG
        and m.EFER & EFER_LMA
        and m.SEGMENT_RIGHTS[CS] & RIGHTS_LONG
        and not m.CR4 & (CR4_LA57 | CR4_PKE)
        and not m.DR7 & DR7_ENABLED
        and m.ACTIVITY_STATE == 0
        and not m.INTERRUPTIBILITY & BLOCKING_BY_STI_OR_MOV_SS
        and not (m.IN_NON_ROOT and (_exit_is_due(m) or _has_unusual_translation(m)))
    )


def refused_flags(m: Any) -> int:
    """The bits of RFLAGS with which more than the instruction can happen."""
    refused = TF
    if m.CR0 & CR0_AM and privilege(m) == 3:
        refused |= AC
    if m.IN_NON_ROOT and m.vmcs.PRIMARY_CONTROLS & PRIMARY_INTERRUPT_WINDOW:
        refused |= IF
    return refused


def counts_down(m: Any) -> bool:
    """Whether the VMX-preemption timer runs."""
    return bool(m.IN_NON_ROOT and m.vmcs.PIN_BASED_CONTROLS & PIN_PREEMPTION_TIMER)


def budget(m: Any, steps: int) -> int:
    """How many of so many instructions can run before the preemption timer has run down."""
    return min(steps, m.PREEMPTION_TIMER_VALUE) if counts_down(m) else steps


def privilege(m: Any) -> int:
    """The CPL."""
    rights: int = m.SEGMENT_RIGHTS[SS]
    return rights >> 5 & 3


def mode(m: Any) -> int:
    """The bits of MODE."""
    bits = {
        state.USER: privilege(m) == 3,
        state.WRITE_PROTECT: m.CR0 & CR0_WP,
        state.NO_EXECUTE: m.EFER & EFER_NXE,
        state.SMEP: m.CR4 & CR4_SMEP,
        state.SMAP: m.CR4 & CR4_SMAP,
    }
    return sum(bit for bit, is_set in bits.items() if is_set)


def ept_pointer(m: Any) -> int:
    """The EPT pointer, 0 if guest-physical addresses are not translated."""
    is_active = (
        m.IN_NON_ROOT
        and m.vmcs.PRIMARY_CONTROLS & PRIMARY_SECONDARY
        and m.vmcs.SECONDARY_CONTROLS & SECONDARY_EPT
    )
    pointer: int = m.vmcs.EPT_POINTER if is_active else 0
    return pointer


def _exit_is_due(m: Any) -> bool:
    """Whether a VM exit is due at the next boundary between instructions, whatever they are."""
    primary = m.vmcs.PRIMARY_CONTROLS
    return bool(
        primary & PRIMARY_MONITOR_TRAP
        or (primary & PRIMARY_NMI_WINDOW and not m.INTERRUPTIBILITY & BLOCKING_BY_NMI)
    )


def _has_unusual_translation(m: Any) -> bool:
    """Whether some pages are more than memory, or may be executed by some only."""
    unusual = SECONDARY_APIC_ACCESSES | SECONDARY_MODE_BASED_EXECUTE
    return bool(m.vmcs.PRIMARY_CONTROLS & PRIMARY_SECONDARY and m.vmcs.SECONDARY_CONTROLS & unusual)
