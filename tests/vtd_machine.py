"""A machine whose remapping hardware is on, for tests of VT-d, and what devices do with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from refmodel.memory import PhysicalMemory
from refmodel.model import Model
from refmodel.runtime import Abort

READ, WRITE = 0, 1
R, W, LARGE = 1, 2, 0x80
PRESENT, FPD, ATS, PASS_THROUGH = 1, 2, 1 << 2, 2 << 2
WIDTH_39, WIDTH_48 = 1, 2
DOMAIN = 0x123
SIZE = 1 << 20  # of memory
ROOTS, CONTEXTS, INTERRUPTS = 0x10000, 0x11000, 0x12000
TABLES = {4: 0x20000, 3: 0x21000, 2: 0x22000, 1: 0x23000}
DEVICE = 0x0312  # bus 3, device 2, function 2
PAGE = 0x12_3456_7000
FRAME = 0x40000

# VT-d 10.4.5: TES, RTPS, IRES, IRTPS
REMAPPING_ON = 1 << 31 | 1 << 30 | 1 << 25 | 1 << 24
# VT-d 10.4.14: the high half of a record
FAULT, IS_READ = 1 << 63, 1 << 62


def index(address: int, level: int) -> int:
    return address >> 12 + 9 * (level - 1) & 0x1FF


def place(address: int, level: int) -> int:
    return TABLES[level] + 8 * index(address, level)


def context_place(device: int = DEVICE) -> int:
    return CONTEXTS + 16 * (device & 0xFF)


def set_context(machine: Any, low: int, high: int, device: int = DEVICE) -> None:
    machine.PHYSICAL.write_64(context_place(device), low)
    machine.PHYSICAL.write_64(context_place(device) + 8, high)


def machine_with_remapping(model: Model, memory: PhysicalMemory | int = SIZE) -> Any:
    """Remapping is on; PAGE of the device leads to FRAME, for reads and writes."""
    machine = model.machine(memory)
    machine.GLOBAL_STATUS = REMAPPING_ON
    machine.ROOT_TABLE_ADDRESS = ROOTS
    machine.INTERRUPT_TABLE_ADDRESS = INTERRUPTS | 7  # 2^8 entries
    machine.PHYSICAL.write_64(ROOTS + 16 * (DEVICE >> 8), CONTEXTS | PRESENT)
    set_context(machine, TABLES[4] | PRESENT, DOMAIN << 8 | WIDTH_48)
    for level in (4, 3, 2):
        machine.PHYSICAL.write_64(place(PAGE, level), TABLES[level - 1] | R | W)
    machine.PHYSICAL.write_64(place(PAGE, 1), FRAME | R | W)
    return machine


@dataclass(frozen=True)
class Outcome:
    """Where an access goes, or the reason why it is blocked."""

    physical: int | None = None
    reason: int | None = None


def translate(
    model: Model, m: Any, access: int = READ, address: int = PAGE | 0x128, device: int = DEVICE
) -> Outcome:
    try:
        return Outcome(model.functions["dma_translate"](m, device, address, access))
    except Abort as abort:
        return Outcome(reason=abort.value.reason)


def records(m: Any) -> list[tuple[int, int]]:
    """The fault records that are in use: information and high half."""
    return [(m.FAULT_INFORMATION[n], m.FAULT_RECORD[n]) for n in range(8) if m.FAULT_RECORD[n] >> 63]


def forget_all(model: Model, m: Any) -> None:
    model.functions["invalidate_contexts"](m, 1 | 1 << 4)
    model.functions["invalidate_translations"](m, 2 | 1 << 4 | 3 << 6, 0)


# --- the interrupt-remapping table.  VT-d 5.1.2.2, 9.10 ---

REMAPPABLE, SHV = 0xFEE00010, 8
VECTOR = 0x51
BY_SOURCE, BY_BUS = 1 << 18, 2 << 18


def set_irte(m: Any, number: int, low: int, high: int) -> None:
    m.PHYSICAL.write_64(INTERRUPTS + 16 * number, low)
    m.PHYSICAL.write_64(INTERRUPTS + 16 * number + 8, high)


def irte(vector: int = VECTOR, destination: int = 3) -> int:
    return PRESENT | vector << 16 | destination << 40


def message(number: int) -> int:
    """The address for an interrupt of the table, without a subhandle."""
    return REMAPPABLE | (number & 0x7FFF) << 5 | (number >> 15) << 2
