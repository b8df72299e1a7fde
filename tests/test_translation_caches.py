"""When the processor forgets translations, without VPIDs.  SDM 3C 29.4.3"""

from __future__ import annotations

from typing import Any

import pytest
from vmx_guest import enter, machine

from refmodel.model import Model

RAX, RCX = 0, 1
READ = 0
PAGE, OTHER = 0x5000, 0x6000
TABLE = 0x4000  # of the guest, for its first 2 MiB
EPT_TABLE, EPTP_LIST = 0x30000, 0x22000
EPT, VM_FUNCTIONS = 1 << 1, 1 << 13
CPUID = 10


@pytest.fixture
def m(model: Model) -> Any:
    """Linear addresses below 2 MiB lead to themselves, by pages of 4 KiB."""
    processor = machine(model)
    processor.PHYSICAL.write_64(0x3000, TABLE | 7)
    for page in range(512):
        processor.PHYSICAL.write_64(TABLE + 8 * page, page << 12 | 7)
    processor.CR3, processor.CR4, processor.EFER = 0x1000, 0x2020, 0xD00
    return processor


def read(model: Model, m: Any) -> int:
    """The page behind PAGE."""
    found: int = model.functions["translate"](m, PAGE, READ, model.namespace["Privilege_SUPERVISOR"])
    return found << 12


def remap(m: Any) -> None:
    m.PHYSICAL.write_64(TABLE + 8 * (PAGE >> 12), OTHER | 7)


def test_translations_are_remembered(model: Model, m: Any) -> None:
    assert read(model, m) == PAGE
    remap(m)
    assert read(model, m) == PAGE


def test_vm_entry_forgets_translations(model: Model, m: Any) -> None:
    """SDM 3C 29.4.3.1"""
    assert read(model, m) == PAGE
    remap(m)
    enter(model, m)
    assert read(model, m) == OTHER


def test_a_vm_exit_forgets_translations(model: Model, m: Any) -> None:
    """SDM 3C 29.4.3.1"""
    enter(model, m)
    assert read(model, m) == PAGE
    remap(m)
    model.functions["vm_exit"](m, model.namespace["VmExit"](reason=CPUID))
    m.CR3 = 0x1000
    assert read(model, m) == OTHER


def test_invept_forgets_translations(model: Model, m: Any) -> None:
    """SDM 3C 29.4.3.1, of the guest whose EPT it names."""
    assert read(model, m) == PAGE
    remap(m)
    model.functions["invept"](m, 0, 1)
    assert read(model, m) == OTHER


def test_eptp_switching_uses_the_translations_of_the_new_ept(model: Model, m: Any) -> None:
    """SDM 3C 26.5.6.3, 29.4.2: cached translations are of one EPT."""
    for root in (EPT_TABLE, EPT_TABLE + 0x4000):
        for level in range(3):
            m.PHYSICAL.write_64(root + 0x1000 * level, root + 0x1000 * (level + 1) | 7)
        for page in range(256):
            m.PHYSICAL.write_64(root + 0x3000 + 8 * page, page << 12 | 0x37)
    m.PHYSICAL.write_64(EPT_TABLE + 0x7000 + 8 * (PAGE >> 12), OTHER | 0x37)
    m.PHYSICAL.write_64(EPTP_LIST + 8, EPT_TABLE + 0x4000 | 0x1E)
    controls = {
        "PRIMARY_CONTROLS": m.vmcs.PRIMARY_CONTROLS | 1 << 31,
        "SECONDARY_CONTROLS": EPT | VM_FUNCTIONS,
    }
    pointers = {"EPT_POINTER": EPT_TABLE | 0x1E, "EPTP_LIST_ADDRESS": EPTP_LIST, "VM_FUNCTION_CONTROLS": 1}
    enter(model, m, **controls, **pointers)
    m.GPR[RAX], m.GPR[RCX] = 0, 1
    m.PHYSICAL.write_bytes(m.RIP, bytes.fromhex("0f 01 d4"))
    assert read(model, m) == PAGE
    m.execute()
    assert read(model, m) == OTHER
