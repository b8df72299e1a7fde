"""Replays a counterexample about a step, or about what a walk or a cache leads to, on the reference model.

Where the step or the claim is about caches, the reference is made once more from the specification, with what exists
for proofs only as state: what the hardware caches, and its steps.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from checks.case import Case, apply, get_item
from checks.isolation.claims import THERE_IS
from checks.isolation.steps import HANDED_OVER_ZERO, IS_TAKEN, OTHERS_UNCHANGED, owner_of_actor
from checks.outcome import EXCLUDED
from grammar import ir
from refmodel.memory import EndlessMemory
from refmodel.model import Model, build
from refmodel.vectors import CaseError

_CALL = re.compile(r"(\w+)\(([\d, ]*)\)")
_Call: TypeAlias = tuple[str, list[int]]
_OF_STEPS = frozenset({OTHERS_UNCHANGED, HANDED_OVER_ZERO})
_FRAME = 4096
_MEMORY = 1 << 20


def replay(case: Case, model: Model) -> int:
    """Does what the case says in its state: 0 if its claim breaks, 1 otherwise.

    Raises CaseError if the case names no step and no theorem.
    """
    return 0 if _run(case, model).fails else 1


def outcome(case: Case, model: Model) -> str:
    """Whether the step is taken, or all predicates hold, where no claim breaks.  Raises CaseError."""
    run = _run(case, model)
    return EXCLUDED if run.fails else run.text


@dataclass(frozen=True, slots=True)
class _Run:
    """What was found: whether the claim breaks, and what happened, in the words of a witness."""

    fails: bool
    text: str


def _run(case: Case, model: Model) -> _Run:
    calls = [
        (name, [int(n) for n in numbers.split(",") if n.strip()])
        for name, numbers in _CALL.findall(case.instruction)
    ]
    program = model.program
    if not calls or any(n not in {*program.functions, *program.invariants, *_OF_STEPS} for n, _ in calls):
        raise CaseError(f"not a case of a step or a predicate: {case.instruction!r}")
    if any(_is_ghost(program, name) for name in case.state):
        model = with_caches(program)
    machine = model.machine(EndlessMemory(_MEMORY))
    apply(case, machine, model)
    is_about_step = len(calls) == 2 and calls[0][0] in program.steps
    return _take(model, machine, *calls) if is_about_step else _ask(model, machine, calls)


def _take(model: Model, machine: Any, call: _Call, about: _Call) -> _Run:
    """Takes the step: whether the claim held before and does not after."""
    (step, arguments), (claim, point) = call, about
    asked = _Claim(model, machine, claim, point, _actor(model.program, machine, step, arguments))
    before = asked.look()
    taken = bool(model.functions[step](machine, *arguments))
    fails = taken and asked.fails(before)
    print(f"{step}({', '.join(map(hex, arguments))}) {'is taken' if taken else 'is refused'}")
    print(
        f"{claim}({', '.join(map(hex, point))}): {'holds before and not after' if fails else 'does not break'}"
    )
    return _Run(fails, IS_TAKEN if taken else "the step is refused")


def _ask(model: Model, machine: Any, calls: Sequence[_Call]) -> _Run:
    """Asks predicates: whether all hold but the last."""
    said = [bool(model.functions[name](machine, *point)) for name, point in calls]
    for (name, point), holds in zip(calls, said, strict=True):
        print(f"{name}({', '.join(map(hex, point))}) {'holds' if holds else 'does not hold'}")
    return _Run(all(said[:-1]) and not said[-1], THERE_IS if all(said) else "a condition does not hold")


def _is_ghost(program: ir.Program, item: str) -> bool:
    variable = program.state.get(item.split("[", maxsplit=1)[0])
    return variable is not None and variable.space == "ghost"


_known: list[tuple[ir.Program, Model]] = []
"""The latest reference that was made so: a run of many cases has one program."""


def with_caches(program: ir.Program) -> Model:
    """The reference, but for instructions, with what exists for proofs only as state of the machine."""
    if not _known or _known[0][0] is not program:
        _known[:] = [(program, build(_extended(program)))]
    return _known[0][1]


def _extended(program: ir.Program) -> ir.Program:
    state = {
        name: replace(one, space="state") if one.space == "ghost" else one
        for name, one in program.state.items()
    }
    return replace(program, state=state, instructions={})


def _actor(program: ir.Program, machine: Any, step: str, arguments: list[int]) -> int:
    """The guest for which the step acts."""
    owner = owner_of_actor(program.steps[step])
    if owner is None:
        return 0
    named: Mapping[str, int] = {
        p.name: value for p, value in zip(program.steps[step].parameters, arguments, strict=True)
    }
    return get_item(machine, program, f"{owner[0]}[{named[owner[1]]}]")


@dataclass(frozen=True, slots=True)
class _Claim:
    """A claim of a theorem at a point, about a step that acts for a guest."""

    model: Model
    machine: Any
    name: str
    point: list[int]
    actor: int

    def look(self) -> tuple[bool, int, int]:
        """Whether the claim's condition holds, and the word of memory and the owner of its frame."""
        if self.name not in _OF_STEPS:
            return self._holds(), 0, 0
        frame, index = self.point
        word = self.machine.PHYSICAL.read_64(frame * _FRAME + index * 8)
        is_others = bool(self.model.functions["is_data_of_others"](self.machine, self.actor, frame))
        return is_others, word, self.machine.FRAME_OWNER[frame]

    def fails(self, before: tuple[bool, int, int]) -> bool:
        """Whether the claim is broken now."""
        condition, word, owner = before
        if self.name not in _OF_STEPS:
            return condition and not self._holds()
        _, new_word, new_owner = self.look()
        if self.name == OTHERS_UNCHANGED:
            return condition and new_word != word
        return new_owner not in (0, owner) and new_word != 0

    def _holds(self) -> bool:
        if self.name not in self.model.program.invariants:
            raise CaseError(f"the specification has no invariant '{self.name}'")
        return bool(self.model.functions[f"invariant_{self.name}"](self.machine, *self.point))
