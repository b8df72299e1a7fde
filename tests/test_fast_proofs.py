"""The family `fast`: handlers are proved, wrong ones refuted, and counterexamples replay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import wrong_handlers as wrong
import z3
from broken_specification import refuted_case

from checks.case import parse_case
from checks.fast import lemmas
from checks.fast.family import FastFamily
from checks.fast.words import Paths, Word
from checks.fuzz.compare import Comparison
from checks.fuzz.engines import FastEngine
from checks.solve import GroupRunner, Limits
from checks.symbolic.terms import Terms
from checks.theorem import Goal, Group, Result, Status
from fastmodel import backends, decoder, loop, routines
from fastmodel.handlers import HANDLERS, Handler, moves
from refmodel.model import Model


def prove(model: Model, goal: str, handlers: Sequence[Handler] = HANDLERS) -> Result:
    """The verdict on one goal."""
    family = FastFamily(handlers=handlers)
    name = next(o.group for o in family.outlines(model.program) if goal in o.ids)
    group = family.build(model.program, name, z3.Context(), frozenset({goal}))
    chosen = replace(group, goals=tuple(one for one in group.goals if one.id == goal))
    [result] = GroupRunner(chosen, Limits()).run()
    return result


def test_every_handler_has_a_theorem(model: Model) -> None:
    prepared = FastFamily()._of(model.program)
    handled = {one.handler.name for forms in prepared.forms.values() for one in forms}
    assert handled == {handler.name for handler in HANDLERS}
    names = [one.name for forms in prepared.forms.values() for one in forms]
    assert len(names) == len({*names})


@pytest.mark.parametrize(
    "goal",
    [
        "address",
        "flags",
        "registers",
        "ADC/m32,r32",
        "CMP/r8,imm8",
        "XCHG/m64,r64",
        "SHL/r64,cl",
        "CMOVLE/r32,m32",
        "POPFQ/rsp",
        "CALL/m64",
        "DIV/r64",
        "IMUL/m16",
        "SCAS/al,m8",
        "paging.rights",
        "paging.walk",
        "RET/rsp",
    ],
)
def test_handlers_are_proved(model: Model, goal: str) -> None:
    assert prove(model, f"fast.{goal}").status is Status.PROVED


def with_fault(instruction: str, fault: Callable[..., int]) -> list[Handler]:
    """The handlers, with another operation, or another function, for one instruction."""

    def changed(handler: Handler) -> Handler:
        if handler.instruction != instruction:
            return handler
        bindings = dict(handler.bindings)
        if "OPERATION" not in bindings:
            return replace(handler, function=fault)
        return replace(handler, bindings=tuple(sorted((bindings | {"OPERATION": fault}).items())))

    return [changed(handler) for handler in HANDLERS]


FAULTS = [
    ("ADD", wrong.add_without_auxiliary_carry, "fast.ADD/r32,r32"),
    ("ADD", wrong.add_without_auxiliary_carry, "fast.ADD/r8,m8"),
    ("SBB", wrong.subtract_without_borrow, "fast.SBB/r64,r64"),
    ("INC", wrong.increment_with_carry, "fast.INC/r16"),
    ("AND", wrong.logical_and_keeping_carry, "fast.AND/m32,imm32"),
    ("SHL", wrong.shift_left_by_63_at_most, "fast.SHL/r32,cl"),
    ("MOVSX", wrong.zero_extended, "fast.MOVSX/r64,r8"),
    ("LEA", wrong.load_address_keeping_high_half, "fast.LEA/r32,m"),
    ("CMOV{cc}", wrong.move_if_without_zero_extension, "fast.CMOVE/r32,r32"),
    ("SET{cc}", wrong.set_if_not, "fast.SETG/r8"),
    ("PUSH", wrong.push_changing_top_first, "fast.PUSH/r64"),
    ("POPFQ", wrong.pop_flags_keeping_direction, "fast.POPFQ/rsp"),
    ("RET", wrong.return_anywhere, "fast.RET/rsp"),
    ("CALL", wrong.call_pushing_this_address, "fast.CALL/rel64"),
]


@pytest.mark.parametrize(("instruction", "fault", "goal"), FAULTS)
def test_faults_are_refuted(model: Model, instruction: str, fault: Callable[..., int], goal: str) -> None:
    result = prove(model, goal, with_fault(instruction, fault))
    assert result.status is Status.REFUTED
    assert result.counterexample is not None


@pytest.mark.parametrize("number", [0, 2, 4, 6, 8])
def test_counterexamples_replay(model: Model, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The case of a refuted handler shows the difference on the engine that has this handler, and on no other."""
    instruction, fault, goal = FAULTS[number]
    handlers = with_fault(instruction, fault)
    result = prove(model, goal, handlers)
    assert result.counterexample is not None
    assert result.counterexample.case is not None
    case = parse_case(result.counterexample.case)
    assert Comparison(model, lambda m: FastEngine(m, "python")).run(case) is None
    monkeypatch.setattr(routines, "HANDLERS", handlers)
    backend = backends.PlainBackend()
    monkeypatch.setattr(backends, "choose", lambda _name: backend)
    assert Comparison(model, lambda m: FastEngine(m, "python")).run(case) is not None


@pytest.mark.parametrize(
    ("goal", "name", "places", "fault"),
    [
        ("address", "effective_address", (lemmas, moves), wrong.address_of_scales_up_to_two),
        ("registers", "register_operand", (decoder,), wrong.register_operand_with_another_rex_bit),
        ("flags", "set_status_flags", (lemmas, loop), wrong.set_flags_of_another_parity),
    ],
)
def test_counterexamples_of_lemmas_replay(
    model: Model,
    goal: str,
    name: str,
    places: tuple[ModuleType, ...],
    fault: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An instruction shows what is wrong with a text that all handlers rest on."""
    for place in places:
        monkeypatch.setattr(place, name, fault)
    case = refuted_case(prove(model, f"fast.{goal}"))
    backend = backends.PlainBackend()
    monkeypatch.setattr(backends, "choose", lambda _name: backend)
    assert Comparison(model, lambda m: FastEngine(m, "python")).run(case) is not None


def test_a_contradiction_is_vacuous(model: Model) -> None:
    family = FastFamily()
    list(family.outlines(model.program))
    group = family.build(model.program, "fast.NOP", z3.Context())
    never: Any = z3.BoolVal(False, group.context)
    goal: Goal = group.goals[0]
    vacuous = Group(group.name, group.context, (goal,), (*group.hypotheses, never))
    [result] = GroupRunner(vacuous, Limits()).run()
    assert result.status is Status.VACUOUS


def test_paths_cover_everything() -> None:
    """Conditions that are made anew on every path, and their negations, are decided each by itself."""
    terms = Terms(z3.Context())
    paths = Paths(terms)
    bits: list[Any] = [(Word(paths, terms.symbol("x", 64)) >> n) & 1 for n in range(6)]  # type: ignore[operator]

    def act() -> int:
        return sum(1 << n for n in range(6) if (bits[n] == 1 if n % 2 else bits[n] != 0))

    explored = list(paths.explore(act))
    assert sorted(result for _, result in explored) == list(range(64))
    solver = z3.SimpleSolver(ctx=terms.context)
    solver.add(terms.truth(terms.negation(terms.disjunction(condition for condition, _ in explored))))
    assert solver.check() == z3.unsat
