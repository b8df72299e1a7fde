"""Bochs's processor in VMX root operation: enters a guest from a VMCS, runs it to its next VM exit, and reads the VMCS.

A small program in host memory, far above the guests', writes the fields, launches, and reads them back. It stops at
PREFETCHNTA, which Bochs announces.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from checks.fuzz.bochs.library import load
from checks.fuzz.bochs.watch import PAGE, Ones, Watch, address_of
from refmodel.assembler import assemble
from refmodel.encoder import Encoder
from refmodel.vectors import GPR_NAMES

HOST = 1 << 34  # where the host's pages lie
_PAGES = 11
PML4, PDPT, DIRECTORY, TABLE, CODE, VMXON, VMCS, POINTERS, WRITES, READS, VALUES = range(
    HOST, HOST + _PAGES * PAGE, PAGE
)
_SIZE = _PAGES * PAGE
_PRESENT_WRITABLE = 3
HOST_CR0, _CR4, _EFER, _XCR0 = 0x80000031, 0x42020, 0xD01, 7
_CODE_RIGHTS, _DATA_RIGHTS, _TASK_RIGHTS = 0xA09B, 0xC093, 0x8B
_CODE, _DATA, _TASK = 8, 16, 24  # selectors
_REVISION = 0x2B  # of Bochs's VMCS
_INSTRUCTION_ERROR = 0x4400
_READ_ONLY = 1  # the type in a field's encoding.  SDM 3C 25.11.2

# The host's state in the VMCS, by encoding.  SDM 3D B
HOST_STATE = {
    0x0C00: _DATA, 0x0C02: _CODE, 0x0C04: _DATA, 0x0C06: _DATA, 0x0C08: _DATA, 0x0C0A: _DATA, 0x0C0C: _TASK,
    0x2C00: 0x0007040600070406, 0x2C02: _EFER, 0x4C00: 0, 0x6C00: HOST_CR0, 0x6C02: PML4, 0x6C04: _CR4,
    0x6C06: 0, 0x6C08: 0, 0x6C0A: 0, 0x6C0C: 0, 0x6C0E: 0, 0x6C10: 0, 0x6C12: 0, 0x6C14: HOST,
}  # fmt: skip
_HOST_RIP = 0x6C16

_STOP = "db 0x0f, 0x18, 0x03"  # prefetchnta [rbx]
_PROGRAM = f"""
        org {CODE}
start:                                  ; VMX operation
        mov     ecx, 0x3a               ; IA32_FEATURE_CONTROL: locked, VMX
        mov     eax, 5
        xor     edx, edx
        wrmsr
        mov     rbx, {POINTERS}
        vmxon   [rbx]
        {_STOP}
load:                                   ; RCX fields
        invd                            ; forgets decoded instructions
        mov     rbx, {POINTERS}
        vmclear [rbx + 8]
        vmptrld [rbx + 8]
        mov     rsi, {WRITES}
next_write:
        mov     rax, [rsi]
        vmwrite rax, [rsi + 8]
        add     rsi, 16
        dec     rcx
        jne     next_write
        {_STOP}
launch:
        vmlaunch
failed:
        {_STOP}
        nop                             ; where it then stands
exited:
        {_STOP}
        nop
leave:                                  ; run in the guest: exits, if not for the fetch
        vmcall
read:                                   ; RCX fields
        mov     rsi, {READS}
        mov     rdi, {VALUES}
next_read:
        mov     rax, [rsi]
        vmread  [rdi], rax
        add     rsi, 8
        add     rdi, 8
        dec     rcx
        jne     next_read
        {_STOP}
