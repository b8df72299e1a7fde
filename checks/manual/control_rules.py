"""What VM entry checks of the controls and of the host, written down once more, by bit positions.  SDM 3C 27.2"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import z3

from checks.manual.entry import (
    PHYSICAL_BITS,
    is_efer_for,
    is_ept_pointer,
    is_injectable_error,
    is_injectable_length,
    is_injectable_vector,
    is_msr_area,
    is_page_address,
    is_valid_pat,
)
from checks.manual.expected import CR4_FEATURES, is_canonical
from checks.manual.machine import Machine, all_of, bit, bits

# Bits that must be 1, and controls that may be either.  SDM 3C 25.6 to 25.8, 3D A.3 to A.5
PIN = ((1, 2, 4), (0, 3, 5, 6))
PRIMARY = (
    (1, 4, 5, 6, 8, 13, 14, 26),
    (2, 3, 7, 9, 10, 11, 12, 15, 16, 19, 20, 21, 22, 23, 24, 25, *range(27, 32)),
)
SECONDARY = ((), (*range(8), *range(10, 15), 16, 18, 20, 22, 25))
EXIT = ((0, 1, *range(3, 9), 10, 11, 13, 14, 16, 17), (2, 9, 15, 18, 19, 20, 21, 22))
ENTRY = ((0, 1, *range(3, 9), 12), (2, 9, 14, 15))

Rules = Mapping[str, z3.ExprRef]
"""By the name of a rule of the specification, what the manual asks for."""


def pin(machine: Machine, number: int) -> z3.BoolRef:
    """A pin-based control.  SDM 3C 25.6.1"""
    return bit(machine.register("PIN_BASED_CONTROLS"), number)


def primary(machine: Machine, number: int) -> z3.BoolRef:
    """A primary processor-based control.  SDM 3C 25.6.2"""
    return bit(machine.register("PRIMARY_CONTROLS"), number)


def secondary(machine: Machine, number: int) -> z3.BoolRef:
    """A secondary control, which counts if bit 31 of the primary ones is set.  SDM 3C 25.6.2"""
    return z3.And(primary(machine, 31), bit(machine.register("SECONDARY_CONTROLS"), number))


def exit_control(machine: Machine, number: int) -> z3.BoolRef:
    """A VM-exit control.  SDM 3C 25.7.1"""
    return bit(machine.register("EXIT_CONTROLS"), number)


def event(machine: Machine, kind: int | None = None) -> z3.BoolRef:
    """An event is to be injected, of this type if one is given.  SDM 3C 25.8.3"""
    information = machine.register("ENTRY_INTERRUPTION_INFORMATION")
    is_valid = bit(information, 31)
    return is_valid if kind is None else z3.And(is_valid, bits(information, 10, 8) == kind)


def canonical(machine: Machine, *names: str) -> z3.BoolRef:
    """These fields are canonical addresses."""
    return all_of(is_canonical(machine, machine.register(name)) for name in names)


def has_features(value: z3.BitVecRef, features: Iterable[int]) -> z3.BoolRef:
    """Only these bits are set."""
    return z3.And(*(z3.Not(bit(value, n)) for n in range(value.size()) if n not in set(features)))


def has_all(value: z3.BitVecRef, *numbers: int) -> z3.BoolRef:
    """These bits are set."""
    return all_of(bit(value, n) for n in numbers)


def _pages(machine: Machine, *names: str) -> z3.BoolRef:
    return all_of(is_page_address(machine, machine.register(name)) for name in names)


def _is_possible(machine: Machine, name: str, settings: tuple[Iterable[int], Iterable[int]]) -> z3.BoolRef:
    ones, optional = settings
    value = machine.register(f"{name}_CONTROLS")
    return all_of((*(bit(value, n) for n in ones), has_features(value, (*ones, *optional))))


def _settings(m: Machine) -> Rules:
    """27.2.1.1, 27.2.1.2, 27.2.1.3: reserved bits, and which controls there are."""
    return {
        "pin_based_controls": _is_possible(m, "PIN_BASED", PIN),
        "primary_controls": _is_possible(m, "PRIMARY", PRIMARY),
        "secondary_controls": z3.Implies(primary(m, 31), _is_possible(m, "SECONDARY", SECONDARY)),
        "exit_controls": _is_possible(m, "EXIT", EXIT),
        "entry_controls": _is_possible(m, "ENTRY", ENTRY),
    }


def _areas(m: Machine) -> Rules:
    """27.2.1.1 to 27.2.1.3: what lies in memory has an address there. The number of VM functions is one: 0."""
    functions = m.register("VM_FUNCTION_CONTROLS")
    lists = z3.Implies(bit(functions, 0), z3.And(secondary(m, 1), _pages(m, "EPTP_LIST_ADDRESS")))
    areas = ("EXIT_MSR_STORE", "EXIT_MSR_LOAD", "ENTRY_MSR_LOAD")
    return {
        "io_bitmaps": z3.Implies(primary(m, 25), _pages(m, "IO_BITMAP_A", "IO_BITMAP_B")),
        "msr_bitmap": z3.Implies(primary(m, 28), _pages(m, "MSR_BITMAP")),
        "virtual_apic_page": z3.Implies(primary(m, 21), _pages(m, "VIRTUAL_APIC_ADDRESS")),
        "apic_access_page": z3.Implies(secondary(m, 0), _pages(m, "APIC_ACCESS_ADDRESS")),
        "shadowing_bitmaps": z3.Implies(secondary(m, 14), _pages(m, "VMREAD_BITMAP", "VMWRITE_BITMAP")),
        "virtualization_exceptions": z3.Implies(secondary(m, 18), _pages(m, "VIRTUALIZATION_EXCEPTION_INFO")),
        "vm_functions": z3.Implies(secondary(m, 13), z3.And(has_features(functions, (0,)), lists)),
        "msr_areas": z3.And(
            *(is_msr_area(m, m.register(f"{a}_ADDRESS"), m.register(f"{a}_COUNT")) for a in areas)
        ),
    }


def _controls(m: Machine) -> Rules:
    """27.2.1.1, 27.2.1.2: controls that need others, or values that fit them."""
    threshold = m.register("TPR_THRESHOLD")
    priority = m.byte(m.register("VIRTUAL_APIC_ADDRESS") + 0x80)
    is_above = z3.UGT(bits(threshold, 3, 0), bits(priority, 7, 4))
    return {
        "cr3_target_count": z3.ULE(m.register("CR3_TARGET_COUNT"), 4),
        "tpr_threshold": z3.Implies(primary(m, 21), z3.ULT(threshold, 16)),
        "tpr_is_not_below": z3.Implies(z3.And(primary(m, 21), z3.Not(secondary(m, 0))), z3.Not(is_above)),
        "virtual_nmis": z3.Implies(z3.Not(pin(m, 3)), z3.Not(pin(m, 5))),
        "nmi_window": z3.Implies(z3.Not(pin(m, 5)), z3.Not(primary(m, 22))),
        "vpid": z3.Implies(secondary(m, 5), m.register("VIRTUAL_PROCESSOR_ID") != 0),
        "ept_pointer": z3.Implies(secondary(m, 1), is_ept_pointer(m, m.register("EPT_POINTER"))),
        "unrestricted_guest": z3.Implies(secondary(m, 7), secondary(m, 1)),
        "mode_based_execute": z3.Implies(secondary(m, 22), secondary(m, 1)),
        "x2apic_mode": z3.Implies(secondary(m, 4), z3.And(primary(m, 21), z3.Not(secondary(m, 0)))),
        "saved_timer": z3.Implies(z3.Not(pin(m, 6)), z3.Not(exit_control(m, 22))),
    }


def _events(m: Machine) -> Rules:
    """27.2.1.3: what is injected. Bits 30 to 12 are reserved."""
    information = m.register("ENTRY_INTERRUPTION_INFORMATION")
    return {
        "event_vector": z3.Implies(event(m), is_injectable_vector(m)),
        "event_error": z3.Implies(event(m), is_injectable_error(m)),
        "event_length": z3.Implies(event(m), is_injectable_length(m)),
        "event_reserved": z3.Implies(event(m), bits(information, 30, 12) == 0),
    }


def control_rules(machine: Machine) -> Rules:
    """SDM 3C 27.2.1"""
    return {**_settings(machine), **_areas(machine), **_controls(machine), **_events(machine)}


def host_rules(m: Machine) -> Rules:
    """Of a host in 64-bit mode: VMX fixes PE, NE, PG and VMXE.  SDM 3C 27.2.2 to 27.2.4, 3D A.7, A.8"""
    cr0, cr4 = m.register("HOST_CR0"), m.register("HOST_CR4")
    selectors = {
        name: m.register(f"HOST_{name}_SELECTOR") for name in ("ES", "CS", "SS", "DS", "FS", "GS", "TR")
    }
    pat, efer = m.register("HOST_IA32_PAT"), m.register("HOST_IA32_EFER")
    yes = z3.BoolVal(True, m.terms.context)
    return {
        "cr0": z3.And(has_all(cr0, 0, 5, 31), z3.ULT(cr0, 1 << 32)),
        "cr4": z3.And(has_all(cr4, 5, 13), has_features(cr4, CR4_FEATURES)),
        "cr3": z3.ULT(m.register("HOST_CR3"), 1 << PHYSICAL_BITS),
        "sysenter": canonical(m, "HOST_IA32_SYSENTER_ESP", "HOST_IA32_SYSENTER_EIP"),
        "pat": z3.Implies(exit_control(m, 19), is_valid_pat(m, pat)),
        "efer": z3.Implies(exit_control(m, 21), is_efer_for(m, efer, yes)),
        "selectors": z3.And(*(bits(one, 2, 0) == 0 for one in selectors.values())),
        "code_and_task": z3.And(selectors["CS"] != 0, selectors["TR"] != 0),
        "segment_bases": canonical(m, "HOST_FS_BASE", "HOST_GS_BASE", "HOST_TR_BASE"),
        "table_bases": canonical(m, "HOST_GDTR_BASE", "HOST_IDTR_BASE"),
        "address_space": exit_control(m, 9),
        "rip": canonical(m, "HOST_RIP"),
    }
