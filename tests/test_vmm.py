"""What guests get from the VMM at each exit: small guests say on the console what they saw."""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Any

import pytest

import refmodel
from checks.gallery.scenario import LOAD_TABLES
from checks.walk import state_read
from refmodel.assembler import assemble
from refmodel.encoder import Encoder
from refmodel.image import FLAT_ADDRESS, Image, Segment
from refmodel.session import Session

MODEL = refmodel.load()
GHOSTS = {variable.name for variable in MODEL.program.state_in("ghost")}
PAGE = 0x1000
MEMORY = 0x40000


@cache
def encoder() -> Encoder:
    return Encoder(MODEL.program)


def session_of(*texts: str) -> tuple[Session, dict[int, str]]:
    """Guests that run these texts, and what each writes."""
    written: dict[int, str] = dict.fromkeys(range(1, len(texts) + 1), "")

    def console(guest: int, byte: int) -> None:
        written[guest] += chr(byte)

    images = []
    for text in texts:
        data = assemble(f"org {FLAT_ADDRESS}\n{text}\n", encoder()).code
        images.append(Image("guest", (Segment(FLAT_ADDRESS, data, len(data)),), FLAT_ADDRESS))
    return Session(MODEL, images, MEMORY, console), written


def output_of(text: str) -> str:
    session, written = session_of(text)
    session.run(100_000)
    assert session.guests[1].reason is not None
    return written[1]


def hex_digits(register: str, digits: int) -> str:
    """Prints the low digits of a register."""
    lines = (
        [f"mov r14, {register}", f"rol r14, {64 - 4 * digits}"] if digits < 16 else [f"mov r14, {register}"]
    )
    for _ in range(digits):
        lines += ["rol r14, 4", "mov al, r14b", "and al, 15", "add al, 0x41", "out 0xe9, al"]
    return "\n".join(lines)


def reading(digits: str) -> int:
    """The number that `hex_digits` printed."""
    return int("".join(f"{ord(d) - 0x41:x}" for d in digits), 16)


def value_after(text: str, register: str = "rax", digits: int = 16) -> int:
    """What a guest has in a register after some instructions."""
    return reading(output_of(f"{text}\nmov r13, {register}\n{hex_digits('r13', digits)}\nhlt"))


# --- emulation ---------------------------------------------------------------------------------------


def test_the_console_gets_all_eight_bits() -> None:
    assert output_of("mov al, 0xC3\nout 0xe9, al\nhlt") == "\xc3"


def test_cpuid_names_the_vendor_in_ebx_edx_ecx() -> None:
    """SDM 2A "CPUID": leaf 0 gives the vendor in EBX, EDX, ECX."""
    parts = [value_after("mov eax, 0\ncpuid", r, 8) for r in ("rbx", "rdx", "rcx")]
    assert b"".join(part.to_bytes(4, "little") for part in parts) == b"nonroot  VMM"


def test_cpuid_tells_of_the_hypervisor_and_of_64_bit_mode() -> None:
    assert value_after("mov eax, 1\ncpuid", "rcx") >> 31 & 1
    assert value_after("mov eax, 0x80000001\ncpuid", "rdx") >> 29 & 1


@pytest.mark.parametrize(
    ("index", "low", "high"),
    [
        (0xC0000082, 0x1234, 0),  # LSTAR
        (0xC0000102, 0x5678, 0),  # KERNEL_GS_BASE
        (0xC0000100, 0x9ABC, 0),  # FS_BASE
        (0xC0000080, 0xD01, 0),  # EFER
        (0x277, 0x07040600, 0x70406),  # PAT
    ],
)
def test_msrs_hold_what_was_written(index: int, low: int, high: int) -> None:
    text = f"mov ecx, {index}\nmov eax, {low}\nmov edx, {high}\nwrmsr\nmov eax, 0\nrdmsr"
    assert value_after(text, "rax", 8) == low
    assert value_after(text, "rdx", 8) == high


def test_a_port_that_nothing_answers_reads_ones() -> None:
    assert value_after("mov rax, 0\nmov edx, 0x1234\nin al, dx", "rax") == 0xFF
    assert value_after("mov rax, -1\nmov edx, 0x1234\nin eax, dx", "rax") == 0xFFFFFFFF


def test_com1_is_ready_and_writes() -> None:
    assert value_after("mov rax, 0\nmov edx, 0x3fd\nin al, dx") == 0x60
    assert output_of("mov edx, 0x3f8\nmov al, 0x21\nout dx, al\nhlt") == "!"


def test_cr8_is_the_guests_own() -> None:
    assert value_after("mov rax, 7\nmov cr8, rax\nmov rax, 0\nmov rax, cr8") == 7


