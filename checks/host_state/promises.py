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
