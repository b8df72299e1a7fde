"""What the VMM does at a VM exit leaves the guest fit to be entered: the rules of VM entry and the policies are kept.

- `host_state.exit.<promise>`: after a VM exit of a guest of which all promises hold, this one holds of what was saved.
- `host_state.handlers.<HANDLER>.<promise>`: so it does when the handler is done, if the handler writes anything that
  the promise depends on, and does not stop the guest.
- `host_state.steps.<step>.<promise>`: a step of the VMM keeps it too, for a guest that is still alive.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias, cast

import z3

from checks.emulation.machine import BORDERS, Machine, unknown_call, written_by
from checks.emulation.runs import RUN_ONE
from checks.host_state.built import Built
from checks.host_state.dependencies import ALL, Dependencies, bits_written
from checks.host_state.explain import Change, Kept
from checks.host_state.promises import CURRENT, THIS_CPU, Promise, Promises
from checks.host_state.running import RunningGuest
from checks.symbolic.evaluate import Call
from checks.symbolic.paths import Cursor
from checks.symbolic.state import State
from checks.symbolic.terms import Terms, Truth, Vector
from checks.symbolic.values import Record, Value, equal, fresh
from checks.theorem import Goal, Group
from checks.totality.havoc import any_state
from checks.totality.requests import LIVES
from checks.trap.contract import VM_EXIT
from checks.walk import nodes, reachable_functions
from grammar import ir

EXIT, HANDLERS, STEPS = (f"host_state.{one}" for one in ("exit", "handlers", "steps"))
"""The groups."""

EXIT_FUNCTION, LEAVE, IS_FAILURE = "vm_exit", "after_exit", "is_entry_failure"
RUNNING = "RUNNING"
"""The names of the specification that these goals are made with: see `spec/vmx/vm_exit.isa`, `spec/vmm/`."""

INFORMATION, NMI_UNBLOCKING = "ENTRY_INTERRUPTION_INFORMATION", 12
INJECTED = {
    INFORMATION: "interruption_information",
    "ENTRY_EXCEPTION_ERROR_CODE": "interruption_error",
}
"""The fields of the event to inject, and where the record of a VM exit has the event that exited."""

Made: TypeAlias = tuple[Iterable[Goal], Iterable[Truth]]
"""The goals of a group, and what all of them assume."""


class HandlerGoals:
    """What the goals about a program are, and their terms."""

    def __init__(self, program: ir.Program) -> None:
        self._program = program
        depends = Dependencies(program)
        self._promises = depends.every
        self._handlers = {
            name: depends.at_waiting(_written(program, program.functions[f"handle_{name}"].body))
            for name in program.handlers
        }
        self._steps = {
            name: depends.at_waiting(_written(program, step.body))
            for name, step in program.steps.items()
            if not step.hardware
        }

    def ids(self) -> dict[str, tuple[str, ...]]:
        """The ids of the goals, by group."""
        return {
            EXIT: tuple(f"{EXIT}.{one.name}" for one in self._promises),
            HANDLERS: _ids(HANDLERS, self._handlers),
            STEPS: _ids(STEPS, self._steps),
        }

    def build(self, group: str, context: z3.Context, built: Built, ids: frozenset[str] | None) -> Group:
        """The goals of one of the groups: those of `ids`, or all."""
        terms = Terms(context)
        maker = _Maker(self._program, terms, ids)
        if group == STEPS:
            goals, assumed = maker.of_steps(built, self._steps)
        else:
            exit_ = LeftGuest.of(RunningGuest.of(self._program, terms, built))
            goals, assumed = (
                maker.of_exit(exit_) if group == EXIT else maker.of_handlers(exit_, self._handlers)
            )
        hypotheses = tuple(terms.truth(one) for one in assumed if one is not True)
        return Group(group, context, tuple(goals), hypotheses)


def _ids(group: str, promises: Mapping[str, Iterable[Promise]]) -> tuple[str, ...]:
    return tuple(f"{group}.{name}.{one.name}" for name, found in promises.items() for one in found)


def _written(program: ir.Program, body: object) -> dict[str, int]:
    """The bits that a body writes without ending the guest's run."""
    own = (body, *(f.body for f in reachable_functions(program, [body], frozenset(BORDERS))))
    called = {n.function for one in own for n in nodes(one) if isinstance(n, ir.Call)}
    left_open = (
        f for f in map(program.functions.__getitem__, called) if BORDERS.get(f.source) is unknown_call
    )
    return bits_written(program, own) | dict.fromkeys(written_by(program, [f.body for f in left_open]), ALL)


@dataclass(frozen=True, slots=True)
class LeftGuest:
    """What a VM exit makes of a running guest of which all promises hold: `state`, and what then is promised."""

    guest: RunningGuest
    event: Record
    state: State
    holding: dict[str, Truth]
    used: Machine

    @classmethod
    def of(cls, guest: RunningGuest) -> LeftGuest:
        """The exit is any but a failed entry, which saves nothing."""
        program, terms = guest.promises.program, guest.promises.terms
        event = cast(Record, fresh(terms, "event", program.aborts[VM_EXIT].type))
        machine = Machine(program, terms, overrides={**BORDERS, IS_FAILURE: _is_none})
        name, body = _on_exit(program)
        cursor = Cursor(guest.state.copy(), {name: event}, {name: event.type})
        machine.run(body, cursor, [])
        return cls(guest, event, cursor.state, guest.promises.of_waiting(cursor.state), machine)

    @property
    def calls(self) -> tuple[tuple[ir.Function, tuple[Value, ...]], ...]:
        """What has happened so far."""
        functions = self.guest.promises.program.functions
        return (functions[EXIT_FUNCTION], (self.event,)), (functions[LEAVE], ())

    def could_be_injected(self) -> Iterator[Truth]:
        """If an event exited, it is one that VM entry could inject: all that the processor raises are.

        But for a bit of the exit that an entry does not accept: that an IRET had unblocked NMIs.  SDM 3C 25.8.3, 25.9.2
        """
        promises, state = self.guest.promises, self.state.copy()
        for name, part in INJECTED.items():
            state.set(name, self.event.field(part))
        information = cast(Vector, state.get(INFORMATION))
        state.set(
            INFORMATION, promises.terms.arithmetic("&", information, 0xFFFFFFFF & ~(1 << NMI_UNBLOCKING), 32)
        )
        depending = Dependencies(promises.program).at_waiting(dict.fromkeys(INJECTED, ALL))
        yield from promises.of_waiting(state, {one.name for one in depending}).values()


