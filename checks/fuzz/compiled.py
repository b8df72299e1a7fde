"""The compiled reference as an engine: what has no fast handler runs in it, VM exits, the VMM and VM entries too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from checks.fuzz.bases import MEMORY_SIZE
from checks.fuzz.cycle import DONE, EXITED, REFUSED, Cycle, Step
from checks.fuzz.generate import Scope
from checks.fuzz.states import special_states
from fastmodel.reference.steps import CompiledSteps, Made
from grammar.ir import Program
from refmodel.memory import RecordingMemory
from refmodel.model import Model

GUEST = 1
VMXE = 1 << 13  # of CR4: one in VMX operation, which the bases leave out.  SDM 3C 24.8
NO_VMCS = (1 << 64) - 1


class GuestCycle(Cycle):
    """What a machine does with its VMM: an instruction of a guest with its VM exit, what the VMM does then, and the VM
    entry behind it. On the bare machine it is a cycle.
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self._cycle = self._run
        self.root = "run_one"
        self._run = model.functions[self.root]
        self._set_host_state = model.functions["set_host_state"]
        self._live = model.namespace["VmState_LIVE"]

    def of(self, model: Model) -> Cycle:
        """The same of another model."""
        return GuestCycle(model)

    def prepare(self, machine: Any) -> None:
        """Gives a machine in VMX non-root mode what the VMM knows of its guest, and what VM entry asks for."""
        self._set_host_state(machine)
        machine.CURRENT_VM = machine.RUNNING[0] = GUEST
        machine.VM_STATE[GUEST] = self._live
        machine.CR4 |= VMXE
        machine.vmcs.VMCS_LINK_POINTER = NO_VMCS

    def entered(self, machine: Any, *, alive: bool) -> Step:
        """The VM entry after a VM exit, if a guest is left."""
        if alive and not machine.IN_NON_ROOT:
            alive = self._run(machine)
        return DONE if alive else EXITED

    def _make(self, machine: Any) -> Step:
        if not machine.IN_NON_ROOT:
            self._cycle(machine)
            return DONE
        self.prepare(machine)
        return self.entered(machine, alive=self._run(machine))


class CompiledEngine:
    """The compiled reference; what it refuses is left to the caller."""

    name = "compiled"

    def __init__(self, model: Model) -> None:
        self.scope = Scope(states=special_states(model))
        self.machine = model.machine(RecordingMemory(MEMORY_SIZE))
        self._guest_cycle = GuestCycle(model)
        self.cycle: Cycle = self._guest_cycle
        self._steps = CompiledSteps(model, self.machine)

    def step(self) -> Step:
        """One instruction, and the VM entry after a VM exit."""
        of_guest = self.machine.IN_NON_ROOT
        if of_guest:
            self._guest_cycle.prepare(self.machine)
        made = self._steps.step(of_guest=of_guest)
        if made is Made.LEFT_TO_PYTHON:
            return REFUSED
        if made is Made.DONE and of_guest and not self.machine.IN_NON_ROOT:
            made = self._steps.step(of_guest=True)
            if made is Made.LEFT_TO_PYTHON:
                return self._guest_cycle.entered(self.machine, alive=True)
        return DONE if made is Made.DONE else EXITED

    def instructions(self, program: Program) -> Sequence[str]:
        """All of them."""
        return list(program.instructions)
