"""Every conjunct of the invariant and every lemma about walks is refuted by a fault, and the counterexample replays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
import z3

import grammar
from checks import function_case
from checks.case import Case, parse_case
from checks.gallery.bugs import Bug, Patch, with_bug
from checks.isolation import Isolation
from checks.isolation import replay as isolation_replay
from checks.isolation.steps import HANDED_OVER_ZERO, OTHERS_UNCHANGED
from checks.solve import GroupRunner, Limits
from checks.theorem import Result, Status
from grammar import ir
from refmodel.model import Model, build

PROGRAM = grammar.load()
FAMILY = Isolation()
NEVER = ir.Literal(ir.Bits(64), (1 << 64) - 1)
REPLAY = {"isolation": isolation_replay.replay, function_case.KIND: function_case.replay}

# What is refuted of a step that requires nothing, and notes times that have not come.
OF_STEPS = {
    "adopt": (
        "cached_context_is_own",
        "cached_frame_is_own",
        "claimed_frame_is_own",
        "context_entry_is_own",
        "device_translation_is_own",
        "device_walk_is_at_own_table",
        "entry_points_to_own_table",
        "leaf_maps_own_frame",
        "remapping_tables_are_in_place",
        "reverse_map_names_own_table",
        "root_is_own_table",
        "the_vmms_frames_stay_its_own",
        "unused_frames_are_the_vmms",
        "used_frames_are_memory",
        "walk_is_at_own_table",
    ),
    "assign": ("used_frames_are_a_guests", HANDED_OVER_ZERO),
    "scrub": ("clean_frames_are_zero", OTHERS_UNCHANGED),
    "kill": ("the_vmm_is_no_guest", "requests_are_remapped", "kills_are_past"),
    "invalidate": ("running_guest_is_alive", "time_has_not_ended", "invalidations_are_past"),
    "tlb_fill": ("translations_are_past",),
    "walk_root": ("walks_are_past",),
    "open_domain": ("device_is_listed", "domain_is_own", "domain_has_owner"),
    "assign_device": ("list_holds_devices", "vector_is_own"),
    "invalidate_context": ("device_invalidations_are_past",),
    "invalidate_domain": ("domain_invalidations_are_past",),
    "allow_interrupt": ("cached_interrupt_is_own", "interrupt_entry_is_own"),
}


def refuted(program: ir.Program, subject: str, goals: tuple[str, ...] = ()) -> Iterator[Result]:
    """The verdicts on some goals of a group, or all, without showing that their assumptions are possible."""
    group = FAMILY.build(program, f"isolation.{subject}", z3.Context())
    runner = GroupRunner(group, Limits())
    for goal in group.goals:
        if not goals or goal.id.rsplit(".", 1)[-1] in goals:
            yield runner.prove(replace(goal, witnesses=()))


def case_of(result: Result) -> Case:
    assert (result.id, result.status) == (result.id, Status.REFUTED)
    assert result.counterexample is not None
    return parse_case(json.loads(json.dumps(result.counterexample.case)))


def is_confirmed(result: Result, model: Model) -> bool:
    case = case_of(result)
    return REPLAY[case.kind](case, model) == 0


# --- steps ---


def careless(step: ir.Step) -> tuple[ir.Stmt, ...]:
    """The body of a step that requires nothing, and notes times that have not come."""
    kept = (s for s in step.body if not (isinstance(s, ir.If) and s.clause == "require"))
    return tuple(replace(s, value=NEVER) if is_time(s) else s for s in kept)


def is_time(statement: ir.Stmt) -> bool:
    return isinstance(statement, ir.WriteState) and (
        statement.name.endswith("_AT") or statement.name in ("TLB", "WALK")
    )


@pytest.fixture(scope="module")
def broken() -> ir.Program:
    steps = {name: replace(step, body=careless(step)) for name, step in PROGRAM.steps.items()}
    bodies = {name: replace(PROGRAM.functions[name], body=step.body) for name, step in steps.items()}
    return replace(PROGRAM, steps=steps, functions={**PROGRAM.functions, **bodies})


@pytest.fixture(scope="module")
def broken_model(broken: ir.Program) -> Model:
    return build(replace(broken, instructions={}))


def test_all_conjuncts_are_among_them() -> None:
    found = [goal for goals in OF_STEPS.values() for goal in goals]
    assert sorted(found) == sorted([*PROGRAM.invariants, OTHERS_UNCHANGED, HANDED_OVER_ZERO])


@pytest.mark.parametrize("step", OF_STEPS)
def test_a_careless_step_is_refuted_and_the_reference_shows_it(
    broken: ir.Program, broken_model: Model, step: str
) -> None:
    found = list(refuted(broken, step, OF_STEPS[step]))
    assert len(found) == len(OF_STEPS[step])
    assert [one.id for one in found if not is_confirmed(one, broken_model)] == []


# --- walks ---


@pytest.mark.parametrize("subject", ["walk", "device_walk"])
def test_without_the_invariant_lemmas_are_refuted_and_the_reference_shows_it(
    model: Model, subject: str
) -> None:
    true = ir.Literal(ir.BOOL, 1)
    invariants = {name: replace(one, condition=true) for name, one in PROGRAM.invariants.items()}
    found = list(refuted(replace(PROGRAM, invariants=invariants), subject))
    assert [one.id for one in found if not is_confirmed(one, model)] == []


def test_translations_that_go_astray_are_refuted_and_the_reference_shows_it() -> None:
    """The offset is lost, another bit of an entry is set, a device's walk ends too early."""
    patches = (
        Patch("vmx/ept.isa", "  return place\n", "  return (place as bits(64) & ~0xFF8) as host_physical\n"),
        Patch("vmx/ept.isa", "entry with { ACCESSED: true", "entry with { SUPPRESS_VE: true, ACCESSED: true"),
        Patch(
            "vtd/remapping.isa",
            "zero_extend(frame ++ address[11..0], 64)",
            "zero_extend(frame ++ address[23..12], 64)",
        ),
    )
    program = with_bug(Bug("", "", "", "", "", patches), None)
    broken = build(replace(program, instructions={}))
    found = [
        *refuted(program, "ept_translate", ("keeps_offset", "marks_own_tables")),
        *refuted(program, "dma_translate", ("keeps_offset",)),
    ]
    assert len(found) == 3
    assert [one.id for one in found if not is_confirmed(one, broken)] == []
