"""One cycle of the specification on any machine of the reference model, and how it ended."""

from __future__ import annotations

from typing import Any

from refmodel.decoder import NotModelled
from refmodel.model import Model
from refmodel.runtime import Abort

Step = str
DONE: Step = "done"  # the instruction was executed, or its event delivered
REFUSED: Step = "refused"  # the engine leaves it to the reference; nothing has changed
EXITED: Step = "exited"  # a VM exit
ENTRY = "entry "  # followed by 1 if VM entry passes, against the specification, and by 0 if it does not
NOT_MODELLED: Step = "not modelled"  # the bytes are in no row of the specification
FAULT = "fault "  # followed by the vector: an event that is not to be delivered
PAGE_FAULT = 14


class Cycle:
    """The specification's own `cycle`: one instruction, with the delivery of the event it raises.

    Without `delivers`, the events are the outcome: for engines that deliver none. With `exits`, a VM exit is completed:
    the machine is the host's then, and the VMCS tells what happened.
    """

    def __init__(self, model: Model, *, delivers: bool = True, exits: bool = False) -> None:
        self.delivers = delivers
        self._exits = exits
        self.root = "cycle" if delivers else "run_instruction"
        self._run = model.functions[self.root]
        self._vm_exit = model.functions["vm_exit"]
        self._exit: type[Abort] = model.namespace["VmExitAbort"]
        self._fault: type[Abort] = model.namespace["FaultAbort"]

    def __call__(self, machine: Any) -> Step:
        """One cycle of any machine of the model."""
        try:
            return self._make(machine)
        except NotModelled:
            return NOT_MODELLED
        except Abort as abort:
            return self._ended(machine, abort)

    def of(self, model: Model) -> Cycle:
        """The same of another model; a VM exit is not completed."""
        return Cycle(model, delivers=self.delivers)

    def _make(self, machine: Any) -> Step:
        self._run(machine)
        return DONE

    def _ended(self, machine: Any, abort: Abort) -> Step:
        if isinstance(abort, self._exit):
            if self._exits:
                self._vm_exit(machine, abort.value)
            return EXITED
        if not isinstance(abort, self._fault):
            return NOT_MODELLED
        if abort.value.vector == PAGE_FAULT:
            machine.CR2 = abort.value.qualification
        return f"{FAULT}{abort.value.vector}"