def _on_exit(program: ir.Program) -> tuple[str, tuple[ir.Stmt, ...]]:
    """What `run_one` does at a VM exit before the handler runs, and the name that it has for the exit."""
    attempt = next(s for s in program.functions[RUN_ONE].body if isinstance(s, ir.Attempt))
    on_exit = next(c for c in attempt.catches if c.kind == VM_EXIT)
    return on_exit.name, tuple(s for s in on_exit.body if not isinstance(s, ir.Dispatch))


def _is_none(_call: Call) -> Value:
    return False


@dataclass(frozen=True, slots=True)
class _Maker:
    """Makes the goals of `ids`, or all."""

    program: ir.Program
    terms: Terms
    ids: frozenset[str] | None

    def of_exit(self, left: LeftGuest) -> Made:
        """After the exit itself every promise holds of what was saved."""
        change = Change(
            "a VM exit",
            left.guest.state,
            left.state,
            True,
            left.calls,
            (left.used, left.guest.promises.evaluator),
        )
        holding = {name: left.guest.holding[name] for name in left.holding}
        return list(self._kept(EXIT, left.guest.promises, change, holding, left.holding)), [
            *left.guest.holding.values()
        ]

    def of_handlers(self, left: LeftGuest, depending: Mapping[str, Iterable[Promise]]) -> Made:
        """After each handler, where it does not stop the guest."""
        goals = [goal for name, found in depending.items() for goal in self._of_handler(left, name, found)]
        assumed = (
            *left.guest.holding.values(),
            *left.guest.fetched(),
            *left.could_be_injected(),
        )
        return goals, assumed

    def _of_handler(self, left: LeftGuest, name: str, depending: Iterable[Promise]) -> Iterator[Goal]:
        wanted = self._wanted(f"{HANDLERS}.{name}", depending)
        if not wanted:
            return
        promises, function = left.guest.promises, self.program.functions[f"handle_{name}"]
        machine = Machine(self.program, self.terms, overrides=BORDERS)
        cursor = Cursor(left.state.copy(), {})
        machine.call(function, (), cursor, [])
        used = (left.used, machine, promises.evaluator)
        calls = (*left.calls, (function, ()))
        change = Change(f"the handler {name}", left.guest.state, cursor.state, cursor.alive, calls, used)
        after = promises.of_waiting(cursor.state, wanted)
        yield from self._kept(f"{HANDLERS}.{name}", promises, change, left.holding, after)

    def of_steps(self, built: Built, depending: Mapping[str, Iterable[Promise]]) -> Made:
        """After each step, for a guest that is still alive while this processor runs no other."""
        promises = Promises(self.program, self.terms)
        start = any_state(self.program, self.terms, built)
        holding = promises.of_waiting(start)
        goals = [
            goal
            for name, found in depending.items()
            for goal in self._of_step(promises, start, holding, name, found)
        ]
        return goals, holding.values()

    def _of_step(
        self,
        promises: Promises,
        start: State,
        holding: Mapping[str, Truth],
        name: str,
        depending: Iterable[Promise],
    ) -> Iterator[Goal]:
        wanted = self._wanted(f"{STEPS}.{name}", depending)
        if not wanted:
            return
        function = self.program.functions[name]
        arguments = tuple(fresh(self.terms, f"{name}.{p.name}", p.type) for p in function.parameters)
        machine, cursor = Machine(self.program, self.terms), Cursor(start.copy(), {})
        taken = cast(Truth, machine.call(function, arguments, cursor, []))
        condition = self.terms.conjunction((taken, *self._still_waits(start, cursor.state)))
        calls, used = ((function, arguments),), (machine, promises.evaluator)
        change = Change(f"the step {name}", start, cursor.state, condition, calls, used)
        after = promises.of_waiting(cursor.state, wanted)
        yield from self._kept(f"{STEPS}.{name}", promises, change, holding, after)

    def _still_waits(self, before: State, after: State) -> Iterator[Truth]:
        """The guest is as alive as before, and this processor is as free."""
        for name, point in ((LIVES, before.get(CURRENT)), (RUNNING, THIS_CPU)):
            old, new = (state.elements(name).read((point,)) for state in (before, after))
            yield equal(self.terms, old, new, self.program.state[name].type)

    def _wanted(self, prefix: str, depending: Iterable[Promise]) -> frozenset[str]:
        return frozenset(
            one.name for one in depending if self.ids is None or f"{prefix}.{one.name}" in self.ids
        )

    def _kept(
        self,
        prefix: str,
        promises: Promises,
        change: Change,
        before: Mapping[str, Truth],
        after: Mapping[str, Truth],
    ) -> Iterator[Goal]:
        for one in promises.every:
            name = f"{prefix}.{one.name}"
            if one.name in after and (self.ids is None or name in self.ids):
                yield Kept(name, change, one, before[one.name], after[one.name]).goal(self.terms)
