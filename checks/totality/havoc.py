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
from checks.symbolic.evaluate import Call, Evaluator
from checks.symbolic.memory import ByteMemory
from checks.symbolic.paths import Cursor, Exits
from checks.symbolic.state import Elements, Initial, State
from checks.symbolic.terms import Terms, Truth
from checks.symbolic.values import Value, fresh
from checks.trap.contract import VM_EXIT
from checks.trap.initial import Anything, Symbols
from checks.walk import children
from grammar import ir

EXECUTE = "execute"
"""The name of a call that executes an instruction."""


CALLS = "CALLS"
"""The memory in which a state remembers which calls that were left open led to it: a byte for each, by its number."""


def any_state(program: ir.Program, terms: Terms, built: Built) -> State:
    """Any state, but for the fields of the VMCS that are the same in every guest's."""
    symbols = Symbols(terms)
    state = initial_state(program, terms, symbols, Anything(symbols))
    state.surroundings.memories[CALLS] = ByteMemory(terms, 64, lambda _number: 0)
    for name, value in built.constants.items():
        state.set(name, value)
    return state


@dataclass(frozen=True, slots=True)
class Raised:
    """What a call raises if `condition` holds, before it has written or, if it `is_late`, after."""

    kind: str
    condition: Truth
    value: Value
    is_late: bool


@dataclass(slots=True)
class OpenCall:
    """A call that is left open: to what it sets the state, what it raises (the first of these), what it returns."""

    name: str
    number: int
    writes: dict[str, Value | Elements] = field(default_factory=dict)
    raises: list[Raised] = field(default_factory=list)
    result: tuple[Value, ir.Type] | None = None

    @property
    def label(self) -> str:
        """What names its unknowns."""
        return f"{self.name}!{self.number}"


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
    calls: list[OpenCall] = field(default_factory=list)

    def call(self, call: Call) -> Value | None:
        """What a call may do."""
        return self.go_on(self.begin(call.function.name, call.cursor), call)

    def go_on(self, opened: OpenCall, call: Call) -> Value | None:
        """What a call may do that has begun.  It raises before or after it has written."""
        function, raised = call.function, self.aborts[call.function.name]
        self._raise(opened, call.evaluator, raised, call.cursor, call.exits)
        self.write(opened, written_by(self.program, [function.body]), call.cursor)
        self._raise(opened, call.evaluator, raised, call.cursor, call.exits)
        if function.result is None:
            return None
        opened.result = fresh(self.terms, f"{opened.label}.result", function.result), function.result
        return opened.result[0]

    def end(self, call: Call) -> None:
        """The run ends at this call, with an exit of the function's name."""
        self.begin(call.function.name, call.cursor)
        call.cursor.leave(call.function.name, None, None, call.exits)

    def instruction(self, evaluator: Evaluator, cursor: Cursor, exits: Exits) -> None:
        """What any instruction may do."""
        call = self.begin(EXECUTE, cursor)
        self.write(call, written_by_instructions(self.program), cursor)
        self._raise(call, evaluator, self.program.aborts, cursor, exits)

    def begin(self, name: str, cursor: Cursor) -> OpenCall:
        """A new call, which the state remembers."""
        call = OpenCall(name, len(self.calls))
        self.calls.append(call)
        memory, old = cursor.state.surroundings.memories[CALLS], cursor.state.elements(CALLS)
        cursor.state.set(CALLS, memory.write(old, call.number, 1, 8))
        return call

    def write(self, call: OpenCall, names: Iterable[str], cursor: Cursor) -> None:
        """Gives state new values."""
        symbols = Symbols(self.terms)
        for name in sorted(names):
            variable = self.program.state[name]
            unknown = Initial(partial(symbols.value, f"{name}!{call.label}", variable))
            call.writes[name] = unknown if variable.indices else unknown.read(())
            cursor.state.set(name, call.writes[name])

    def raise_any(
        self, call: OpenCall, evaluator: Evaluator, kinds: Iterable[str], cursor: Cursor, exits: Exits
    ) -> list[Raised]:
        """Raises anything or not."""
        is_late = bool(call.writes or call.raises)
        label = f"{call.label}!late" if is_late else call.label
        found = []
        for kind in sorted(kinds):
            value = fresh(self.terms, f"{label}.{kind}", self.program.aborts[kind].type)
            condition = self.terms.bool_symbol(f"{label}.raises.{kind}")
            found.append(Raised(kind, condition, value, is_late))
            evaluator.abort(kind, condition, value, cursor, exits)
        call.raises += found
        return found

    def _raise(
        self, call: OpenCall, evaluator: Evaluator, kinds: Iterable[str], cursor: Cursor, exits: Exits
    ) -> None:
        """The same, where the reason of a VM exit has a handler."""
        for raised in self.raise_any(call, evaluator, kinds, cursor, exits):
            if raised.kind == VM_EXIT:
                self.events.append(raised.value)
                self.assumed.append(is_handled(self.program, self.terms, raised.value))


def written_by_instructions(program: ir.Program) -> frozenset[str]:
    """The state that instructions write."""
    return written_by(program, [i.bodies for i in program.instructions.values()])


def aborts_of(program: ir.Program) -> dict[str, frozenset[str]]:
    """The kinds of aborts that come out of each function, by its text."""
    known: dict[str, frozenset[str]] = {}

    def of(node: object) -> frozenset[str]:
        if isinstance(node, ir.Attempt):
            caught = of(node.body) - {one.kind for one in node.catches}
            return caught.union(*(of(one.body) for one in node.catches))
        if isinstance(node, ir.Execute):
            return frozenset(program.aborts)
        own = frozenset({node.kind}) if isinstance(node, ir.Raise) else frozenset()
        called = of_function(node.function) if isinstance(node, ir.Call) else frozenset()
        return own.union(called, *(of(child) for child in children(node)))

    def of_function(name: str) -> frozenset[str]:
        if name not in known:
            known[name] = of(program.functions[name].body)
        return known[name]

    return {name: of_function(name) for name in program.functions}
