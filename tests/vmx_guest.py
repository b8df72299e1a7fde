"""A guest for tests: a VMCS that passes all checks, with identity page tables, and ways to enter and run it."""

from __future__ import annotations

from typing import Any

from refmodel.model import Model
from refmodel.runtime import Abort

CODE = 0x8000  # where the guest starts

# A VMCS that passes all checks: a 64-bit guest at CPL 0 with flat memory, and a 64-bit host.
VALID = {
    "PIN_BASED_CONTROLS": 0x16,
    "PRIMARY_CONTROLS": 0x04006172,
    "EXIT_CONTROLS": 0x00036DFF | 1 << 9 | 3 << 20,
    "ENTRY_CONTROLS": 0x000011FF | 1 << 9 | 1 << 15,
    "GUEST_CR0": 0x80010031,
    "GUEST_CR3": 0x1000,
    "GUEST_CR4": 0x2020,
    "GUEST_IA32_EFER": 0xD00,
    "GUEST_RIP": CODE,
    "GUEST_RSP": 0xB000,
    "GUEST_RFLAGS": 2,
    "GUEST_DR7": 0x400,
    "GUEST_CS_SELECTOR": 0x08,
    "GUEST_CS_LIMIT": 0xFFFFFFFF,
    "GUEST_CS_ACCESS_RIGHTS": 0xA09B,
    **{f"GUEST_{s}_SELECTOR": 0x10 for s in ("ES", "SS", "DS", "FS", "GS")},
    **{f"GUEST_{s}_LIMIT": 0xFFFFFFFF for s in ("ES", "SS", "DS", "FS", "GS")},
    **{f"GUEST_{s}_ACCESS_RIGHTS": 0xC093 for s in ("ES", "SS", "DS", "FS", "GS")},
    "GUEST_LDTR_ACCESS_RIGHTS": 0x10000,
    "GUEST_TR_SELECTOR": 0x18,
    "GUEST_TR_LIMIT": 0x67,
    "GUEST_TR_ACCESS_RIGHTS": 0x8B,
    "VMCS_LINK_POINTER": (1 << 64) - 1,
    "HOST_CR0": 0x80000031,
    "HOST_CR4": 0x2020,
    "HOST_IA32_EFER": 0xD00,
    "HOST_CS_SELECTOR": 0x08,
    "HOST_TR_SELECTOR": 0x18,
}


def machine(model: Model) -> Any:
    """A processor in VMX root operation, with a valid VMCS and identity page tables for the guest."""
    m = model.machine(1 << 20)
    for address, entry in ((0x1000, 0x2007), (0x2000, 0x3007), (0x3000, 0x87)):
        m.PHYSICAL.write_64(address, entry)
    m.CR0 = VALID["HOST_CR0"]
    for name, value in VALID.items():
        setattr(m.vmcs, name, value)
    return m


def enter(model: Model, m: Any, **fields: int) -> Any:
    """Enters the guest with some VMCS fields changed."""
    for name, value in fields.items():
        setattr(m.vmcs, name, value)
    model.functions["vm_entry"](m)
    return m


def run(m: Any, code: str) -> Any:
    """Runs one instruction; the exit or fault that it raises, or None."""
    m.PHYSICAL.write_bytes(m.RIP, bytes.fromhex(code))
    m.cache_translate.clear()
    try:
        m.execute()
    except Abort as abort:
        return abort.value
    return None


def is_exit(outcome: Any, reason: int) -> bool:
    return getattr(outcome, "reason", None) == reason


def is_fault(outcome: Any, vector: int) -> bool:
    return getattr(outcome, "vector", None) == vector