def test_cr0_cd_is_feigned() -> None:
    """The guest may turn the caches off, as it sees it; the processor keeps them on."""
    session, written = session_of(
        f"mov rax, cr0\nor rax, 0x40000000\nmov cr0, rax\nmov rcx, cr0\n{hex_digits('rcx', 8)}\nhere: jmp here"
    )
    session.run(600)
    assert reading(written[1]) >> 30 & 1
    assert not session.machine.CR0 >> 30 & 1


def test_vmx_is_hidden() -> None:
    assert value_after("mov rax, cr4") & 0x2000 == 0


# --- faults ------------------------------------------------------------------------------------------


def tables() -> str:
    """The handlers, the descriptor tables and room for the IDT, behind a guest's code."""
    handlers = "\n".join(f"align 16\nmov al, {0x61 + vector}\nout 0xe9, al\nhlt" for vector in range(32))
    gdt = "gdt: dq 0, 0x00af9b000000ffff, 0x00cf93000000ffff"
    return f"""
    hlt
    align 16
handlers:
    {handlers}
    align 16
{gdt}
gdtr: dw 23
    dq gdt
idtr: dw 511
    dq idt
    align 16
idt: times 512 db 0
"""


@pytest.mark.parametrize(
    ("text", "vector"),
    [
        ("mov ecx, 0x1234\nrdmsr", 13),  # no such MSR
        ("mov ecx, 0xc0000082\nmov edx, 0x12345678\nmov eax, 0\nwrmsr", 13),  # LSTAR not canonical
        ("mov ecx, 0xc0000080\nmov eax, 0\nmov edx, 0\nwrmsr", 13),  # leaving IA-32e mode
        ("mov rax, 0\nmov cr0, rax", 13),  # no paging in 64-bit mode
        ("mov rax, cr4\nor rax, 0x2000\nmov cr4, rax", 13),  # CR4.VMXE
        ("mov rax, 16\nmov cr8, rax", 13),
        (f"mov rax, [{MEMORY + PAGE:#x}]", 13),  # no memory there
        ("ud2", 6),
    ],
)
def test_faults_go_to_the_guests_handler(text: str, vector: int) -> None:
    assert output_of(f"{LOAD_TABLES}\n{text}\n{tables()}") == chr(0x61 + vector)


def test_a_guest_that_exits_below_the_noncanonical_addresses_gets_a_fault() -> None:
    """VM entry does not compare bit 47 of RIP: fetching there is #GP(0).  SDM 3C 27.3.1.4, 3A 6.15 "Interrupt 13"

    CPUID is in the last two bytes of the page at 0x20000, which is also mapped at the end of the lower addresses.
    """
    entries = {0x17F8: 0x2003, 0x2FF8: 0x3003, 0x3FF8: 0x4003, 0x4FF8: 0x20003}
    maps = "\n".join(f"mov qword [{place:#x}], {entry:#x}" for place, entry in entries.items())
    text = f"{maps}\nmov word [0x20ffe], 0xa20f\nmov rbx, 0x7ffffffffffe\njmp rbx"
    session, written = session_of(f"{LOAD_TABLES}\n{text}\n{tables()}", "mov al, 0x79\nout 0xe9, al\nhlt")
    session.run(10_000)
    assert written == {1: "n", 2: "y"}
    assert {guest.reason for guest in session.guests.values()} == {MODEL.namespace["ExitReason_HLT"]}


# --- hypercalls --------------------------------------------------------------------------------------


def hypercall(number: int, argument: int = 0) -> str:
    return f"mov eax, {number}\nmov ebx, {argument}\nvmcall"


FAILED = (1 << 64) - 1


def test_hypercalls_write_and_exit() -> None:
    assert output_of(f"{hypercall(0, ord('h'))}\n{hypercall(2)}\n{hypercall(0, ord('x'))}") == "h"


def test_an_unknown_hypercall_fails() -> None:
    assert value_after(hypercall(99)) == FAILED


def test_a_page_given_back_is_gone_and_its_frame_free() -> None:
    page = 0x20
    session, _ = session_of(f"{hypercall(3, page)}\nhere: jmp here")
    frame = session.guests[1].frames[page]
    session.run(50)
    assert session.machine.GPR[0] == 0
    assert session.machine.FRAME_KIND[frame] == 1  # FREE
    assert session.machine.FRAME_OWNER[frame] == 0


def test_a_page_given_back_cannot_be_read() -> None:
    text = f"mov byte [0x20000], 1\n{hypercall(3, 0x20)}\nmov al, [0x20000]"
    assert output_of(f"{LOAD_TABLES}\n{text}\n{tables()}") == "n"  # 13, #GP


def test_a_page_taken_again_is_zero() -> None:
    text = f"mov byte [0x20000], 1\n{hypercall(3, 0x20)}\n{hypercall(4, 0x20)}\nmovzx eax, byte [0x20000]"
    assert value_after(text) == 0


