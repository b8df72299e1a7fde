"""Unicorn, an emulator made from QEMU that shares nothing with this project, as an engine.

A machine of the reference model executes its instructions on Unicorn: registers are copied in and out, memory is
shared, and Unicorn walks the page tables in it. Unicorn names the vector of a fault and CR2, but not the error code,
and delivers nothing; so faults are compared as they are raised.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from itertools import takewhile
from typing import Any

from checks.fuzz.bases import CODE, GDT, MEMORY_SIZE, PAGE_SIZE, PML4, STACK_TOP, TABLE, memory_image
from checks.fuzz.cycle import NOT_MODELLED, PAGE_FAULT, Cycle, Step
from checks.fuzz.generate import Scope
from checks.walk import nodes, reachable_functions
from grammar import ir
from refmodel.decoder import Decoded, NotModelled
from refmodel.encoding import LEGACY_PREFIXES, LOCK, MAX_LENGTH
from refmodel.memory import RecordingMemory
from refmodel.model import Model

_EFER, _STAR = 0xC0000080, 0xC0000081
_EFER_VALUE, _CR0, _CR4 = 0xD01, 0x80050033, 0x20
_SELECTORS = 0x13 << 48 | 0x08 << 32  # what SYSRET and SYSCALL load
_SYSRET = bytes.fromhex("480f07")
_TABLES = range(PML4, TABLE + PAGE_SIZE)  # page tables, in which Unicorn sets accessed and dirty flags
_UNDEFINED_OPCODE = 6
# Faults of the fetch of the next instruction, which Unicorn raises at once after a branch.
_FETCH_FAULTS = frozenset({13, PAGE_FAULT})
_RCX, _RSP = 1, 4
_SET_AT_START = tuple(
    number == _RSP for number in range(16)
)  # registers that are not 0 when an emulator starts
_SS = 2
_TRAP, _RESUME, _ALIGNMENT = 1 << 8, 1 << 16, 1 << 18  # RFLAGS.TF, RF, AC
_NEAR = 64  # bytes: how far cases branch

# State that instructions may write, and may read, if Unicorn is to execute them.
_WRITTEN = frozenset({"GPR", "RIP", "NEXT_RIP", "RFLAGS"})
_READ = _WRITTEN | {"CR0", "CR2", "CR3", "CR4", "IN_NON_ROOT", "SEGMENT_LIMIT", "SEGMENT_RIGHTS"}
# Accesses to memory and the CPL, which Unicorn has in its own way.
_OWN_WAY = frozenset({"locate", "cpl", "segment_address", "offset_in_segment"})


class UnicornEngine:
    """Executes instructions at CPL 0 and 3 on the bare machine."""

    name = "unicorn"
    scope = Scope(
        bases=("kernel", "user"),
        forbidden_flags=frozenset({"TF", "RF", "VIF", "VIP"}),
        control_bits=False,
        changes_code=False,
        tables=False,
    )

    def __init__(self, model: Model) -> None:
        self._library: Any = import_module("unicorn")
        self._numbers: Any = import_module("unicorn.x86_const")
        self.cycle = Cycle(model, delivers=False)
        program = model.program
        self._instructions = [name for name, i in program.instructions.items() if _is_plain(program, i)]
        self._branches = {
            name for name in self._instructions if _is_branch(program, program.instructions[name])
        }
        self._fault = model.namespace["FaultAbort"]
        self._fault_value = model.namespace["Fault"]
        self.machine = self._machine(model)
        names = ("RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", *(f"R{n}" for n in range(8, 16)))
        self._registers = [getattr(self._numbers, f"UC_X86_REG_{name}") for name in names]
        self._flags, self._rip = self._numbers.UC_X86_REG_EFLAGS, self._numbers.UC_X86_REG_RIP
        self._read = [*self._registers, self._rip, self._flags]
        self._vectors: list[int] = []
        self._code, self._changes_code = range(0), False  # the instruction, and whether it stored to itself
        self._walked = {
            False: b"",
            True: b"",
        }  # the page tables that it has last seen, by whether it is user mode
        self._translated: dict[tuple[bool, int], bytes] = {}  # what stood where when it was last executed
        self._emulators = {privilege: self._start(privilege) for privilege in (0, 3)}

    def step(self) -> Step:
        """One instruction, or one iteration of a repeated one."""
        m = self.machine
        try:
            m.current = current = m.decoders[64].decode(m.PHYSICAL.read_bytes(m.RIP, MAX_LENGTH))
        except NotModelled:
            return NOT_MODELLED
        unknown = _TRAP | (_ALIGNMENT if _is_user(m) else 0)  # flags that Unicorn does not obey
        if m.RFLAGS & unknown or not self._can_execute(current):
            return NOT_MODELLED
        self._code = range(m.RIP, m.RIP + current.length)
        self._changes_code = False
        outcome = self.cycle(m)
        return NOT_MODELLED if self._changes_code else outcome

    def _can_execute(self, current: Decoded) -> bool:
        """Whether Unicorn is to execute it.

        Where LOCK is not allowed (#UD), Unicorn may abort the process: it must not translate such an instruction, be it
        this one or the one that this one branches to.
        """
        if current.instruction is None:
            prefixes = takewhile(LEGACY_PREFIXES.__contains__, current.data)
            return all(byte != LOCK for byte in prefixes)
        m, name = self.machine, current.instruction.name
        if name in self._branches and LOCK in m.PHYSICAL.read_bytes(m.RIP - _NEAR, 3 * _NEAR):
            return False
        is_known: bool = name in self._instructions
        return is_known

    def instructions(self, program: ir.Program) -> Sequence[str]:  # noqa: ARG002
        """Those that use no other state than registers, flags and memory."""
        return self._instructions

    def _machine(self, model: Model) -> Any:
        """A machine of the model that executes its instructions here."""
        execute = self._execute

        def execute_machine(m: Any) -> None:  # a bound method would not get the machine
            execute(m)

        kind = type("UnicornMachine", (model.namespace["Machine"],), {"execute": execute_machine})
        return model.machine(RecordingMemory(MEMORY_SIZE), kind)

    # --- Unicorn ---

    def _start(self, privilege: int) -> tuple[Any, Any]:
        """An emulator at a privilege level, and its state there."""
        library, numbers = self._library, self._numbers
        emulator = library.Uc(library.UC_ARCH_X86, library.UC_MODE_64, numbers.UC_CPU_X86_ICELAKE_SERVER)
        emulator.mem_map_ptr(0, MEMORY_SIZE, library.UC_PROT_ALL, self.machine.PHYSICAL.address)
        emulator.hook_add(library.UC_HOOK_INTR, self._interrupt)
        emulator.hook_add(library.UC_HOOK_MEM_WRITE, self._write)
        emulator.reg_write(numbers.UC_X86_REG_GDTR, (0, GDT, 0x27, 0))
        emulator.msr_write(_EFER, _EFER_VALUE)
        self.machine.PHYSICAL.write_bytes(0, memory_image(privilege == 3))
        emulator.reg_write(numbers.UC_X86_REG_CR3, PML4)
        emulator.reg_write(numbers.UC_X86_REG_CR4, _CR4)
        emulator.reg_write(numbers.UC_X86_REG_CR0, _CR0)
        if privilege:
            emulator.msr_write(_STAR, _SELECTORS)
            self.machine.PHYSICAL.write_bytes(CODE, _SYSRET)
            emulator.reg_write(numbers.UC_X86_REG_RCX, CODE)
            emulator.emu_start(CODE, 0, count=1)
            for register in (numbers.UC_X86_REG_RCX, numbers.UC_X86_REG_R11):
                emulator.reg_write(register, 0)
        emulator.reg_write(numbers.UC_X86_REG_RSP, STACK_TOP)
        return emulator, emulator.context_save()

    def _interrupt(self, emulator: Any, number: int, _data: object) -> None:
        self._vectors.append(number)
        emulator.emu_stop()

    def _write(
        self, _emulator: Any, _access: int, address: int, size: int, _value: int, _data: object
    ) -> None:
        """Called before a store, whose linear address is the physical one."""
        memory = self.machine.PHYSICAL
        self._changes_code |= address < self._code.stop and address + size > self._code.start
        for word in range(address & ~7, min(address + size, memory.size), 8):
            memory.note(word, memory.read_bytes(word, 8))

    def _execute(self, m: Any) -> None:
        """One instruction, or one iteration of a repeated one.  Raises the machine's Fault.

        The fetch is the reference's. It faults only where the case has broken the page tables of its own code; of that
        Unicorn tells another address, or a double fault.
        """
        m.NEXT_RIP = m.RIP
        m.fetch_translate(m, m.RIP)
        user = _is_user(m)
        emulator, start = self._emulators[3 if user else 0]
        emulator.context_restore(start)
        if self._translated.get((user, m.RIP)) != m.current.data:
            emulator.ctl_remove_cache(m.RIP, m.RIP + MAX_LENGTH)
            self._translated[user, m.RIP] = m.current.data
        tables = self._page_tables()
        if self._walked[user] != tables:
            emulator.reg_write(self._numbers.UC_X86_REG_CR3, PML4)  # drops translations
        for register, value, is_set in zip(self._registers, m.GPR, _SET_AT_START, strict=True):
            if value or is_set:
                emulator.reg_write(register, value)
        emulator.reg_write(self._flags, m.RFLAGS)
        vector = self._run(emulator, m.RIP)
        self._walked[user] = self._page_tables()
        self._note_used_pages(tables, self._walked[user])
        rip = emulator.reg_read(self._rip)
        is_of_next = rip != m.RIP and vector in _FETCH_FAULTS and self._branches_now()
        if vector is not None and not is_of_next:
            m.NEXT_RIP = rip
            address = emulator.reg_read(self._numbers.UC_X86_REG_CR2) if vector == PAGE_FAULT else 0
            raise self._fault(self._fault_value(vector=vector, qualification=address))
        self._copy_out(emulator, m)

    def _branches_now(self) -> bool:
        instruction = self.machine.current.instruction
        return instruction is not None and instruction.name in self._branches

    def _copy_out(self, emulator: Any, m: Any) -> None:
        """The registers.  Between the iterations of a repeated instruction RF is set.  SDM 3B 18.3.1.1"""
        begin = m.RIP
        *m.GPR[:], m.NEXT_RIP, m.RFLAGS = emulator.reg_read_batch(self._read)
        if begin == m.NEXT_RIP and _is_repeated(m.current):
            m.RFLAGS |= _RESUME
        m.RIP = m.NEXT_RIP

    def _run(self, emulator: Any, rip: int) -> int | None:
        """Runs one instruction; the vector of the fault, None if there is none.

        A repeated instruction whose count has become 0 is run once more, since Unicorn looks at the count first.
        """
        self._vectors.clear()
        end = rip + (self.machine.current.length or MAX_LENGTH)  # nothing behind it is translated
        try:
            emulator.emu_start(rip, end, count=1)
            if self._is_repeated_to_its_end(emulator, rip):
                emulator.emu_start(rip, end, count=1)
        except self._library.UcError as error:
            if error.errno != self._library.UC_ERR_INSN_INVALID:
                raise
            return _UNDEFINED_OPCODE
        return self._vectors[0] if self._vectors else None

    def _is_repeated_to_its_end(self, emulator: Any, rip: int) -> bool:
        current = self.machine.current
        if not _is_repeated(current) or self._vectors or emulator.reg_read(self._rip) != rip:
            return False
        count: int = emulator.reg_read(self._registers[_RCX])
        mask: int = (1 << current.address_size) - 1
        return count & mask == 0

    def _page_tables(self) -> bytes:
        return bytes(self.machine.PHYSICAL.data[_TABLES.start : _TABLES.stop])

    def _note_used_pages(self, before: bytes, now: bytes) -> None:
        """Tells the memory which words of the page tables have changed."""
        if now == before:
            return
        for offset in range(0, len(before), 8):
            word = before[offset : offset + 8]
            if word != now[offset : offset + 8]:
                self.machine.PHYSICAL.note(_TABLES.start + offset, word)


def _is_user(machine: Any) -> bool:
    is_user: bool = machine.SEGMENT_RIGHTS[_SS] >> 5 & 3 == 3
    return is_user


def _is_repeated(current: Decoded) -> bool:
    """Whether its F2 or F3 is REP."""
    attributes = current.pattern.row.attributes if current.pattern is not None else ()
    return bool(current.prefixes.repeat) and not {"rep", "repe"}.isdisjoint(attributes)


def _is_branch(program: ir.Program, instruction: ir.Instruction) -> bool:
    return any(isinstance(n, ir.WriteState) and n.name == "NEXT_RIP" for n in _nodes(program, instruction))


def _is_plain(program: ir.Program, instruction: ir.Instruction) -> bool:
    found = _nodes(program, instruction)
    reads = {n.name for n in found if isinstance(n, ir.Read) and program.state[n.name].space != "vmcs"}
    writes = {n.name for n in found if isinstance(n, ir.WriteState)}
    other = any(isinstance(n, (ir.Output, ir.Forget)) for n in found)
    return reads <= _READ and writes <= _WRITTEN and not other


def _nodes(program: ir.Program, instruction: ir.Instruction) -> list[object]:
    """The IR of an instruction and of what it calls."""
    roots = [body.body for body in instruction.bodies]
    bodies = [*roots, *(f.body for f in reachable_functions(program, roots, _OWN_WAY))]
    return [node for body in bodies for node in nodes(body)]
