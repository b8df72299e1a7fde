"""What becomes of a guest that the VMM ends, at a VM exit or, given up, in the middle of an instruction.

From any state the guest is ended, and the processor is the VMM's: it has what a VM exit leaves. What other guests have,
which of them live, and which other processors run them is what it was. If no other processor runs the guest, time goes
on and its devices are taken away, its memory is free to be used again at once. How devices are taken away is left
open here: that is done by steps, which the isolation theorems are about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import cast

from checks.emulation.machine import Machine, written_by
from checks.host_state.handlers import EXIT_FUNCTION
from checks.host_state.promises import CURRENT, THIS_CPU, mode_of
from checks.symbolic.evaluate import Call
from checks.symbolic.paths import RETURN, Cursor, Exit
from checks.symbolic.state import State
from checks.symbolic.terms import Terms, Truth, Vector
from checks.symbolic.values import Value, equal, fresh, width_of
from checks.theorem import Goal, Witness
from checks.totality.entries import LIVE, RUNNING, VMM
from checks.totality.exits import Exiting
from checks.totality.handlers import RETURNS, kept_by_others, life
from checks.totality.havoc import Havoc, any_state
from checks.totality.open_run import KIND, OpenRun, is_same
from checks.totality.requests import LIVES
from checks.trap.contract import VM_EXIT
from grammar import ir

ENDING = {"give_up_guest": True, "stop_guest": False}
"""The functions that end a guest, and whether it still runs when they are called: see `spec/vmm/schedule.isa`."""

DEVICES, DOMAIN, NO_DOMAIN = "take_all_devices", "VM_DOMAIN", 0
TIME, END_OF_TIME, GONE = "EPOCH", "LAST_EPOCH", "RETIRED"
"""The names of the specification that these goals are made with: see `spec/vmm/passthrough.isa`, `frames.isa`."""

IS_ENDED, IS_LEFT, IS_GONE = "is not alive", "is not running", "leaves its memory"
OTHERS_GO_ON = "other processors go on"
CLAIMS = frozenset({IS_ENDED, IS_LEFT, IS_GONE, OTHERS_GO_ON})
"""Claims; others are the names of what is kept for each guest."""

ENDS_GUEST = "ends a guest"
"""The witness."""

OF_THE_HOST = "the host's "
"""The first words of claims about the registers of the processor."""


@dataclass(slots=True)
class _Devices:
    """Leaves open how devices are taken away; `assumed` says that time does not run backwards meanwhile."""

    havoc: Havoc
    assumed: list[Truth] = field(default_factory=list)

    def call(self, call: Call) -> Value | None:
        """The call: what it writes may be anything."""
        before = cast(Vector, call.state.get(TIME))
        result = self.havoc.call(call)
        after = cast(Vector, call.state.get(TIME))
        self.assumed.append(call.evaluator.terms.compare(">=", after, before, 64))
        return result


def endings(program: ir.Program) -> dict[str, tuple[ir.Function, str]]:
    """What there are goals about, by name: a function that ends a guest, and whom it concerns."""
    functions = [program.functions[name] for name in ENDING if name in program.functions]
    return {f"{function.name}.{whom}": (function, whom) for function in functions for whom in _CONCERNED}


def ending_goal(exiting: Exiting, subject: tuple[ir.Function, str], name: str, terms: Terms) -> Goal:
    """The guest is ended; or the processor is the VMM's; or nobody else notices."""
    (function, whom), program = subject, exiting.program
    devices = _Devices(Havoc(program, terms, exiting.aborts))
    machine = Machine(program, terms, overrides={DEVICES: devices.call})
    start = any_state(program, terms, exiting.built)
    runs = ENDING[function.name]
    start.set(mode_of(program), value=runs)
    machine.touched.names.add(mode_of(program))
    if not runs:
        start.update(RUNNING, (THIS_CPU,), VMM)
    cursor, exits = Cursor(start.copy(), {}), list[Exit]()
    machine.call(function, (), cursor, exits)
    ending = _Ending(program, machine, start, cursor.state)
    claims = {RETURNS: terms.negation(terms.disjunction(e.condition for e in exits))}
    claims |= dict(_CONCERNED[whom](ending))
    cursor.leave(RETURN, None, None, exits)
    run = OpenRun(function, (), start, devices.havoc, exits, (machine,))
    summary = f"{function.name} does not end the current guest, or not it alone"
    return Goal(
        name,
        terms.truth(terms.conjunction(claims.values())),
        tuple(terms.truth(one) for one in devices.assumed),
        (Witness(ENDS_GUEST, terms.truth(terms.conjunction(ending.can_be_gone()))),),
        minimise=run.minimise,
        explain=partial(run.broken, KIND, name, claims, summary, function.span),
    )


