"""The machine that kernels run on: a guest in VMX non-root mode, with guest paging and EPT, all in pages of 4 KiB."""

from __future__ import annotations

from typing import Any

from checks.bench.kernels import BUFFER_SIZE, PAGE_SIZE, Kernel
from refmodel.model import Model

CODE = 0x100000
STACK_TOP = 0x1F0000
END = 0x1F1000  # where kernels return to
BUFFER = 0x400000
MEMORY_SIZE = BUFFER + BUFFER_SIZE
RDI, RSP = 7, 4

GUEST_TABLES, EPT_TABLES = 0x10000, 0x80000
ENTRIES = 512
GUEST_BITS = 0x63  # present, writable, accessed, dirty
EPT_BITS, EPT_WRITE_BACK = 7, 6 << 3
EPT_POINTER_BITS = 3 << 3 | 6  # four levels, write-back
CS = 1
CODE_RIGHTS, DATA_RIGHTS = 0xA09B, 0xC093
MOST_TIME = 0xFFFF_FFFF  # of the VMX-preemption timer
GUEST = 1
HLT = 0xF4


def make_machine(model: Model) -> Any:
    """A machine of the reference model that is ready for kernels."""
    machine = model.machine(MEMORY_SIZE)
    write_tables(machine, GUEST_TABLES, GUEST_BITS, GUEST_BITS)
    write_tables(machine, EPT_TABLES, EPT_BITS, EPT_BITS | EPT_WRITE_BACK)
    machine.CR0, machine.CR3, machine.CR4, machine.EFER = 0x80050033, GUEST_TABLES, 0x20, 0xD01
    for segment in range(6):
        machine.SEGMENT_RIGHTS[segment] = CODE_RIGHTS if segment == CS else DATA_RIGHTS
    model.functions["set_controls"](machine, GUEST)
    machine.vmcs.EPT_POINTER = EPT_TABLES | EPT_POINTER_BITS
    machine.IN_NON_ROOT = True
    return machine


def write_tables(machine: Any, root: int, table_bits: int, page_bits: int) -> None:
    """Four levels of tables that map all of memory to itself; guest tables and EPT differ in their bits only."""
    write = machine.PHYSICAL.write_64
    pages = MEMORY_SIZE // PAGE_SIZE
    last = root + 3 * PAGE_SIZE
    write(root, root + PAGE_SIZE | table_bits)
    write(root + PAGE_SIZE, root + 2 * PAGE_SIZE | table_bits)
    for number in range(-(-pages // ENTRIES)):
        write(root + 2 * PAGE_SIZE + 8 * number, last + number * PAGE_SIZE | table_bits)
    for number in range(pages):
        write(last + 8 * number, number * PAGE_SIZE | page_bits)


def prepare(machine: Any, code: bytes, kernel: Kernel) -> None:
    """Puts a machine at the start of a kernel."""
    memory = machine.PHYSICAL
    memory.write_bytes(CODE, code)
    memory.write_bytes(END, bytes((HLT,)))
    for offset, data in kernel.data:
        memory.write_bytes(BUFFER + offset, data)
    memory.write_64(STACK_TOP, END)
    machine.GPR[RDI], machine.GPR[RSP] = BUFFER, STACK_TOP
    machine.RIP = CODE
    machine.PREEMPTION_TIMER_VALUE = MOST_TIME
