"""What is promised of a guest: each rule of VM entry, and each policy of the VMM.

The rules are about the VMCS of a guest that waits, the policies about the state of one that runs. So each promise is
asked of either: of a guest that waits the policies hold once it is entered, and of one that runs the rules hold of
what a VM exit would save.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import cast

from checks.symbolic.evaluate import Evaluator
from checks.symbolic.paths import Cursor
from checks.symbolic.state import State
from checks.symbolic.terms import Terms, Truth
from checks.symbolic.values import fresh
from checks.trap.contract import VM_EXIT
from checks.trap.unknown import zero
from checks.walk import nodes, reachable_functions, state_read
from grammar import ir

ENTER = "enter_guest"
LOAD = "load_guest"
RECORD = "record_exit"
SAVE = "save_guest"
THIS_CPU = 0
CURRENT = "CURRENT_VM"
"""The names of the specification that these promises are asked with: see `spec/vmx/` and `spec/vmm/schedule.isa`."""


@dataclass(frozen=True, slots=True)
class Promise:
    """A rule or a policy, by what goals about it are called."""

    name: str
    predicate: ir.Predicate
    is_policy: bool


def promises(program: ir.Program) -> tuple[Promise, ...]:
    """All of them, the rules first."""
    return (*_rules(program), *_policies(program))


def _rules(program: ir.Program) -> Iterator[Promise]:
    for group in program.rules.values():
        yield from (Promise(f"{group.name}.{rule.name}", rule, is_policy=False) for rule in group.rules)


def _policies(program: ir.Program) -> Iterator[Promise]:
    for name, policy in program.policies.items():
        yield Promise(f"policy.{name}", policy, is_policy=True)


def mode_of(program: ir.Program) -> str:
    """The register that says whether a guest runs."""
    guard = program.aborts[VM_EXIT].guard
    assert isinstance(guard, ir.Read)
    return guard.name


@dataclass
class Promises:
    """Asks the promises of states.  `wanted` are the names of those to ask for, all if it is None."""

    program: ir.Program
    terms: Terms
    evaluator: Evaluator = field(init=False)

    def __post_init__(self) -> None:
        self.evaluator = Evaluator(self.program, self.terms)

    @cached_property
    def every(self) -> tuple[Promise, ...]:
        """All promises of the program."""
        return promises(self.program)

    def of_waiting(self, state: State, wanted: Container[str] | None = None) -> dict[str, Truth]:
        """The promises about the guest whose VMCS is the current one, while it waits to be entered."""
        return self._holding(state, self.entered(state), wanted)

    def of_running(self, state: State, wanted: Container[str] | None = None) -> dict[str, Truth]:
        """The promises about the guest that runs."""
        return self._holding(self.saved(state), state, wanted)

    def entered(self, state: State) -> State:
        """The state once the current guest has been entered."""
        cursor = Cursor(state.copy(), {})
        self._call(ENTER, cursor, (THIS_CPU, cursor.state.get(CURRENT)))
        self._call(LOAD, cursor)
        cursor.state.set(mode_of(self.program), value=True)
        return cursor.state

    def saved(self, state: State) -> State:
        """The state once a VM exit has saved the guest's; for which reason does not matter to any rule."""
        cursor, event = Cursor(state.copy(), {}), zero(self.program.aborts[VM_EXIT].type)
        self._call(RECORD, cursor, (event,))
        self._call(SAVE, cursor, (event,))
        return cursor.state

    def ask(self, function: str, state: State, *arguments: object) -> Truth:
        """What a function of the specification says of a state."""
        return cast(Truth, self._call(function, Cursor(state.copy(), {}), arguments))

    def _call(self, name: str, cursor: Cursor, arguments: tuple[object, ...] = ()) -> object:
        return self.evaluator.call(self.program.functions[name], cast(tuple[Truth], arguments), cursor, [])

    def _holding(self, waiting: State, running: State, wanted: Container[str] | None) -> dict[str, Truth]:
        return {
            one.name: self._holds(one, running if one.is_policy else waiting)
            for one in self.every
            if wanted is None or one.name in wanted
        }

    def _holds(self, promise: Promise, state: State) -> Truth:
        predicate = promise.predicate
        bindings = {p.name: fresh(self.terms, p.name, p.type) for p in predicate.parameters}
        return cast(Truth, self.evaluator.pure(predicate.condition, state, **bindings))


# --- what a promise depends on -------------------------------------------------------------------


class Dependencies:
    """What each promise of a program depends on, found from the text: it may name too much, never too little."""

    def __init__(self, program: ir.Program) -> None:
        self._program = program
        self.every = promises(program)

    @cached_property
    def _entry(self) -> dict[str, frozenset[str]]:
        return _influences(self._program, (ENTER, LOAD))

    @cached_property
    def _exit(self) -> dict[str, frozenset[str]]:
        return _influences(self._program, (RECORD, SAVE))

    def at_waiting(self, changed: frozenset[str]) -> tuple[Promise, ...]:
        """The promises about a guest that waits that a change of that state may break."""
        return tuple(p for p in self.every if not changed.isdisjoint(self._read(p, p.is_policy, self._entry)))

    def at_running(self, changed: frozenset[str]) -> tuple[Promise, ...]:
        """The promises about a guest that runs that a change of that state may break."""
        return tuple(
            p for p in self.every if not changed.isdisjoint(self._read(p, not p.is_policy, self._exit))
        )

    def _read(self, promise: Promise, is_behind: bool, influences: dict[str, frozenset[str]]) -> frozenset[str]:
        read = state_read(self._program, promise.predicate.condition)
        return read.union(*(influences.get(name, frozenset()) for name in read)) if is_behind else read


def _influences(program: ir.Program, functions: tuple[str, ...]) -> dict[str, frozenset[str]]:
    """For each item that functions write, the state that may decide on its value then."""
    found: dict[str, frozenset[str]] = {}
    for name in functions:
        for item, read in _influences_in(program, name).items():
            found[item] = found.get(item, frozenset()) | read
    return found


def _influences_in(program: ir.Program, function: str) -> dict[str, frozenset[str]]:
    """The same for one function. What conditions, locals and arguments are made from counts for all that it writes."""
    root = program.functions[function].body
    below = list(nodes((root, *(f.body for f in reachable_functions(program, [root])))))
    decisive = [n.condition for n in below if isinstance(n, ir.If)]
    decisive += [n.value for n in below if isinstance(n, ir.SetLocal)]
    decisive += [argument for n in below if isinstance(n, ir.Call) for argument in n.arguments]
    common = frozenset[str]().union(*(state_read(program, one) for one in decisive))
    found: dict[str, frozenset[str]] = {}
    for node in below:
        if isinstance(node, ir.WriteState):
            found[node.name] = found.get(node.name, common) | state_read(program, node.value)
    return found
