"""What newer processors added to VMX: shadow VMCSs, VM functions, #VE, MBEC, the virtual task priority, TSC scaling."""

from __future__ import annotations

from typing import Any

import pytest
from vmx_guest import enter, is_exit, is_fault, machine, run

from refmodel.model import Model
from refmodel.runtime import Abort

RAX, RCX, RDX, RBX = 0, 1, 2, 3
READ, WRITE, EXECUTE = range(3)
CF, ZF, ALL_STATUS = 1, 1 << 6, 0x8D5
UD, GP, VE = 6, 13, 20
PRIMARY = 0x04006172 | 1 << 31
USE_TSC_OFFSETTING, USE_TPR_SHADOW, USE_MSR_BITMAPS = 1 << 3, 1 << 21, 1 << 28
APIC_ACCESSES, EPT, X2APIC = 1 << 0, 1 << 1, 1 << 4
VM_FUNCTIONS, SHADOWING, EPT_VIOLATION_VE, MODE_BASED_EXECUTE = 1 << 13, 1 << 14, 1 << 18, 1 << 22
TSC_SCALING = 1 << 25
VMREAD, VMWRITE, TPR_BELOW_THRESHOLD, APIC_ACCESS, EPT_VIOLATION, VMFUNC = 23, 25, 43, 44, 48, 59

SHADOW, BITMAP, EPTP_LIST, INFORMATION, VIRTUAL_APIC = 0x20000, 0x21000, 0x22000, 0x23000, 0x24000
EPT_TABLE = 0x30000  # PML4, PDPT, PD and PT of the second 2 MiB
PAGE = 0x5000  # a page of the guest that nothing else uses


@pytest.fixture
def m(model: Model) -> Any:
    """The guest's 2 MiB are mapped by 4 KiB pages of an EPT, 1:1, which is only used if EPT is on."""
    processor = machine(model)
    memory = processor.PHYSICAL
    memory.write_64(EPT_TABLE, EPT_TABLE + 0x1407)  # with user execution
    memory.write_64(EPT_TABLE + 0x1000, EPT_TABLE + 0x2407)
    memory.write_64(EPT_TABLE + 0x2000, EPT_TABLE + 0x3407)
    for page in range(256):
        memory.write_64(EPT_TABLE + 0x3000 + 8 * page, page << 12 | 0x437)
    processor.vmcs.EPT_POINTER = EPT_TABLE | 0x1E
    processor.vmcs.VIRTUALIZATION_EXCEPTION_INFO = INFORMATION
    processor.vmcs.VMREAD_BITMAP = processor.vmcs.VMWRITE_BITMAP = BITMAP
    processor.vmcs.EPTP_LIST_ADDRESS = EPTP_LIST
    processor.vmcs.VIRTUAL_APIC_ADDRESS = VIRTUAL_APIC
    processor.vmcs.TSC_MULTIPLIER = 1 << 48
    return processor


def start(model: Model, m: Any, secondary: int, primary: int = 0, **fields: int) -> Any:
    """Enters the guest with these secondary and primary controls."""
    return enter(model, m, PRIMARY_CONTROLS=PRIMARY | primary, SECONDARY_CONTROLS=secondary, **fields)


def permit(m: Any, page: int, rights: int) -> None:
    """Changes the EPT entry of a page."""
    m.PHYSICAL.write_64(EPT_TABLE + 0x3000 + 8 * (page >> 12), page | 0x30 | rights)


# --- VMCS shadowing.  SDM 3C 25.10, 26.1.3, 31.3 ---


def shadowing(model: Model, m: Any, link: int = SHADOW, **fields: int) -> Any:
    m.PHYSICAL.write_32(SHADOW, 0x8000002B)
    return start(model, m, SHADOWING, VMCS_LINK_POINTER=link, **fields)


def test_fields_of_a_shadow_vmcs_keep_what_fits(model: Model, m: Any) -> None:
    shadowing(model, m)
    m.GPR[RBX] = 0x1122_3344_5566_7788
    for field, expected in (
        (0x0800, 0x7788),
        (0x4002, 0x5566_7788),
        (0x2010, m.GPR[RBX]),
        (0x681E, m.GPR[RBX]),
    ):
        m.GPR[RAX] = field
        assert run(m, "0f 79 c3") is None  # VMWRITE RAX, RBX
        assert run(m, "0f 78 c1") is None  # VMREAD RCX, RAX
        assert (m.GPR[RCX], m.RFLAGS & ALL_STATUS) == (expected, 0)
    m.GPR[RAX] = 0x2011
    run(m, "0f 78 c1")
    assert m.GPR[RCX] == 0x1122_3344


