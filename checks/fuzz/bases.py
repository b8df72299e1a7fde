"""The machines that fuzz cases start from: paging on, an IDT, pages of every kind, at CPL 0 or 3, with EPT or without.

A base is named by `kernel` or `user`, with `guest-` before it in VMX non-root mode. Linear, guest-physical and
host-physical addresses are equal where something is mapped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from refmodel.model import Model

BASES = ("kernel", "user", "guest-kernel", "guest-user")

MEMORY_SIZE = 0x60000  # bytes
NOP = b"\x90"
PAGE_SIZE = 0x1000

PML4, PDPT, DIRECTORY, TABLE = 0x1000, 0x2000, 0x3000, 0x4000
GDT, IDT, TSS, HANDLERS = 0x5000, 0x6000, 0x7000, 0x8000
CODE = 0x10000  # two pages
STACK = 0x20000  # two pages
STACK_TOP = 0x21800
DATA = 0x30000  # four plain pages
EPT_PML4, EPT_PDPT, EPT_DIRECTORY, EPT_TABLE = 0x40000, 0x41000, 0x42000, 0x43000
# Where the page tables and the EPT's tables lie.
TABLE_RANGES = (range(PML4, TABLE + PAGE_SIZE), range(EPT_PML4, EPT_TABLE + PAGE_SIZE))

# Bits of guest page-table entries and of EPT entries.  SDM 3A table 5-20, 3C table 29-7
PRESENT, WRITABLE, USER, ACCESSED, DIRTY, NO_EXECUTE = 1, 2, 4, 0x20, 0x40, 1 << 63
EPT_ALL, EPT_READ, EPT_WRITE_BACK, EPT_ACCESSED, EPT_DIRTY = 7, 1, 6 << 3, 1 << 8, 1 << 9
_EPT_USED = EPT_ALL | EPT_ACCESSED | EPT_DIRTY
_EPT_ATTRIBUTES = 1 << 6 | 3 << 3 | 6  # accessed and dirty bits, four levels, write-back
USED = PRESENT | WRITABLE | ACCESSED | DIRTY


@dataclass(frozen=True)
class Page:
    """A page of a kind: the bits of its guest page-table entry (apart from USER) and of its EPT entry."""

    address: int
    entry: int
    ept: int = _EPT_USED


# Pages that a memory access can hit, each with something of its own.
SPECIAL_PAGES = (
    Page(0x34000, PRESENT | ACCESSED),  # read-only
    Page(0x35000, USED & ~USER),  # supervisor
    Page(0x36000, 0),  # not present
    Page(0x37000, PRESENT | WRITABLE, EPT_ALL),  # accessed and dirty bits to be set
    Page(0x38000, USED | NO_EXECUTE),
    Page(0x39000, USED, 0),  # an EPT violation
    Page(0x3A000, USED, EPT_READ | EPT_ACCESSED | EPT_DIRTY),
)
SUPERVISOR_PAGE = 0x35000
PLAIN_PAGES = (
    CODE,
    CODE + PAGE_SIZE,
    STACK,
    STACK + PAGE_SIZE,
    *range(DATA, DATA + 4 * PAGE_SIZE, PAGE_SIZE),
)
SYSTEM_PAGES = (GDT, IDT, TSS, HANDLERS)

_KERNEL_SELECTORS = {"CS": 0x08, "SS": 0x10, "DS": 0x10, "ES": 0x10}
_USER_SELECTORS = {"CS": 0x23, "SS": 0x1B, "DS": 0x1B, "ES": 0x1B}
_DESCRIPTORS = (0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF, 0x00CFF3000000FFFF, 0x00AFFB000000FFFF)
_DPL_SHIFT = 5
_CODE_RIGHTS, _DATA_RIGHTS, _UNUSABLE = 0xA09B, 0xC093, 0x10000


def memory_image(user: bool) -> bytes:
    """The content of memory: tables, descriptors, data that differs from byte to byte."""
    memory = bytearray(MEMORY_SIZE)
    pattern = bytes(7 * i & 0xFF for i in range(PAGE_SIZE))
    for page in (*PLAIN_PAGES, *(special.address for special in SPECIAL_PAGES)):
        memory[page : page + PAGE_SIZE] = pattern
    for page in (HANDLERS, CODE, CODE + PAGE_SIZE):
        memory[page : page + PAGE_SIZE] = NOP * PAGE_SIZE
    _write_page_tables(memory, USER if user else 0)
    _write_words(memory, GDT, _DESCRIPTORS)
    for vector in range(256):
        privilege = 3 if vector in (3, 4) else 0
        gate = HANDLERS + 8 * vector
        _write_words(memory, IDT + 16 * vector, (gate & 0xFFFF | 8 << 16 | (0x8E | privilege << 5) << 40, 0))
    memory[TSS + 4 : TSS + 12] = STACK_TOP.to_bytes(8, "little")
    return bytes(memory)


def _write_page_tables(memory: bytearray, user: int) -> None:
    for table, entry in ((PML4, PDPT), (PDPT, DIRECTORY), (DIRECTORY, TABLE)):
        _write_words(memory, table, (entry | USED | USER,))
    for table, entry in ((EPT_PML4, EPT_PDPT), (EPT_PDPT, EPT_DIRECTORY), (EPT_DIRECTORY, EPT_TABLE)):
        _write_words(memory, table, (entry | EPT_ALL | EPT_ACCESSED,))
    pages = [Page(address, USED) for address in (*PLAIN_PAGES, *SYSTEM_PAGES)]
    for page in (*pages, *SPECIAL_PAGES):
        bits = page.entry | (user if page.address not in (SUPERVISOR_PAGE, *SYSTEM_PAGES) else 0)
        _write_words(
            memory, TABLE + page.address // PAGE_SIZE * 8, (page.address | bits if bits & PRESENT else 0,)
        )
    rights = {page.address: page.ept for page in SPECIAL_PAGES}
    for address in range(0, MEMORY_SIZE, PAGE_SIZE):
        allowed = rights.get(address, _EPT_USED)
        entry = address | allowed | EPT_WRITE_BACK if allowed else 0
        _write_words(memory, EPT_TABLE + address // PAGE_SIZE * 8, (entry,))


def _write_words(memory: bytearray, address: int, words: tuple[int, ...]) -> None:
    for n, word in enumerate(words):
        memory[address + 8 * n : address + 8 * n + 8] = word.to_bytes(8, "little")


class Bases:
    """Puts machines into the state of a base; the memory images are made once."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._images = {user: memory_image(user) for user in (False, True)}
        constants = model.program.constants
        self._segments = {
            name: constants[name].value for name in ("ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR")
        }
        self._stack_pointer = constants["RSP"].value

    def prepare(self, machine: Any, base: str) -> None:
        """Resets a machine of MEMORY_SIZE bytes to a base."""
        user = base.endswith("user")
        machine.reset()
        machine.PHYSICAL.data[:MEMORY_SIZE] = self._images[user]  # not recorded: the start, not a change
        machine.CR0, machine.CR3, machine.CR4, machine.EFER = 0x80050033, PML4, 0x20, 0xD01
        machine.RIP = CODE
        machine.GPR[self._stack_pointer] = STACK_TOP
        machine.GDTR_BASE, machine.GDTR_LIMIT = GDT, 0x27
        machine.IDTR_BASE, machine.IDTR_LIMIT = IDT, 0xFFF
        self._set_segments(machine, user)
        if base.startswith("guest-"):
            self._enter(machine)

    def _set_segments(self, machine: Any, user: bool) -> None:
        privilege = 3 << _DPL_SHIFT if user else 0
        for name, number in self._segments.items():
            machine.SEGMENT_RIGHTS[number] = _UNUSABLE
            machine.SEGMENT_LIMIT[number] = 0
            machine.SEGMENT_SELECTOR[number] = 0
            selector = (_USER_SELECTORS if user else _KERNEL_SELECTORS).get(name)
            if selector is not None:
                machine.SEGMENT_SELECTOR[number] = selector
                machine.SEGMENT_LIMIT[number] = 0xFFFFFFFF
                machine.SEGMENT_RIGHTS[number] = (_CODE_RIGHTS if name == "CS" else _DATA_RIGHTS) | privilege
        task = self._segments["TR"]
        machine.SEGMENT_SELECTOR[task], machine.SEGMENT_RIGHTS[task] = 0x28, 0x8B
        machine.SEGMENT_BASE[task], machine.SEGMENT_LIMIT[task] = TSS, 0x67

    def _enter(self, machine: Any) -> None:
        """VMX non-root mode under the VMM's own controls, with this base's EPT."""
        self._model.functions["set_controls"](machine, 1)
        machine.vmcs.EPT_POINTER = EPT_PML4 | _EPT_ATTRIBUTES
        machine.PREEMPTION_TIMER_VALUE = 0xFFFF  # far beyond the end of any case
        machine.IN_NON_ROOT = True
