"""What a guest experiences whose instruction exits, and what the bare machine does with the same instruction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from checks.emulation.machine import BORDERS, STOPPED, WRITE_PORTS, Instruction, Machine, note_ports
from checks.symbolic.paths import RETURN, Cursor, Exit, Exits, Paths
from checks.symbolic.state import State
from checks.symbolic.terms import Terms, Truth, Vector
from checks.symbolic.values import Record
from checks.trap.contract import FAULT, VM_EXIT
from checks.trap.runs import Run, Settings
from grammar import ir

CYCLE = "cycle"
RUN_ONE = "run_one"
HANDLE_EVENT = "handle_event"
DIFFERS = "differs"
SAVE = "save_guest"
"""The functions of the specification that these runs call: see `spec/cpu/cycle.isa` and `spec/vmm/`."""

ACTIVE, HALTED = 0, 1
"""Activity states.  SDM 3C 25.4.2"""
IF = 9
"""The bit of RFLAGS that lets interrupts in."""


@dataclass(frozen=True, slots=True)
class Handled:
    """What a guest experiences under the VMM: where it `exited`, it goes on as `run` says.

    `event` is what the exit carried. The run "exits" where the guest is stopped. `saved` says that what the exit saves
    could be entered again.
    """

    exited: Truth
    event: Record
    run: Run
    saved: Truth


@dataclass(slots=True)
class Player:
    """Makes the runs of one group."""

    settings: Settings

    def handled(self, begin: Instruction, body: Instruction) -> Handled | None:
        """The guest's run of an instruction as far as it exits, None if it never does."""
        machine = self._machine(lambda m, c, e: _execute(begin, body, m, c, e))
        cursor, exits = Cursor(self.settings.first.copy(), {}), list[Exit]()
        machine.call(self._function(CYCLE), (), cursor, exits)
        left = machine.merge_aborts(exits, VM_EXIT, Cursor(self.settings.first, {}))
        return self.from_exit(machine, left) if left is not None else None

    def from_exit(self, machine: Machine, left: Exit) -> Handled:
        """What follows a VM exit: what `run_one` does then, until the guest runs again or is stopped."""
        attempt = next(s for s in self._function(RUN_ONE).body if isinstance(s, ir.Attempt))
        on_exit = next(c for c in attempt.catches if c.kind == VM_EXIT)
        event = cast(Record, left.value)
        saved = self._saved(machine, left, event)
        cursor = Cursor(left.state.copy(), {on_exit.name: event}, {on_exit.name: event.type})
        exits: Exits = []
        machine.run(on_exit.body, cursor, exits)
        machine.run(attempt.body, cursor, exits)
        run = self._outcome(machine, self.settings.first, cursor, exits)
        return Handled(left.condition, event, run, saved)

    def _saved(self, machine: Machine, left: Exit, event: Record) -> Truth:
        """The rules of VM entry hold of what the exit saves of the guest."""
        cursor = Cursor(left.state.copy(), {})
        machine.call(self._function(SAVE), (event,), cursor, [])
        return machine.terms.conjunction(
            cast(Truth, machine.pure(rule.condition, cursor.state))
            for group in self.settings.program.rules.values()
            for rule in group.rules
        )

    def bare(self, begin: Instruction, body: Instruction, handled: Handled) -> Run:
        """The bare machine's run of the instruction, where the guest exits: there the guest's machine may differ."""

        def or_differs(machine: Machine, cursor: Cursor, exits: Exits) -> None:
            self._or_differs(machine, handled.event, body, cursor, exits)

        machine = self._machine(lambda m, c, e: _execute(begin, or_differs, m, c, e))
        cursor, exits = Cursor(self.settings.bare.copy(), {}), list[Exit]()
        machine.call(self._function(CYCLE), (), cursor, exits)
        return self._outcome(machine, self.settings.bare, cursor, exits)

    def _or_differs(
        self, machine: Machine, event: Record, body: Instruction, cursor: Cursor, exits: Exits
    ) -> None:
        done = machine.call(self._function(DIFFERS), (event,), cursor, exits)
        machine.either(
            cast(Truth, done),
            lambda _c, _e: None,
            lambda branch, out: body(machine, branch, out),
            cursor,
            exits,
        )

    def _machine(self, instruction: Instruction) -> Machine:
        """An evaluator with all borders in place."""
        overrides = {**self.settings.contract.overrides(), **BORDERS, WRITE_PORTS: note_ports}
        return Machine(
            self.settings.program, self.settings.terms, overrides=overrides, instruction=instruction
        )

    def _outcome(self, machine: Machine, start: State, cursor: Cursor, exits: Exits) -> Run:
        cursor.leave(RETURN, None, None, exits)
        paths, scope = Paths(self.settings.terms), Cursor(start, {})
        returned = [e for e in exits if e.kind == RETURN]
        completed = paths.merge_exits(returned, None, scope) if returned else None
        fault = machine.merge_aborts(exits, FAULT, scope)
        return Run(
            machine,
            start,
            completed.condition if completed is not None else False,
            fault.condition if fault is not None else False,
            self.settings.terms.disjunction(e.condition for e in exits if e.kind == STOPPED),
            cast(Record, fault.value) if fault is not None else None,
            completed.state if completed is not None else start,
            fault.state if fault is not None else start,
            tuple(self.settings.contract.faults),
        )

    def _function(self, name: str) -> ir.Function:
        return self.settings.program.functions[name]


def _execute(begin: Instruction, body: Instruction, machine: Machine, cursor: Cursor, exits: Exits) -> None:
    """What `execute` does: NEXT_RIP is set, the body runs, and if it completes RIP moves on."""
    own: Exits = []
    begin(machine, cursor, own)
    body(machine, cursor, own)
    cursor.leave(RETURN, None, None, own)
    exits += [e for e in own if e.kind != RETURN]
    returned = [e for e in own if e.kind == RETURN]
    if returned:
        merged = Paths(machine.terms).merge_exits(returned, None, cursor)
        cursor.alive, cursor.state = merged.condition, merged.state
        cursor.state.set("RIP", cursor.state.get("NEXT_RIP"))


def waits_for_ever(terms: Terms, state: State) -> Truth:
    """The processor is not active, and no interrupt wakes it: a guest that goes on would notice.  SDM 3C 25.4.2"""
    activity, flags = (cast(Vector, state.get(name)) for name in ("ACTIVITY_STATE", "RFLAGS"))
    is_halted = terms.conjunction((terms.equal(activity, HALTED, 32), terms.bit(flags, IF, 64, 64)))
    return terms.negation(terms.disjunction((terms.equal(activity, ACTIVE, 32), is_halted)))
