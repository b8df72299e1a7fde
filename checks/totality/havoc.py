"""Runs parts of the VMM and of the processor's cycle from any state, with what they call left open.

A call that is left open may do anything that its text allows: write what it writes, return anything, and raise what it
raises. Of a VM exit that it raises its reason is one that has a handler: theorems about the callee say so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from checks.emulation.machine import is_handled, written_by
from checks.host_state.built import Built, initial_state
from checks.symbolic.evaluate import Evaluator
from checks.symbolic.paths import Cursor, Exits
from checks.symbolic.state import Initial, State
from checks.symbolic.terms import Terms, Truth
from checks.symbolic.values import Point, Value, fresh
from checks.trap.contract import VM_EXIT
from checks.trap.initial import Symbols
from checks.walk import names_in, nodes
from grammar import ir


@dataclass(slots=True)
class Anything:
    """Initial values of which nothing is known."""

    symbols: Symbols

    def scalar(self, variable: ir.StateVariable) -> Value:
        """A symbol."""
        return self.element(variable, ())

    def element(self, variable: ir.StateVariable, point: Point) -> Value:
        """An unknown function at the point."""
        return self.symbols.value(variable.name, variable, point)


def any_state(program: ir.Program, terms: Terms, built: Built) -> State:
    """Any state, but for the fields of the VMCS that are the same in every guest's."""
    symbols = Symbols(terms)
    state = initial_state(program, terms, symbols, Anything(symbols))
    for name, value in built.constants.items():
        state.set(name, value)
    return state


@dataclass(slots=True)
class Havoc:
    """Leaves calls open, each with unknowns of its own.

    `aborts` says what functions raise, by name. `events` are the VM exits that the calls raise, `assumed` is what is
    known of them.
    """

    program: ir.Program
    terms: Terms
    aborts: Mapping[str, frozenset[str]]
    events: list[Value] = field(default_factory=list)
    assumed: list[Truth] = field(default_factory=list)
    _calls: int = 0

    def call(
        self,
        evaluator: Evaluator,
        function: ir.Function,
        _arguments: tuple[Value, ...],
        cursor: Cursor,
        exits: Exits,
    ) -> Value | None:
        """What a call may do.  It raises before or after it has written."""
        label = self._label(function.name)
        raised = self.aborts[function.name]
        self._raise(evaluator, label, raised, cursor, exits)
        self._write(label, written_by(self.program, [function.body]), cursor)
        self._raise(evaluator, f"{label}!late", raised, cursor, exits)
        return None if function.result is None else fresh(self.terms, f"{label}.result", function.result)

    def instruction(self, evaluator: Evaluator, cursor: Cursor, exits: Exits) -> None:
        """What any instruction may do."""
        label = self._label("execute")
        self._write(
            label, written_by(self.program, [i.bodies for i in self.program.instructions.values()]), cursor
        )
        self._raise(evaluator, label, self.program.aborts, cursor, exits)

    def _label(self, name: str) -> str:
        self._calls += 1
        return f"{name}!{self._calls}"

    def _write(self, label: str, names: Iterable[str], cursor: Cursor) -> None:
        symbols = Symbols(self.terms)
        for name in sorted(names):
            variable = self.program.state[name]
            unknown = Initial(partial(symbols.value, f"{name}!{label}", variable))
            cursor.state.set(name, unknown if variable.indices else unknown.read(()))

    def _raise(
        self, evaluator: Evaluator, label: str, kinds: Iterable[str], cursor: Cursor, exits: Exits
    ) -> None:
        for kind in sorted(kinds):
            value = fresh(self.terms, f"{label}.{kind}", self.program.aborts[kind].type)
            if kind == VM_EXIT:
                self.events.append(value)
                self.assumed.append(is_handled(self.program, self.terms, value))
            evaluator.abort(kind, self.terms.bool_symbol(f"{label}.raises.{kind}"), value, cursor, exits)


def aborts_of(program: ir.Program) -> dict[str, frozenset[str]]:
    """The kinds of aborts in the text of each function and of what it calls; some of them it may catch."""
    known = {name: _own_aborts(program, f) for name, f in program.functions.items()}
    called = {name: names_in(f.body).functions for name, f in program.functions.items()}
    changed = True
    while changed:
        changed = False
        for name, below in called.items():
            found = known[name].union(*(known[one] for one in below))
            changed = changed or found != known[name]
            known[name] = found
    return known


def _own_aborts(program: ir.Program, function: ir.Function) -> frozenset[str]:
    below = list(nodes(function.body)) if function.raises else []
    if any(isinstance(n, ir.Execute) for n in below):
        return frozenset(program.aborts)
    return frozenset(n.kind for n in below if isinstance(n, ir.Raise))
