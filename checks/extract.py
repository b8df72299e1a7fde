"""Cuts out of a program the part that a group of theorems is made from.

A group is built from its extract and from nothing else: what the extract lacks cannot be used, so that the extract's
digest says whether the group has to be proved again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from checks.walk import reachable_functions
from grammar import ir


@dataclass(frozen=True, slots=True)
class Roots:
    """What a group starts from: names of instructions and steps, and of functions in the source.

    All state, memories and aborts belong to every extract, since the theorems are about all that the guest sees and
    the VMM owns; so do policies and invariants, which the theorems assume, unless `has_policies` or `has_invariants`
    is False. `rules` names groups of rules of VM entry; None is all of them.
    """

    instructions: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    functions: frozenset[str] = frozenset()
    has_policies: bool = True
    has_invariants: bool = True
    rules: frozenset[str] | None = None


class Extractor:
    """Cuts parts out of one program; what all of them are reached from is followed once."""

    def __init__(self, program: ir.Program) -> None:
        self._program = program
        self._shared: dict[tuple[bool, bool], frozenset[str]] = {}

    def of(self, roots: Roots | None) -> ir.Program:
        """The part that is reached from the roots; all of the program if they are not known."""
        if roots is None:
            return self._program
        shared = replace(
            self._program,
            instructions={},
            steps={},
            policies=self._program.policies if roots.has_policies else {},
            invariants=self._program.invariants if roots.has_invariants else {},
            handlers={},
            rules={n: g for n, g in self._program.rules.items() if roots.rules is None or n in roots.rules},
            undefined_encodings=(),
            missing={},
        )
        kept = replace(
            shared,
            instructions={name: self._program.instructions[name] for name in roots.instructions},
            steps={name: self._program.steps[name] for name in roots.steps},
        )
        functions = self._program.functions
        named = {name: f.body for name, f in functions.items() if f.source in roots.functions}
        known = self._known(shared, roots)
        own = (*_own_bodies(kept), *named.values())
        reached = known.union(named, (f.name for f in reachable_functions(kept, own, known=known)))
        return replace(kept, functions={name: f for name, f in functions.items() if name in reached})

    def _known(self, shared: ir.Program, roots: Roots) -> frozenset[str]:
        """The functions that are reached from what is in every extract with these policies and invariants."""
        at = roots.has_policies, roots.has_invariants
        if at not in self._shared:
            reached = reachable_functions(shared, _shared_bodies(shared))
            self._shared[at] = frozenset(f.name for f in reached)
        return self._shared[at]


def extract(program: ir.Program, roots: Roots | None) -> ir.Program:
    """The part of a program that is reached from the roots; all of it if they are not known."""
    return Extractor(program).of(roots)


def _shared_bodies(program: ir.Program) -> Iterator[object]:
    """Everything outside functions, instructions and steps that may call a function."""
    for variable in program.state.values():
        yield from (variable.owner, variable.view, variable.host)
    yield from (abort.guard for abort in program.aborts.values())
    yield from (one.condition for one in (*program.policies.values(), *program.invariants.values()))


def _own_bodies(program: ir.Program) -> Iterator[object]:
    yield from (instruction.bodies for instruction in program.instructions.values())
    yield from (step.body for step in program.steps.values())