"""

FAILED, EXITED, INSIDE, HALTED = "failed", "exited", "inside", "halted"


@dataclass(frozen=True, slots=True)
class Run:
    """How a run ended, and what registers held then that VMX does not switch, and RIP.

    `end` is FAILED (VMLAUNCH failed), EXITED, INSIDE (before the instruction that was one too many) or HALTED;
    `delivered` are the vectors of the events whose delivery began.
    """

    end: str
    rip: int
    general: list[int]
    others: dict[str, int]
    delivered: list[int]


class Processor:
    """Bochs, in VMX root operation from the start on.  Raises what `load` does.

    There is only one in a process: see `processor`. `host_state` is what the fields of the host's state hold, by
    encoding.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._library, self._memory = load()
        self._shared = 0  # the address of the memory that guests see
        self._encodings: tuple[int, ...] = ()
        self._host = mmap.mmap(-1, _SIZE)
        for offset in range(0, _SIZE, PAGE):
            self._memory.page_insert(HOST + offset, address_of(self._host) + offset)
        self._beyond = Ones(self._memory)
        self._watch = Watch(range(HOST, HOST + _SIZE))
        self._host_hook = self._watch.of_host(self._library.Hook())
        self._guest_hook = self._watch.of_guest(self._library.Hook())
        self._labels = self._write_program(encoder)
        self.host_state = {**HOST_STATE, _HOST_RIP: self._labels["exited"]}
        self._begin_anew()

    def share(self, address: int, size: int) -> None:
        """Gives guests `size` bytes of memory that lie at an address in this process; behind them they read ones."""
        if address != self._shared:
            self._shared = address
            for page in range(0, size, PAGE):
                self._memory.page_insert(page, address + page)

    def load(self, fields: Mapping[int, int], host: Mapping[int, int] | None = None) -> None:
        """Makes a VMCS of these fields, by encoding; the host's state is this program's, unless another is given."""
        self._encodings = (_INSTRUCTION_ERROR, *(e for e in fields if e != _INSTRUCTION_ERROR))
        self._clear_vmcs()
        self._beyond.restore()
        written = {e: v for e, v in fields.items() if e >> 10 & 3 != _READ_ONLY}
        written |= self.host_state if host is None else host
        self._put(WRITES, *(word for pair in written.items() for word in pair))
        state = self._root()
        state.rcx = len(written)
        self._run(state, "load")

    def enter(
        self, registers: Sequence[int], state: Mapping[str, int], limit: int, *, at_once: bool = False
    ) -> Run:
        """Enters the guest with these general and other registers; stops it before instruction `limit` + 1.

        With `at_once` already behind instruction `limit`, before anything is fetched or due at the boundary.
        """
        now = self._session.cpu.state
        for name, value in (*zip(GPR_NAMES, registers, strict=True), *state.items()):
            setattr(now, name, value)
        self._watch.arm(limit, at_once=at_once)
        self._run(now, "launch", self._guest_hook)
        at = self._session.cpu.state  # one object, which the next run changes
        general, others = (
            [getattr(at, name) for name in GPR_NAMES],
            {name: getattr(at, name) for name in state},
        )
        run = Run(self._end(at.rip), at.rip, general, others, self._watch.delivered)
        if run.end == INSIDE:
            self._run(self._root(), "leave")
        elif run.end == HALTED:
            self._begin_anew()
        return run

    def _end(self, rip: int) -> str:
        if self._watch.halted:
            return HALTED
        if self._labels["failed"] <= rip < self._labels["exited"]:
            return FAILED
        return EXITED if self._labels["exited"] <= rip < self._labels["leave"] else INSIDE

    def fields(self) -> dict[int, int]:
        """The fields that were loaded, by encoding; those that Bochs does not have are 0."""
        self._put(READS, *self._encodings)
        self._put(VALUES, *(0 for _ in self._encodings))
        state = self._session.cpu.state
        state.rcx = len(self._encodings)
        self._run(state, "read")
        offset = VALUES - HOST
        values = memoryview(self._host)[offset : offset + 8 * len(self._encodings)].cast("Q")
        return dict(zip(self._encodings, values, strict=True))

    # --- the host ---

    def _begin_anew(self) -> None:
        """Resets the processor (nothing else wakes it once it waits) and goes to VMX root operation."""
        self._session = self._library.Session()
        self._session.missing_page_handler = self._beyond.insert
        self._run(self._root(), "start")

    def _write_program(self, encoder: Encoder) -> dict[str, int]:
        self._put(PML4, PDPT | _PRESENT_WRITABLE)
        self._put(PDPT + 8 * (HOST >> 30), DIRECTORY | _PRESENT_WRITABLE)
        self._put(DIRECTORY, TABLE | _PRESENT_WRITABLE)
        self._put(TABLE, *(page | _PRESENT_WRITABLE for page in range(HOST, HOST + _SIZE, PAGE)))
        self._put(POINTERS, VMXON, VMCS)
        self._put(VMXON, _REVISION)
        program = assemble(_PROGRAM, encoder)
        self._host[CODE - HOST : CODE - HOST + len(program.code)] = program.code
        return program.symbols

    def _put(self, address: int, *words: int) -> None:
        offset = address - HOST
        memoryview(self._host)[offset : offset + 8 * len(words)] = b"".join(
            w.to_bytes(8, "little") for w in words
        )

    def _clear_vmcs(self) -> None:
        self._host[VMCS - HOST : VMCS - HOST + PAGE] = bytes(PAGE)
        self._put(VMCS, _REVISION)

    def _root(self) -> Any:
        """Bochs's registers with those of the program."""
        state = self._session.cpu.state
        state.cr0, state.cr3, state.cr4, state.efer, state.xcr0 = HOST_CR0, PML4, _CR4, _EFER, _XCR0
        state.cs, state.tr = self._segment(_CODE, _CODE_RIGHTS), self._segment(_TASK, _TASK_RIGHTS)
        for name in ("ss", "ds", "es", "fs", "gs"):
            setattr(state, name, self._segment(_DATA, _DATA_RIGHTS))
        return state

    def _segment(self, selector: int, rights: int) -> Any:
        segment = self._library.Segment()
        segment.selector, segment.attr, segment.base = selector, rights, 0
        segment.limit = 0x67 if rights == _TASK_RIGHTS else 0xFFFFFFFF
        segment.present = True
        return segment

    def _run(self, state: Any, label: str, hook: Any = None) -> None:
        """Runs the program from a label to where it stops."""
        state.rip, state.rflags = self._labels[label], 2
        self._session.cpu.state = state
        self._session.run([hook or self._host_hook])


_processors: list[Processor] = []


def processor(encoder: Encoder) -> Processor:
    """Bochs's processor, made when it is first asked for.  Raises what `load` does."""
    if not _processors:
        _processors.append(Processor(encoder))
    return _processors[0]
