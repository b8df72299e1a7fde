"""Runs recorded cases: VM entry, one instruction with the event it raises, and what a VM exit then saves.

The outcome has the form that the cases' own outcomes have: `t` says what happened (exit, event, ok, halted,
entryfail, vmfail), the other keys its details, and `d`, `r`, `s`, `m` what changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from grammar.ir import Program
from refmodel.memory import RecordingMemory
from refmodel.model import Model
from refmodel.vectors import GPR_NAMES, VMCALL, Base, Case

MEMORY_SIZE = (1 << 30) + (
    1 << 26
)  # bytes: the cases have pages from 1 GB on; what is untouched costs nothing
_RSP = 4
_GUEST_RIP = 0x681E  # encoding of the VMCS field
_HALTED = 1
_RESUME = 1 << 16  # RFLAGS.RF
_ENTRY_FAILURE = 1 << 31
_RUN_ON = 5000  # instructions
_NO_VMCS = (1 << 64) - 1
_SHADOW = 1 << 31  # in the first word of a shadow VMCS.  SDM 3C 25.2
_SUPERVISOR_WRITE = (1, 0)  # access and privilege, as the delivery of the event used them

# Handlers of the cases' guest: vector v at HANDLERS + 16 v.
_HANDLERS = range(0x21000, 0x22000)

# Registers that VMX does not switch, by the short names of the cases.  SDM 4 2.1
MSRS = {
    "star": 0xC0000081,
    "lstar": 0xC0000082,
    "cstar": 0xC0000083,
    "sfmask": 0xC0000084,
    "kernel_gs_base": 0xC0000102,
    "tsc_aux": 0xC0000103,
    "pat": 0x277,
}
REGISTERS = {"cr2": "CR2", "cr8": "CR8", "dr6": "DR6", "xcr0": "XCR0"}
# The x87 and SSE registers of the recorder's machine, as its XSAVE shows them: all zero, no x87 register empty, and
# no bit that MXCSR may have.
_EXTENDED_STATE = {"X87_STATE": 0xFF << 32, "MXCSR": 0, "MXCSR_MASK": 0}
DEBUG_REGISTERS = {f"dr{n}": n for n in range(4)}
# Exit information: key of the outcome and VMCS field.
_EXIT_INFORMATION = {
    "reason": "EXIT_REASON",
    "qual": "EXIT_QUALIFICATION",
    "ilen": "EXIT_INSTRUCTION_LENGTH",
    "iinfo": "EXIT_INSTRUCTION_INFORMATION",
    "intr": "EXIT_INTERRUPTION_INFORMATION",
    "intr_err": "EXIT_INTERRUPTION_ERROR_CODE",
    "idtv": "IDT_VECTORING_INFORMATION",
    "idtv_err": "IDT_VECTORING_ERROR_CODE",
    "gla": "GUEST_LINEAR_ADDRESS",
    "gpa": "GUEST_PHYSICAL_ADDRESS",
}

Outcome = dict[str, Any]
Accelerator = Callable[[], bool]


class Unsupported(Exception):
    """The case needs something that the specification does not have; the message says what."""


class Replayer:
    """Runs cases one after the other on one machine.

    `engine`, if given, gets the machine and returns a function that tries to execute one instruction; where that
    returns false, the reference does.
    """

    def __init__(self, model: Model, engine: Callable[[Any], Accelerator] | None = None) -> None:
        self._model = model
        self._functions = model.functions
        self._names = {v.encoding: v.name for v in model.program.state_in("vmcs")}
        self._controls = dict(_known_controls(model.program))
        self._fault, self._exit = (model.namespace[f"{kind}Abort"] for kind in ("Fault", "VmExit"))
        self._exit_type = model.namespace["VmExit"]
        self._revision = model.program.constants["VMCS_REVISION"].value
        self._vmcall = model.namespace["ExitReason_VMCALL"]
        self.machine = model.machine(RecordingMemory(MEMORY_SIZE))
        self._accelerate = engine(self.machine) if engine is not None else None
        self._base: Base | None = None

    def run(self, base: Base, case: Case) -> Outcome:
        """The outcome of a case.  Raises `Unsupported`."""
        self._check_fields(case)
        self._set_up(base, case)
        try:
            return self._outcome(base, case)
        except self._model.outside as error:
            raise Unsupported(self._model.what_is_outside(error)) from None

    # --- the machine at the start -------------------------------------------------------------------

    def _check_fields(self, case: Case) -> None:
        for encoding in case.given:
            name = self._names.get(encoding)
            if name is None and case.fields[encoding]:
                raise Unsupported(f"VMCS field {encoding:#06x} is not in the specification")
            absent = case.fields[encoding] & ~self._controls.get(name or "", case.fields[encoding])
            if absent:
                raise Unsupported(f"{name} has bits that are not in the specification: {absent:#x}")

    def _set_up(self, base: Base, case: Case) -> None:
        machine, memory = self.machine, self.machine.PHYSICAL
        memory.undo()
        if self._base is not base:
            for address, data in base.memory:
                memory.write_bytes(address, data)
            memory.keep()
            self._base = base
        machine.reset()
        for encoding, value in case.fields.items():
            if encoding in self._names:
                setattr(machine.vmcs, self._names[encoding], value)
        machine.CR0 = machine.vmcs.HOST_CR0  # also the bits that VM exits do not load (CD, NW)
        self._functions["load_host"](machine)
        for number, value in case.registers.items():
            machine.GPR[number] = value
        for name, value in case.system.items():
            self._set_system(name, value)
        for name, value in _EXTENDED_STATE.items():
            setattr(machine, name, value)
        for address, data in case.memory:
            memory.write_bytes(address, data)
        link = machine.vmcs.VMCS_LINK_POINTER
        if link != _NO_VMCS:  # the memory images leave out what the recorder's processor wrote there
            memory.write_bytes(link, (self._revision | _SHADOW).to_bytes(4, "little"))
        memory.mark()
        self._fields_before = self._fields()
        self._before = self._registers()

    def _set_system(self, name: str, value: int) -> None:
        if name in MSRS:
            self.machine.MSR[MSRS[name]] = value
        elif name in DEBUG_REGISTERS:
            self.machine.DR[DEBUG_REGISTERS[name]] = value
        elif name in REGISTERS or name == "tsc":
            setattr(self.machine, name.upper(), value)

    # --- one case ---------------------------------------------------------------------------------

    def _outcome(self, base: Base, case: Case) -> Outcome:
        try:
            self._functions["vm_entry"](self.machine)
            if not self.machine.IN_NON_ROOT:
                return {"t": "vmfail", "err": self.machine.vmcs.VM_INSTRUCTION_ERROR}
            self._step(case)
        except self._exit as event:
            self._functions["vm_exit"](self.machine, event.value)
            return self._exited(base)
        return self._completed(base)

    def _step(self, case: Case) -> None:
        """One instruction, unless VM entry injected an event, and what comes before the next one runs."""
        machine = self.machine
        injected = case.fields[_GUEST_RIP] != machine.RIP
        if not injected and (self._accelerate is None or not self._accelerate()):
            self._functions["cycle"](machine)
            while case.fields[_GUEST_RIP] == machine.RIP and machine.RFLAGS & _RESUME:  # iterations of REP
                self._functions["cycle"](machine)
        if machine.ACTIVITY_STATE != 0:
            return
        self._functions["boundary_exits"](machine)
        self._run_to_vmcall()

    def _run_to_vmcall(self) -> None:
        """Goes on as the recorder did, to the VMCALL that ends a case, an event or a halt.

        It is the next instruction but for jumps to places that have no VMCALL, or that cannot be fetched from.
        """
        machine = self.machine
        for _ in range(_RUN_ON):
            if machine.ACTIVITY_STATE != 0 or self._is_at_vmcall():
                return
            self._functions["cycle"](machine)

    def _is_at_vmcall(self) -> bool:
        """Whether the next instruction is VMCALL; what its fetch raises is the next cycle's business."""
        machine = self.machine
        try:
            places = [
                self._functions["fetch_translate"](machine, machine.RIP + n) for n in range(len(VMCALL))
            ]
        except (self._fault, self._exit):
            return False
        return bytes(machine.PHYSICAL.read_8(place) for place in places) == VMCALL

    def _exited(self, base: Base) -> Outcome:
        vmcs = self.machine.vmcs
        information = {key: getattr(vmcs, name) for key, name in _EXIT_INFORMATION.items()}
        basic = vmcs.EXIT_REASON & 0xFFFF
        if vmcs.EXIT_REASON & _ENTRY_FAILURE:
            return {"t": "entryfail", "basic": basic}
        given = {key: value for key, value in information.items() if value}
        return {"t": "exit", "basic": basic, **given, "rip": vmcs.GUEST_RIP, **self._changes(base)}

    def _completed(self, base: Base) -> Outcome:
        machine = self.machine
        rip, halted = machine.RIP, machine.ACTIVITY_STATE == _HALTED
        event = self._event() if rip in _HANDLERS else None
        # What the VMCALL that follows would save.
        self._functions["vm_exit"](machine, self._exit_type(reason=self._vmcall))
        changes = self._changes(base)
        if halted:
            return {"t": "halted", "rip": rip}
        if event is None:
            return {"t": "ok", "rip": rip, **changes}
        fields = {k: v for k, v in changes.get("d", {}).items() if k not in ("g_cs", "g_cs_a")}
        changes["d"] = {**fields, "g_ss": machine.vmcs.GUEST_SS_SELECTOR}
        if event["vec"] == 14:
            event["cr2"] = machine.CR2
            changes.get("s", {}).pop("cr2", None)
        return {"t": "event", **event, **changes}

    def _event(self) -> Outcome:
        """The event that was delivered, from the handler that runs and its stack frame."""
        machine = self.machine
        stack = machine.GPR[_RSP]
        # The frame without an error code is five words long, and the stack was aligned to 16 bytes before it.
        words = [self._stack_word(stack + 8 * n) for n in range(5 if stack % 16 else 6)]
        error = words.pop(0) if len(words) == 6 else None
        frame = dict(zip(("rip", "cs", "rflags", "rsp", "ss"), words, strict=True))
        vector = (machine.RIP - _HANDLERS.start) // 16
        return {"vec": vector, **({"err": error} if error is not None else {}), "frame": frame}

    def _stack_word(self, address: int) -> int:
        place = self._functions["locate"](self.machine, address, *_SUPERVISOR_WRITE)
        word: int = self.machine.PHYSICAL.read_64(place)
        return word

    # --- what changed -------------------------------------------------------------------------------

    def _fields(self) -> dict[str, int]:
        return {name: getattr(self.machine.vmcs, name) for name in self._names.values()}

    def _registers(self) -> dict[str, int]:
        """General registers and others that VMX does not switch."""
        machine = self.machine
        general = {name: machine.GPR[n] for n, name in enumerate(GPR_NAMES) if n != _RSP}
        system = {name: getattr(machine, register) for name, register in REGISTERS.items()}
        debug = {name: machine.DR[n] for name, n in DEBUG_REGISTERS.items()}
        return {**general, **system, **debug, **{name: machine.MSR[index] for name, index in MSRS.items()}}

    def _changes(self, base: Base) -> Outcome:
        now, before = self._fields(), self._fields_before
        short = {self._names.get(encoding): name for name, encoding in base.encodings.items()}
        guest = {
            short[name]: value
            for name, value in now.items()
            if short.get(name, "").startswith("g_") and value != before[name] and name != "GUEST_RIP"
        }
        registers = {k: v for k, v in self._registers().items() if v != self._before[k]}
        general = {k: v for k, v in registers.items() if k in GPR_NAMES}
        other = {k: v for k, v in registers.items() if k not in GPR_NAMES}
        memory = self._memory_changes()
        return {k: v for k, v in (("d", guest), ("r", general), ("s", other), ("m", memory)) if v}

    def _memory_changes(self) -> list[list[int]]:
        """64-bit words that differ from what they were when the case began."""
        return [list(change) for change in self.machine.PHYSICAL.changes()]


def _known_controls(program: Program) -> Iterator[tuple[str, int]]:
    """For each control field, the bits that this processor lets be one.

    The recorder's processor may have more of them, so a case that sets another bit says nothing about this one.
    """
    for variable in program.state_in("vmcs"):
        capability = program.constants.get(variable.name.removesuffix("_CONTROLS") + "_MAY_BE_1")
        if capability is not None:
            yield variable.name, capability.value