def test_the_bitmaps_decide_which_fields_exit(model: Model, m: Any) -> None:
    m.PHYSICAL.write_8(BITMAP + 0x681E // 8, 1 << (0x681E % 8))
    shadowing(model, m)
    m.GPR[RAX] = 0x681E
    assert is_exit(run(m, "0f 78 c1"), VMREAD)
    assert is_exit(run(m, "0f 79 c3"), VMWRITE)
    m.GPR[RAX] = 0x8000  # bits from 15 on always exit
    assert is_exit(run(m, "0f 78 c1"), VMREAD)


def test_a_shadow_vmcs_has_no_other_fields(model: Model, m: Any) -> None:
    shadowing(model, m)
    m.GPR[RAX], m.RFLAGS = 0x4001, 2 | ALL_STATUS  # the high half of a field of 32 bits
    assert run(m, "0f 78 c1") is None
    assert (m.RFLAGS & ALL_STATUS, m.vmcs.VM_INSTRUCTION_ERROR) == (ZF, 12)


def test_there_may_be_no_shadow_vmcs(model: Model, m: Any) -> None:
    shadowing(model, m, link=(1 << 64) - 1)
    m.RFLAGS = 2 | ALL_STATUS
    assert run(m, "0f 79 c3") is None
    assert m.RFLAGS & ALL_STATUS == CF


def test_only_privilege_level_0_uses_a_shadow_vmcs(model: Model, m: Any) -> None:
    shadowing(model, m)
    m.SEGMENT_RIGHTS[2] |= 3 << 5
    for entry in (0x1000, 0x2000, 0x3000):
        m.PHYSICAL.write_8(entry, m.PHYSICAL.read_8(entry) | 4)
    assert is_fault(run(m, "0f 78 c1"), GP)


def test_field_encodings_are_those_of_the_vmcs(model: Model, m: Any) -> None:
    """The ranges of `is_vmcs_field` are the fields of this specification, and the four PDPTEs that it has not."""
    known = {field.encoding for field in model.program.state_in("vmcs")}
    assert {n for n in range(1 << 15) if model.functions["is_vmcs_field"](m, n)} - known <= {0x0002}


# --- VM functions.  SDM 3C 26.5.6 ---


def test_eptp_switching(model: Model, m: Any) -> None:
    other = 0x40000
    m.PHYSICAL.write_bytes(other, bytes(m.PHYSICAL.read_bytes(EPT_TABLE, 0x1000)))
    m.PHYSICAL.write_64(EPTP_LIST + 8, other | 0x1E)
    start(model, m, EPT | VM_FUNCTIONS | EPT_VIOLATION_VE, VM_FUNCTION_CONTROLS=1)
    m.GPR[RAX], m.GPR[RCX] = 0, 1
    assert run(m, "0f 01 d4") is None
    assert other | 0x1E == m.vmcs.EPT_POINTER
    assert m.vmcs.EPTP_INDEX == 1
    for function, index in ((0, 2), (0, 512), (1, 1)):  # no pointer, not in the list, not a function
        m.GPR[RAX], m.GPR[RCX] = function, index
        assert is_exit(run(m, "0f 01 d4"), VMFUNC)
    m.GPR[RAX] = 64
    assert is_fault(run(m, "0f 01 d4"), UD)


def test_vmfunc_needs_its_control(model: Model, m: Any) -> None:
    start(model, m, EPT, VM_FUNCTION_CONTROLS=1)
    assert is_fault(run(m, "0f 01 d4"), UD)


# --- virtualization exceptions.  SDM 3C 26.5.7 ---


def read_page(model: Model, m: Any) -> Any:
    """MOV RAX, [PAGE] by a whole cycle; the exit, or None."""
    m.PHYSICAL.write_bytes(m.RIP, bytes.fromhex("48 8b 04 25") + PAGE.to_bytes(4, "little"))
    try:
        model.functions["cycle"](m)
    except Abort as abort:
        return abort.value
    return None


def with_handler(m: Any, vector: int) -> None:
    """An interrupt gate for the vector to 08:0x6000, with a GDT."""
    m.vmcs.GUEST_GDTR_BASE, m.vmcs.GUEST_GDTR_LIMIT = 0x7000, 0xF
    m.PHYSICAL.write_64(0x7008, 0x00AF9B000000FFFF)
    m.vmcs.GUEST_IDTR_BASE, m.vmcs.GUEST_IDTR_LIMIT = 0x7100, 0xFFF
    m.PHYSICAL.write_64(0x7100 + 16 * vector, 0x00008E0000086000)


def test_an_ept_violation_becomes_an_exception(model: Model, m: Any) -> None:
    with_handler(m, VE)
    permit(m, PAGE, 0)
    start(model, m, EPT | EPT_VIOLATION_VE, EPTP_INDEX=9)
    assert read_page(model, m) is None
    assert m.RIP == 0x6000
    area = [m.PHYSICAL.read_32(INFORMATION), m.PHYSICAL.read_32(INFORMATION + 4)]
    assert area == [EPT_VIOLATION, 0xFFFFFFFF]
    # Read of a page that is not present, a valid linear address, supervisor, writable.  SDM 3C table 28-7
    assert m.PHYSICAL.read_64(INFORMATION + 8) & 0x1FF == 0x181
    assert [m.PHYSICAL.read_64(INFORMATION + 16), m.PHYSICAL.read_64(INFORMATION + 24)] == [PAGE, PAGE]
    assert m.PHYSICAL.read_16(INFORMATION + 32) == 9


@pytest.mark.parametrize("why", ["suppressed", "busy", "delivering", "off"])
def test_other_ept_violations_exit(model: Model, m: Any, why: str) -> None:
    with_handler(m, VE)
    permit(m, PAGE, 1 << 63 if why == "suppressed" else 0)
    m.PHYSICAL.write_32(INFORMATION + 4, why == "busy")
    start(model, m, EPT | (0 if why == "off" else EPT_VIOLATION_VE))
    if why == "delivering":
        m.GPR[4] = PAGE + 0x800
        m.PHYSICAL.write_bytes(m.RIP, bytes.fromhex("0f 0b"))  # UD2, whose frame goes to the page
        with_handler(m, UD)
        with pytest.raises(Abort) as abort:
            model.functions["cycle"](m)
        assert is_exit(abort.value.value, EPT_VIOLATION)
        assert abort.value.value.vectoring_information == 0x80000306
    else:
        assert is_exit(read_page(model, m), EPT_VIOLATION)
    assert m.PHYSICAL.read_32(INFORMATION) == 0


# --- mode-based execute control.  SDM 3C 29.3.2, 29.3.3.2 ---


@pytest.mark.parametrize("user", [False, True])
@pytest.mark.parametrize("rights", [0x001, 0x005, 0x401, 0x405])
def test_execution_depends_on_the_mode_of_the_address(model: Model, m: Any, user: bool, rights: int) -> None:
    permit(m, PAGE, rights)
    start(model, m, EPT | MODE_BASED_EXECUTE)
    page_rights = model.namespace["PageRights"](writable=True, user=user, executable=True)

    def translate() -> Any:
        return model.functions["ept_translate"](m, PAGE, EXECUTE, PAGE, False, page_rights)

    if rights & (0x400 if user else 0x004):
        assert translate() == PAGE
    else:
        with pytest.raises(Abort) as abort:
            translate()
        assert is_exit(abort.value.value, EPT_VIOLATION)
        assert abort.value.value.qualification >> 5 & 3 == (rights >> 2 & 1 | rights >> 9 & 2)


# --- the virtual task priority.  SDM 3C 30 ---


def test_accesses_to_the_apic_page(model: Model, m: Any) -> None:
    start(model, m, APIC_ACCESSES, APIC_ACCESS_ADDRESS=PAGE)
    m.GPR[RBX] = PAGE + 0x300
    read, write = run(m, "8b 03"), run(m, "89 03")
    assert (read.reason, read.qualification) == (APIC_ACCESS, 0x300)
    assert (write.reason, write.qualification) == (APIC_ACCESS, 0x1300)


def test_the_apic_page_is_the_one_that_ept_leads_to(model: Model, m: Any) -> None:
    frame = 0x60000
    m.PHYSICAL.write_64(EPT_TABLE + 0x3000 + 8 * (PAGE >> 12), frame | 0x437)
    start(model, m, APIC_ACCESSES | EPT, APIC_ACCESS_ADDRESS=frame)
    m.GPR[RBX] = PAGE + 0x300
    write = run(m, "89 03")
    assert (write.reason, write.qualification) == (APIC_ACCESS, 0x1300)


def test_the_tpr_of_the_apic_page_is_in_the_virtual_apic(model: Model, m: Any) -> None:
    start(model, m, APIC_ACCESSES, USE_TPR_SHADOW, APIC_ACCESS_ADDRESS=PAGE)
    m.GPR[RBX], m.GPR[RAX] = PAGE + 0x80, 0x70
    assert run(m, "89 03") is None
    assert m.PHYSICAL.read_32(VIRTUAL_APIC + 0x80) == 0x70
    assert run(m, "8b 0b") is None
    assert m.GPR[RCX] == 0x70
    m.GPR[RBX] = PAGE + 0x84
    assert is_exit(run(m, "89 03"), APIC_ACCESS)


def test_other_accesses_to_the_apic_page_exit(model: Model, m: Any) -> None:
    """SDM 3C 30.4.2, table 28-6: 880h is another offset than 80h; a fetch, which has type 2, is never virtualized."""
    start(model, m, APIC_ACCESSES, USE_TPR_SHADOW, APIC_ACCESS_ADDRESS=PAGE)
    m.GPR[RBX] = PAGE + 0x880
    read = run(m, "8b 03")
    assert (read.reason, read.qualification) == (APIC_ACCESS, 0x880)
    m.RIP = PAGE + 0x80
    fetch = run(m, "90")
    assert (fetch.reason, fetch.qualification) == (APIC_ACCESS, 0x2080)


def test_walks_through_the_apic_page_do_not_exit(model: Model, m: Any) -> None:
    """SDM 3C 30.4.6: they may exit or not."""
    start(model, m, APIC_ACCESSES, APIC_ACCESS_ADDRESS=0x3000)  # a table of the guest
    assert run(m, "90") is None


@pytest.mark.parametrize(
    ("controls", "reason", "qualification"),
    [(APIC_ACCESSES, APIC_ACCESS, 0x37F8), (EPT, EPT_VIOLATION, 0x182)],
)
def test_an_access_during_the_delivery_of_an_event(
    model: Model, m: Any, controls: int, reason: int, qualification: int
) -> None:
    """SDM 3C table 28-6: type 3.  A violation says nothing of that, table 28-7."""
    with_handler(m, UD)
    permit(m, PAGE, 0)
    start(model, m, controls, APIC_ACCESS_ADDRESS=PAGE)
    m.GPR[4] = PAGE + 0x800  # where the frame goes
    m.PHYSICAL.write_bytes(m.RIP, bytes.fromhex("0f 0b"))
    with pytest.raises(Abort) as abort:
        model.functions["cycle"](m)
    event = abort.value.value
    assert (event.reason, event.vectoring_information) == (reason, 0x80000306)
    assert event.qualification & 0xF1FF == qualification & 0xF1FF
    assert reason != APIC_ACCESS or event.qualification & 0xFFF in range(0x7D8, 0x800)


def test_a_low_task_priority_exits(model: Model, m: Any) -> None:
    m.PHYSICAL.write_8(VIRTUAL_APIC + 0x80, 0x50)
    start(model, m, 0, USE_TPR_SHADOW, TPR_THRESHOLD=5)
    m.GPR[RAX] = 5
    assert run(m, "44 0f 22 c0") is None  # MOV CR8, RAX
    m.GPR[RAX] = 4
    assert is_exit(run(m, "44 0f 22 c0"), TPR_BELOW_THRESHOLD)


def test_the_tpr_as_an_msr(model: Model, m: Any) -> None:
    start(model, m, X2APIC, USE_TPR_SHADOW | USE_MSR_BITMAPS, MSR_BITMAP=BITMAP)
    m.GPR[RCX], m.GPR[RAX] = 0x808, 0x30
    assert run(m, "0f 30") is None
    assert m.PHYSICAL.read_8(VIRTUAL_APIC + 0x80) == 0x30
    m.GPR[RAX] = 0
    assert run(m, "0f 32") is None
    assert m.GPR[RAX] == 0x30
    m.GPR[RAX] = 0x100  # reserved
    assert is_fault(run(m, "0f 30"), GP)


# --- the time-stamp counter.  SDM 3C 25.6.5 ---


@pytest.mark.parametrize(
    ("multiplier", "tsc", "expected"),
    [(1 << 49, 1000, 2000), (1 << 47, 1001, 500), (3 << 47, 1 << 63, 1 << 62 | 1 << 63)],
)
def test_tsc_scaling(model: Model, m: Any, multiplier: int, tsc: int, expected: int) -> None:
    start(model, m, TSC_SCALING, USE_TSC_OFFSETTING, TSC_MULTIPLIER=multiplier, TSC_OFFSET=7)
    m.TSC = tsc
    assert run(m, "0f 31") is None
    assert m.GPR[RDX] << 32 | m.GPR[RAX] == expected + 7
