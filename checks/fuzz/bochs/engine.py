"""Runs a machine of the reference model on Bochs, one instruction at a time, in VMX non-root operation.

The machine's registers go into a VMCS the way a VM exit saves them, Bochs enters the guest from it and executes one
instruction. Where the guest is then, a VMCALL is put, and the same is done again, so that a VM exit saves what the
instruction left behind. Memory is shared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

from checks.fuzz.bases import MEMORY_SIZE
from checks.fuzz.bochs.processor import EXITED as RUN_EXITED
from checks.fuzz.bochs.processor import FAILED, HOST_CR0, INSIDE, Run, processor
from checks.fuzz.bochs.watch import PAGE
from checks.fuzz.cycle import DONE, ENTRY, EXITED, NOT_MODELLED, Cycle, Step
from checks.fuzz.generate import Scope
from checks.fuzz.states import special_states
from checks.walk import nodes, reachable_functions
from grammar import ir
from refmodel.decoder import NotModelled as NoRow
from refmodel.encoder import Encoder
from refmodel.encoding import MAX_LENGTH
from refmodel.memory import RecordingMemory
from refmodel.model import Model
from refmodel.replay import DEBUG_REGISTERS, MSRS, REGISTERS

_VMCALL = bytes.fromhex("0f01c1")
_ENTRY_FAILURE = 1 << 31  # in the exit reason
_TYPE, _READ_ONLY, _GUEST = 10, 1, 2  # where a field's encoding has its type, and types.  SDM 3C 25.11.2
_EXIT_REASON, _GUEST_RIP, _ENTRY_INTERRUPTION = 0x4402, 0x681E, 0x4016
_RSP = 4
_DOUBLE_FAULT = 8
_TSC_UNSCALED = 1 << 48  # Bochs asks for more than 0, SDM 3C 27.2.1.1 does not
_NO_VMCS = (1 << 64) - 1

# State that an instruction may read and write if what it leaves behind is to be compared.
_CARRIED = frozenset({
    "GPR", "RIP", "NEXT_RIP", "RFLAGS", "CR0", "CR2", "CR3", "CR4", "CR8", "EFER", "DR", "DR6", "DR7", "XCR0", "MSR",
    "SEGMENT_SELECTOR", "SEGMENT_BASE", "SEGMENT_LIMIT", "SEGMENT_RIGHTS", "GDTR_BASE", "GDTR_LIMIT", "IDTR_BASE",
    "IDTR_LIMIT", "INTERRUPTIBILITY", "ACTIVITY_STATE", "SINGLE_STEP", "IN_NON_ROOT",
})  # fmt: skip
# VM exits between instructions, which cost no time.
_BETWEEN = ("INTERRUPT_WINDOW", "NMI_WINDOW", "TPR_BELOW_THRESHOLD", "PREEMPTION_TIMER")
_COUNTING = frozenset({"PREEMPTION_TIMER_VALUE"})  # Bochs counts at another rate
_OUT_OF_REACH = "PORT"  # the package aborts the process
# Controls with which VM entry and VM exit carry over all of the guest's state.  SDM 3C 25.7.1, 25.8.1
_EXIT_CONTROLS, _ENTRY_CONTROLS = 0x3C0204, 0xC204
_TRAP, _MONITOR_TRAP = 1 << 8, 1 << 27  # of RFLAGS, of the primary controls
_CR0_KEPT = 0x60000000  # CD and NW, which VM entry and VM exit leave alone.  SDM 3C 27.3.2.1, 28.5.1
_VMXE = 1 << 13  # of CR4: one in VMX operation, which the bases leave out.  SDM 3C 24.8
# Fields that no exit writes, or that tell the time.
_NOT_COPIED = frozenset({"VMCS_LINK_POINTER", "VM_INSTRUCTION_ERROR", "VMX_PREEMPTION_TIMER_VALUE"})


@dataclass(frozen=True, slots=True)
class _Start:
    """What an instruction starts from: all of memory, VMCS fields by encoding, general and other registers.

    `is_valid` tells whether VM entry is to pass.
    """

    memory: bytes
    fields: dict[int, int]
    registers: list[int]
    state: dict[str, int]
    is_valid: bool


class BochsCycle(Cycle):
    """A cycle that a VMCS can carry: with the controls that save all, and the VM exit completed."""

    def __init__(self, model: Model) -> None:
        super().__init__(model, exits=True)

    def __call__(self, machine: Any) -> Step:
        """One cycle of any machine of the model."""
        prepare(machine)
        return super().__call__(machine)


def prepare(machine: Any) -> None:
    """Gives a machine what VM entry asks of a guest, and the controls that save all."""
    machine.CR4 |= _VMXE
    machine.vmcs.EXIT_CONTROLS |= _EXIT_CONTROLS
    machine.vmcs.ENTRY_CONTROLS |= _ENTRY_CONTROLS
    machine.vmcs.VMCS_LINK_POINTER = _NO_VMCS
    machine.vmcs.TSC_MULTIPLIER = _TSC_UNSCALED


class BochsEngine:
    """Executes instructions of guests.

    A state that VM entry rejects on both sides counts as not modelled, and so does what Bochs cannot tell, since no
    VMCALL can be put behind it.
    """

    name = "bochs"

    def __init__(self, model: Model) -> None:
        states = tuple(s for s in special_states(model) if s.item not in _COUNTING)
        self.scope = Scope(bases=("guest-kernel", "guest-user"), states=states)
        self.cycle: Cycle = BochsCycle(model)
        self.machine = model.machine(RecordingMemory(MEMORY_SIZE))
        self._functions = model.functions
        self._vmcall = model.namespace["VmExit"](reason=model.namespace["ExitReason_VMCALL"])
        rules = [model.namespace[f"holds_{group}"] for group in ("control_rules", "host_rules")]
        self._entry_rules = [*rules, model.functions["is_guest_valid"]]
        self._between = {model.namespace[f"ExitReason_{name}"] for name in _BETWEEN}
        self._names = {v.encoding: v.name for v in model.program.state_in("vmcs") if v.encoding is not None}
        program = model.program
        used = {name: state_used(program, i) for name, i in program.instructions.items()}
        self._instructions = [name for name, state in used.items() if _OUT_OF_REACH not in state]
        self._carried = {name for name, state in used.items() if state <= _CARRIED}
        self._processor = processor(Encoder(program))

    def instructions(self, program: ir.Program) -> Sequence[str]:  # noqa: ARG002
        """All but those that use ports."""
        return self._instructions

    def step(self) -> Step:
        """One instruction, and what comes of it."""
        m = self.machine
        prepare(m)
        name = self._instruction()
        if name not in self._instructions or not m.IN_NON_ROOT or m.ACTIVITY_STATE != 0:
            return NOT_MODELLED
        start = self._start()
        code = range(m.RIP - len(_VMCALL) + 1, m.RIP + m.current.length)
        traps = m.RFLAGS & _TRAP or m.vmcs.PRIMARY_CONTROLS & _MONITOR_TRAP  # behind the instruction
        run = self._run(start, limit=1, at_once=not traps)
        enters = not self._is_rejected(run)
        if enters != start.is_valid:
            self._left_alone(start)
            return f"{ENTRY}{int(enters)}"
        is_another_cycle = run.delivered[1:] not in ([], [_DOUBLE_FAULT])  # a handler could not be fetched
        if not enters or is_another_cycle:
            return self._left_alone(start)
        if run.end == RUN_EXITED:
            return self._exited(start, run)
        if run.end == INSIDE and name in self._carried and run.rip not in code:
            return self._run_to_vmcall(start, run)
        return self._left_alone(start)

    def _instruction(self) -> str:
        """The name of the instruction at RIP, "" if there is none."""
        m = self.machine
        try:
            m.current = m.decoders[64].decode(m.PHYSICAL.read_bytes(m.RIP, MAX_LENGTH))
        except NoRow:
            return ""
        instruction = m.current.instruction
        return instruction.name if instruction is not None else ""

    def _start(self) -> _Start:
        """The machine, its guest's state in the VMCS, and whether the specification lets VM entry pass."""
        m = self.machine
        kept, m.vmcs = m.vmcs, copy(m.vmcs)
        self._functions["save_guest"](m, self._vmcall)
        m.vmcs.VMX_PREEMPTION_TIMER_VALUE = m.PREEMPTION_TIMER_VALUE
        for encoding, value in self._processor.host_state.items():
            if encoding in self._names:
                setattr(m.vmcs, self._names[encoding], value)
        fields = {encoding: int(getattr(m.vmcs, name)) for encoding, name in self._names.items()}
        is_valid = all(rules(m) for rules in self._entry_rules)
        m.vmcs = kept
        memory = m.PHYSICAL.read_bytes(0, m.PHYSICAL.size)
        return _Start(memory, fields, list(m.GPR), self._state(), is_valid)

    def _is_rejected(self, run: Run) -> bool:
        """Whether Bochs did not enter the guest."""
        return run.end == FAILED or (
            run.end == RUN_EXITED and self._processor.fields()[_EXIT_REASON] & _ENTRY_FAILURE != 0
        )

    def _state(self) -> dict[str, int]:
        m = self.machine
        plain = {name: int(getattr(m, register)) for name, register in REGISTERS.items()}
        debug = {name: m.DR[n] for name, n in DEBUG_REGISTERS.items()}
        kept = {"cr0": HOST_CR0 | m.CR0 & _CR0_KEPT}
        return kept | plain | debug | {name: m.MSR[index] for name, index in MSRS.items()}

    # --- what came of it ---

    def _run_to_vmcall(self, start: _Start, first: Run) -> Step:
        """Does it once more, with a VMCALL where the guest was found; the bases map that place to itself.

        An instruction that reads or writes the bytes of the VMCALL cannot be told so.
        """
        memory = self.machine.PHYSICAL
        place = slice(first.rip, first.rip + len(_VMCALL))
        if place.stop > memory.size:
            return self._left_alone(start)
        memory.data[:] = start.memory
        memory.data[place] = _VMCALL
        run = self._run(start, limit=2)
        fields = self._processor.fields() if run.end == RUN_EXITED else {}
        is_told = fields.get(_EXIT_REASON) == self._vmcall.reason and fields[_GUEST_RIP] == first.rip
        if not is_told or memory.data[place] != _VMCALL or not _are_equal(run.general, first.general):
            return self._left_alone(start)
        memory.data[place] = start.memory[place]
        self._functions["count_time"](self.machine)
        self._note_memory(start)
        self._take_registers(run)
        self._load_guest(fields)
        return DONE

    def _run(self, start: _Start, limit: int, *, at_once: bool = False) -> Run:
        self._processor.share(self.machine.PHYSICAL.address, len(start.memory))
        self._processor.load(start.fields)
        return self._processor.enter(start.registers, start.state, limit, at_once=at_once)

    def _left_alone(self, start: _Start) -> Step:
        """Nothing has happened."""
        self.machine.PHYSICAL.data[:] = start.memory
        return NOT_MODELLED

    def _exited(self, start: _Start, run: Run) -> Step:
        """A VM exit: the VMCS has what it saved, and the host's state is loaded as the machine does it."""
        m, fields = self.machine, self._processor.fields()
        reason, is_before = fields[_EXIT_REASON], fields[_GUEST_RIP] == m.RIP
        is_later = bool(run.delivered) and not is_before  # behind a handler's fetch, or between instructions
        if is_later or (reason in self._between and not is_before):
            return self._left_alone(start)
        if reason not in self._between:
            self._functions["count_time"](m)
        self._note_memory(start)
        for encoding, name in self._names.items():
            if encoding >> _TYPE & 3 in (_READ_ONLY, _GUEST) and name not in _NOT_COPIED:
                setattr(m.vmcs, name, fields[encoding])
        m.vmcs.ENTRY_INTERRUPTION_INFORMATION = fields[_ENTRY_INTERRUPTION]
        self._take_registers(run)
        m.IN_NON_ROOT = False
        self._functions["load_host"](m)
        return EXITED

    def _take_registers(self, run: Run) -> None:
        """The registers that VMX does not switch."""
        m = self.machine
        m.GPR[:] = run.general
        for name, register in REGISTERS.items():
            setattr(m, register, run.others[name])
        m.DR[:] = [run.others[name] for name in DEBUG_REGISTERS]
        for name, index in MSRS.items():
            m.MSR[index] = run.others[name]

    def _load_guest(self, fields: Mapping[int, int]) -> None:
        """The registers that VMX switches."""
        m = self.machine
        kept, m.vmcs, timer = m.vmcs, copy(m.vmcs), m.PREEMPTION_TIMER_VALUE
        for encoding, name in self._names.items():
            if encoding >> _TYPE & 3 == _GUEST:
                setattr(m.vmcs, name, fields[encoding])
        self._functions["load_guest"](m)
        m.vmcs, m.PREEMPTION_TIMER_VALUE = kept, timer

    def _note_memory(self, start: _Start) -> None:
        """Tells the memory which of its words have changed."""
        memory = self.machine.PHYSICAL
        for page in range(0, memory.size, PAGE):
            before, now = start.memory[page : page + PAGE], memory.data[page : page + PAGE]
            if before != now:
                for offset in range(0, PAGE, 8):
                    word = before[offset : offset + 8]
                    if word != now[offset : offset + 8]:
                        memory.note(page + offset, word)


def _are_equal(after_exit: Sequence[int], before: Sequence[int]) -> bool:
    """Whether general registers are the same, apart from RSP, which the VM exit loads."""
    return all(a == b for n, (a, b) in enumerate(zip(after_exit, before, strict=True)) if n != _RSP)


def state_used(program: ir.Program, instruction: ir.Instruction) -> frozenset[str]:
    """The state that an instruction may read, apart from the VMCS, and what it may write."""
    roots = [body.body for body in instruction.bodies]
    bodies = [*roots, *(f.body for f in reachable_functions(program, roots, frozenset()))]
    found = [node for body in bodies for node in nodes(body)]
    reads = {n.name for n in found if isinstance(n, ir.Read) and program.state[n.name].space != "vmcs"}
    return frozenset(reads | {n.name for n in found if isinstance(n, ir.WriteState)})
