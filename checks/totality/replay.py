"""Replays a counterexample of totality on the reference: an exit without a handler, a handler that goes astray, or an
interrupt that a guest notices.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from checks.case import Case, apply, get_item
from checks.totality.arrivals import DELIVER, IS_NOT_DELIVERED, IS_NOT_NOTICED
from checks.totality.calls import ScriptedCalls
from checks.totality.exits import IS_HANDLED
from checks.totality.handlers import CURRENT, ENDS_NO_OTHER, IS_NOT_SWITCHED, RETURNS, SWITCH, ends_guests
from checks.trap.replay import MEMORY_BYTES
from grammar import ir
from refmodel.memory import EndlessMemory
from refmodel.model import Model
from refmodel.runtime import Abort
from refmodel.vectors import CaseError


def replay(case: Case, model: Model) -> int:
    """Runs the case: 0 if what it claims is broken, 1 if it holds.  Raises CaseError."""
    found = _Run(case, model)
    what = f"{found.calls.name}: {found.calls.claim}"
    print(f"{case.id}: {case.instruction}")
    print(f"CONFIRMED: {case.text}" if found.is_broken() else f"not confirmed: {what} holds here")
    return 0 if found.is_broken() else 1


class _Run:
    """One run of a case's function, and what came of it."""

    def __init__(self, case: Case, model: Model) -> None:
        self.model = model
        self.machine = model.machine(EndlessMemory(MEMORY_BYTES))
        apply(case, self.machine, model)
        self.calls = ScriptedCalls(case, model, self._watch)
        self.vm: int = self.machine.CURRENT_VM
        self.before = self._of_others()
        self.whole = self._whole()
        self.called: list[str] = []
        self.switched: list[int] = []
        self.ended: list[int] = []
        self.machine.listeners[SWITCH] = self.switched.append
        self.raised: Abort | None = self.calls.run(self.machine)

    def is_broken(self) -> bool:
        """Whether the claim does not hold."""
        claims: Mapping[str, bool] = {
            IS_HANDLED: not self._is_unhandled(),
            RETURNS: self.raised is None,
            ENDS_NO_OTHER: set(self.ended) <= {self.vm},
            IS_NOT_SWITCHED: not self.switched,
            IS_NOT_DELIVERED: DELIVER not in self.called,
            IS_NOT_NOTICED: self.whole == self._whole(),
            CURRENT: self.vm == self.machine.CURRENT_VM,
        }
        if self.calls.claim in claims:
            return not claims[self.calls.claim]
        return self._of_others() != self.before

    def _of_others(self) -> dict[Any, int]:
        """What the item that the claim names holds of guests other than the current one, if it names one."""
        variable = self.model.program.state.get(self.calls.claim)
        if variable is None or variable.name == CURRENT:
            return {}
        vm = self.model.program.state[CURRENT].type
        place = next((n for n, index in enumerate(variable.indices) if index.type == vm), None)
        if place is None:
            raise CaseError(f"{variable.name} is not kept for each guest")
        elements = getattr(self.machine, variable.name).items()
        points = ((at if isinstance(at, tuple) else (at,), value) for at, value in elements)
        return {at: value for at, value in points if at[place] != self.vm}

    def _whole(self) -> dict[str, int]:
        """All state that is not indexed."""
        program = self.model.program
        variables = (v for v in program.state.values() if not v.indices and v.space != "ghost")
        names = (v.name for v in variables if not isinstance(v.type, ir.Struct))
        return {name: get_item(self.machine, program, name) for name in names}

    def _is_unhandled(self) -> bool:
        exit_ = self.model.namespace["VmExitAbort"]
        handled = {h.value for h in self.model.program.handlers.values()}
        return isinstance(self.raised, exit_) and int(self.raised.value.reason) not in handled

    def _watch(self, _machine: Any, name: str, arguments: tuple[Any, ...]) -> None:
        """Notes the call, and a guest that a step would begin or end."""
        self.called.append(name)
        function = self.model.program.functions.get(name)
        if function is not None and ends_guests(self.model.program, function):
            named = zip(function.parameters, arguments, strict=True)
            self.ended += [value for parameter, value in named if parameter.name == "vm"]