@dataclass(frozen=True, slots=True)
class _Ending:
    """A run that ends a guest: the states before and after."""

    program: ir.Program
    machine: Machine
    before: State
    after: State

    def of_the_guest(self) -> Iterator[tuple[str, Truth]]:
        """It is not alive, runs no more and, if it can be, is gone: shown of one that runs, since all end alike."""
        terms = self.machine.terms
        yield IS_ENDED, terms.negation(self._is(self.after, LIVE))
        yield IS_LEFT, self._is_free(self.after, THIS_CPU)
        if self._ran():
            yield IS_GONE, terms.implies(terms.conjunction(self.can_be_gone()), self._is(self.after, GONE))

    def can_be_gone(self) -> Iterator[Truth]:
        """The guest lived, no other processor runs it, time has not ended, and its devices are taken away."""
        terms, program = self.machine.terms, self.program
        yield self._is(self.before, LIVE)
        for cpu in self._others():
            yield self._is_free(self.before, cpu)
        end = program.constants[END_OF_TIME].value
        yield terms.compare("<", cast(Vector, self.after.get(TIME)), end, 64)
        domain = self.after.elements(DOMAIN).read((self.before.get(CURRENT),))
        yield equal(terms, domain, NO_DOMAIN, program.state[DOMAIN].type)

    def of_others(self) -> Iterator[tuple[str, Truth]]:
        """Other guests have what they had, and other processors run whom they ran."""
        terms, type_ = self.machine.terms, self.program.state[RUNNING].type
        running, ran = (state.elements(RUNNING) for state in (self.after, self.before))
        yield (
            OTHERS_GO_ON,
            terms.conjunction(
                equal(terms, running.read((cpu,)), ran.read((cpu,)), type_) for cpu in self._others()
            ),
        )
        written = written_by(self.program, [self.program.functions[DEVICES].body])
        yield from kept_by_others(self.program, self.machine, self.before, self.after, written)

    def of_the_processor(self) -> Iterator[tuple[str, Truth]]:
        """Its state is what a VM exit leaves: unchanged, if there was one."""
        program = self.program
        left = self._left() if self._ran() else self.before
        for name in sorted(written_by(program, [program.functions[EXIT_FUNCTION].body])):
            variable = program.state.get(name)
            if variable is not None and variable.space != "vmcs":
                yield f"{OF_THE_HOST}{name}", is_same(self.machine, variable, self.after, left)

    def _ran(self) -> bool:
        """Whether the guest still runs as it is ended."""
        return self.before.get(mode_of(self.program)) is True

    def _left(self) -> State:
        """What a VM exit leaves, for whatever reason: what it saves in the VMCS does not count."""
        type_ = self.program.aborts[VM_EXIT].type
        event = fresh(self.machine.terms, VM_EXIT, type_)
        cursor, function = Cursor(self.before.copy(), {}), self.program.functions[EXIT_FUNCTION]
        self.machine.call(function, (event,), cursor, [])
        return cursor.state

    def _is(self, state: State, part: str) -> Truth:
        """Whether the guest is in that part of its life."""
        point, type_ = (self.before.get(CURRENT),), self.program.state[LIVES].type
        self.machine.touched.element(LIVES, point)
        found = state.elements(LIVES).read(point)
        return equal(self.machine.terms, found, life(self.program, part), type_)

    def _is_free(self, state: State, cpu: int) -> Truth:
        """Whether the processor runs no guest."""
        self.machine.touched.element(RUNNING, (cpu,))
        found = state.elements(RUNNING).read((cpu,))
        return equal(self.machine.terms, found, VMM, self.program.state[RUNNING].type)

    def _others(self) -> Iterator[int]:
        """The numbers of other processors."""
        (index,) = self.program.state[RUNNING].indices
        yield from (cpu for cpu in range(1 << width_of(index.type)) if cpu != THIS_CPU)


_CONCERNED: dict[str, Callable[[_Ending], Iterator[tuple[str, Truth]]]] = {
    "guest": _Ending.of_the_guest,
    "processor": _Ending.of_the_processor,
    "others": _Ending.of_others,
}
"""Whom an end concerns, and what is claimed of them."""
