"""One run of a case's function on the reference, where calls do what the case says, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from checks.case import Case, apply
from checks.totality.calls import ScriptedCalls
from checks.totality.handlers import SWITCH
from checks.totality.requests import (
    CURRENT,
    LEVELS,
    NAMES_PAGE,
    NO_PAGE,
    OPERATES,
    OTHER_DEVICE,
    OTHER_GUEST,
    OWNER,
    PAGE_INDEX,
    ends_guests,
)
from checks.trap.replay import MEMORY_BYTES
from grammar import ir
from refmodel.memory import EndlessMemory
from refmodel.model import Model
from refmodel.runtime import Abort
from refmodel.vectors import CaseError


class Played:
    """A run of the case's function: `start` is the machine before it, and `machine` the one that it changes.

    `called` are the calls that do what the case says, `switched` the guests whose VMCS is made the current one,
    `asked` what is asked for that is not the current guest's, by kind, `raised` what comes out.
    """

    def __init__(self, case: Case, model: Model) -> None:
        self.case, self.model = case, model
        self.start, self.machine = self.fresh(), self.fresh()
        self.calls = ScriptedCalls(case, model, self._watch)
        self.claim = self.calls.claim
        self.vm: int = self.start.CURRENT_VM
        self.called: list[str] = []
        self.switched: list[int] = []
        self.asked: set[str] = set()
        self.machine.listeners[SWITCH] = self.switched.append
        self.raised: Abort | None = None

    def fresh(self) -> Any:
        """A machine in the state of the case."""
        machine = self.model.machine(EndlessMemory(MEMORY_BYTES))
        apply(self.case, machine, self.model)
        return machine

    def play(self) -> None:
        """Runs the function."""
        self.raised = self.calls.run(self.machine)

    def is_unhandled(self) -> bool:
        """Whether a VM exit comes out whose reason has no handler."""
        exit_ = self.model.namespace["VmExitAbort"]
        handled = {h.value for h in self.model.program.handlers.values()}
        return isinstance(self.raised, exit_) and int(self.raised.value.reason) not in handled

    def is_unchanged(self, name: str) -> bool:
        """Whether state is what it was.  Raises CaseError if there is none of that name."""
        return self.is_same(name, self.start)

    def is_same(self, name: str, other: Any) -> bool:
        """Whether state is the same on another machine."""
        return bool(self._value(name, self.machine) == self._value(name, other))

    def is_told(self) -> bool:
        """Whether a VM exit comes out that may become a virtualization exception."""
        exit_ = self.model.namespace["VmExitAbort"]
        return isinstance(self.raised, exit_) and bool(self.raised.value.convertible)

    def is_memory_unchanged(self) -> bool:
        """Whether memory is what it was."""
        return bool(self.machine.PHYSICAL.is_same(self.start.PHYSICAL))

    def is_unnoticed(self) -> bool:
        """Whether all state that is not indexed is what it was."""
        variables = (v for v in self.model.program.state.values() if not v.indices and v.space != "ghost")
        return all(self.is_unchanged(v.name) for v in variables if not isinstance(v.type, ir.Struct))

    def is_others_unchanged(self, name: str) -> bool:
        """Whether what is kept for guests other than the current one is what it was.  Raises CaseError."""
        vm, indices = self.model.program.state[CURRENT].type, self._variable(name).indices
        place = next((n for n, index in enumerate(indices) if index.type == vm), None)
        if place is None:
            raise CaseError(f"{name} is not kept for each guest")
        now, before = (
            {at: value for at, value in self._points(name, machine) if at[place] != self.vm}
            for machine in (self.machine, self.start)
        )
        return now == before

    def _points(self, name: str, machine: Any) -> Iterable[tuple[tuple[int, ...], Any]]:
        elements = getattr(machine, name).items()
        return ((at if isinstance(at, tuple) else (at,), value) for at, value in elements)

    def _value(self, name: str, machine: Any) -> Any:
        holder = machine.vmcs if self._variable(name).space == "vmcs" else machine
        return getattr(holder, name)

    def _variable(self, name: str) -> ir.StateVariable:
        if name not in self.model.program.state:
            raise CaseError(f"the specification has no state '{name}'")
        return self.model.program.state[name]

    def _watch(self, machine: Any, name: str, arguments: tuple[Any, ...]) -> None:
        """Notes the call, and what it asks for that is not the guest's."""
        self.called.append(name)
        function = self.model.program.functions.get(name)
        if function is None:
            return
        named = {p.name: value for p, value in zip(function.parameters, arguments, strict=True)}
        if name in OPERATES and getattr(machine, OWNER)[named["device"]] != machine.CURRENT_VM:
            self.asked.add(OTHER_DEVICE)
        if name in NAMES_PAGE and not self._has_own_entry(machine, named["page"]):
            self.asked.add(NO_PAGE)
        if "vm" in named and ends_guests(self.model.program, function) and named["vm"] != self.vm:
            self.asked.add(OTHER_GUEST)

    def _has_own_entry(self, machine: Any, page: int) -> bool:
        """Whether the indices into the tables make up the whole number of the page."""
        indices = [self.model.functions[PAGE_INDEX](machine, page, level) for level in LEVELS]
        whole = sum(int(index) << 9 * place for place, index in enumerate(reversed(indices)))
        return whole == page