def test_a_page_that_one_guest_gave_back_reaches_another_as_zeros() -> None:
    giver = f"mov byte [0x20000], 0x41\n{hypercall(3, 0x20)}\nhlt"
    taker = f"{hypercall(1)}\n{hypercall(4, 0x50)}\nmov al, [0x50000]\nadd al, 0x30\nout 0xe9, al\nhlt"
    session, written = session_of(giver, taker)
    frame = session.guests[1].frames[0x20]
    session.run(10_000)
    assert session.machine.FRAME_OWNER[frame] == 2
    assert written[2] == "0"


@pytest.mark.parametrize("page", [0x20, 0x1_0000, 0x7FFF_FFFF])
def test_pages_that_cannot_be_taken(page: int) -> None:
    """One that the guest has, and pages beyond the limit."""
    assert value_after(hypercall(4, page)) == FAILED


def test_frames_of_a_guest_that_is_gone_reach_others_as_zeros() -> None:
    """With no other memory left, the second guest gets what the first had, after it looked often enough."""
    gone = "mov byte [0x20000], 0x41\nhlt"
    taking = f"again: {hypercall(4, 0x50)}\ncmp rax, 0\njne again\nmov al, [0x50000]\nadd al, 0x30\nout 0xe9, al\nhlt"
    session, written = session_of(gone, f"{hypercall(1)}\n{taking}")
    session.machine.MEMORY_END = session.machine.NEXT_FRAME
    session.run(10_000)
    assert written[2] == "0"
    assert session.machine.VM_STATE[1] == 4  # RETIRED


# --- several guests ----------------------------------------------------------------------------------


def test_yielding_guests_take_turns() -> None:
    def guest(mark: str) -> str:
        return "\n".join(f"{hypercall(0, ord(mark))}\n{hypercall(1)}" for _ in range(3)) + "\nhlt"

    order: list[int] = []
    session, _ = session_of(guest("a"), guest("b"))
    session.machine.listeners["console"] = lambda number, _byte: order.append(number)
    session.run(10_000)
    assert order in ([1, 2] * 3, [2, 1] * 3)


def test_registers_that_the_processor_does_not_switch_are_the_guests_own() -> None:
    """CR2, DR0 and R15, with the other guest running in between."""

    def guest(mark: int) -> str:
        set_all = f"mov rax, {mark}\nmov cr2, rax\nmov dr0, rax\nmov r15, rax\n{hypercall(1)}\n"
        shown = "".join(f"mov rcx, {r}\n{hex_digits('rcx', 2)}\n" for r in ("cr2", "dr0", "r15"))
        return set_all + hypercall(1) + "\n" + shown + "hlt"

    session, written = session_of(guest(0x11), guest(0x22))
    session.run(10_000)
    assert written == {1: "BBBBBB", 2: "CCCCCC"}


# --- what is proved also holds of this run ------------------------------------------------------------


def invariants_fail_at(machine: Any, frames: list[int]) -> list[str]:
    """The invariants about real state that do not hold at these frames, guests 0 to 2 and some indices."""
    values = {
        "Frame": frames,
        "Vm": range(3),
        "Cpu": range(8),
        "Device": (0, 8, 16, 24, 0x300),  # the engines of both guests, and devices that nobody has
        "Domain": range(4),
        "bits(8)": (0, 0x20, 0x41, 0x42),
        "bits(9)": (0, 16, 0x20, 511),
        "bits(32)": range(3),
        "bits(3)": range(5),
    }
    failed = []
    for invariant in MODEL.program.invariants.values():
        if state_read(MODEL.program, invariant.condition) & GHOSTS:
            continue
        holds = MODEL.functions[f"invariant_{invariant.name}"]
        choices = [values[str(p.type)] if p.name != "offset" else (0, 5) for p in invariant.parameters]
        failed += [f"{invariant.name}{point}" for point in product(*choices) if not holds(machine, *point)]
    return failed


def test_the_invariant_and_the_policy_hold_while_guests_run() -> None:
    text = f"{hypercall(3, 0x20)}\n{hypercall(4, 0x30)}\n{hypercall(3, 0x10)}\n{hypercall(4, 0x20)}\nhere: jmp here"
    session, _ = session_of(text, text)
    machine = session.machine
    tables = [frame for frame, kind in machine.FRAME_KIND.items() if kind > 2]
    some = [session.guests[n].frames[page] for n in (1, 2) for page in (0, 0x20, 0x3F)]
    for _ in range(12):
        session.run(3)
        assert invariants_fail_at(machine, [*tables, *some, 0, 0x100]) == []
        if machine.IN_NON_ROOT:
            broken = [
                n
                for n, p in MODEL.program.policies.items()
                if not policy_holds(machine, n, len(p.parameters))
            ]
            assert broken == []


def policy_holds(machine: Any, name: str, parameters: int) -> bool:
    return bool(MODEL.functions[f"policy_{name}"](machine, *([0x10] * parameters)))
