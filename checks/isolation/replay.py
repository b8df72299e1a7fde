"""Replays a counterexample of a step theorem on the reference model."""

from __future__ import annotations

import re
from typing import Any

from checks.case import Case, apply
from checks.isolation.steps import HANDED_OVER_ZERO, OTHERS_UNCHANGED
from refmodel.model import Model
from refmodel.vectors import CaseError

_CALL = re.compile(r"(\w+)\(([\d, ]*)\)")
_FRAME = 4096
_LEAST_MEMORY = 1 << 20


def replay(case: Case, model: Model) -> int:
    """Takes the step in the case's state: 0 if the claim held before and does not after, 1 otherwise.

    Raises CaseError if the case names no step or no theorem.
    """
    calls = [
        (name, [int(n) for n in numbers.split(",") if n.strip()])
        for name, numbers in _CALL.findall(case.instruction)
    ]
    if len(calls) != 2 or calls[0][0] not in model.program.steps:
        raise CaseError(f"not a case of a step: {case.instruction!r}")
    (step, arguments), (claim, point) = calls
    end = max((address for address, _ in case.memory), default=0) + _FRAME
    machine = model.machine(max(end, _LEAST_MEMORY))
    apply(case, machine, model)
    before = _snapshot(model, machine, claim, point)
    taken = bool(model.functions[step](machine, *arguments))
    fails = taken and _fails(model, machine, claim, point, before)
    print(f"{step}({', '.join(map(hex, arguments))}) {'is taken' if taken else 'is refused'}")
    print(
        f"{claim}({', '.join(map(hex, point))}): {'holds before and not after' if fails else 'does not break'}"
    )
    return 0 if fails else 1


def _snapshot(model: Model, machine: Any, claim: str, point: list[int]) -> tuple[bool, int, int]:
    """Whether the claim's condition holds, and the word of memory and the owner of its frame."""
    if claim not in (OTHERS_UNCHANGED, HANDED_OVER_ZERO):
        return _holds(model, machine, claim, point), 0, 0
    frame, index = point
    word = machine.PHYSICAL.read_64(frame * _FRAME + index * 8)
    return bool(model.functions["is_data_of_others"](machine, 0, frame)), word, machine.FRAME_OWNER[frame]


def _fails(model: Model, machine: Any, claim: str, point: list[int], before: tuple[bool, int, int]) -> bool:
    """Whether the claim is broken now."""
    condition, word, owner = before
    if claim not in (OTHERS_UNCHANGED, HANDED_OVER_ZERO):
        return condition and not _holds(model, machine, claim, point)
    _, new_word, new_owner = _snapshot(model, machine, claim, point)
    if claim == OTHERS_UNCHANGED:
        return condition and new_word != word
    return new_owner not in (0, owner) and new_word != 0


def _holds(model: Model, machine: Any, claim: str, point: list[int]) -> bool:
    if claim not in model.program.invariants:
        raise CaseError(f"the specification has no invariant '{claim}'")
    return bool(model.functions[f"invariant_{claim}"](machine, *point))
