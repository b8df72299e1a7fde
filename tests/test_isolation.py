"""EPT isolation: proved for the specification, refuted once a check, an invalidation or a scrub is missing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import z3
from broken_specification import refuted_case

import grammar
from checks import function_case
from checks.case import parse_case
from checks.cli import main
from checks.gallery.bugs import Bug, Patch, with_bug
from checks.isolation import Isolation, open_translation_replay
from checks.isolation.open_translation import LANDS, READS, WRITES
from checks.isolation.replay import replay
from checks.solve import GroupRunner, Limits
from checks.theorem import Group, Result, Status
from grammar import ir
from refmodel.model import Model, build

PROGRAM = grammar.load()
FAMILY = Isolation()
ROOT = Path(__file__).resolve().parent.parent

# Checks whose loss does no harm to isolation, and why.
HARMLESS = {
    "FRAME_KIND[frame] == DATA or is_table(frame)": "reap: what a retired guest owns is data or a table anyway",
    "VM_STATE[FRAME_OWNER[table]] == LIVE": "allocate_table: a dying guest gets a table that it cannot use",
    "read_entry(table, index) as bits(64) == 0": "allocate_table: what the entry led to is lost to everyone",
    "not ept_is_present(entry_of(frame))": "disclaim: the entry is cleared in any case, so it unmaps as well",
    "allocate_context_table: not read_root(device).PRESENT": "the table would be new and empty",
    "assign_device: VM_STATE[vm] == LIVE": "a dying guest gets a device that reaches nothing",
    "enable_remapping: not GLOBAL_STATUS.TES and not GLOBAL_STATUS.IRES": "the tables would be new and empty",
    "enter_guest: RUNNING[cpu] == VMM": "the processor goes from one guest to another without the VMM",
}


def group_of(program: ir.Program, subject: str) -> Group:
    return FAMILY.build(program, f"isolation.{subject}", z3.Context())


def results(group: Group) -> Iterator[Result]:
    """The verdicts on a group, one by one."""
    return GroupRunner(group, Limits()).run()


def first_refuted(program: ir.Program, subject: str) -> str | None:
    """The name of the first goal that fails, with a counterexample; None if all are proved.

    If the goal is about a function, the reference confirms the counterexample.
    """
    group = group_of(program, subject)
    hasty = tuple(replace(goal, witnesses=(), minimise=None) for goal in group.goals)
    found = results(replace(group, goals=hasty))
    result = next((r for r in found if r.status is not Status.PROVED), None)
    if result is None:
        return None
    assert result.status is Status.REFUTED
    assert result.counterexample is not None
    assert result.counterexample.rows
    case = result.counterexample.case
    if case is not None and case["kind"] == function_case.KIND:
        broken = build(replace(program, instructions={}))
        assert function_case.replay(parse_case(json.loads(json.dumps(case))), broken) == 0
    return result.id.rsplit(".", 1)[-1]


def with_step(step: str, keep: Callable[[ir.Stmt], bool]) -> ir.Program:
    """The program with only some of the statements of a step."""
    old = PROGRAM.steps[step]
    new = replace(old, body=tuple(s for s in old.body if keep(s)))
    return replace(PROGRAM, steps={**PROGRAM.steps, step: new})


def without(step: str, dropped: ir.Stmt) -> ir.Program:
    """The program without a statement of a step."""
    return with_step(step, lambda statement: statement is not dropped)


def requirement(statement: ir.Stmt) -> str | None:
    """What a `require` clause says, None for other statements."""
    if not isinstance(statement, ir.If) or statement.clause != "require":
        return None
    line = (ROOT / statement.span.file).read_text().splitlines()[statement.span.line - 1]
    return line.strip().removeprefix("require").strip()


def test_all_of_it_holds(tmp_path: Path) -> None:
    """Without this no refutation below means anything.  What `nonroot prove` has proved before is not proved again."""
    report = tmp_path / "proofs.json"
    assert main(["prove", "isolation", "-j", "1", "--json", str(report)]) == 0
    found = {one["id"]: one["status"] for one in json.loads(report.read_text())["results"]}
    assert found == {one: "PROVED" for outline in FAMILY.outlines(PROGRAM) for one in outline.ids}


@pytest.mark.parametrize("step", list(PROGRAM.steps.values()), ids=lambda step: step.name)
def test_each_check_is_needed(step: ir.Step) -> None:
    for check in step.body:
        text = requirement(check)
        if text is None:
            continue
        refuted = first_refuted(without(step.name, check), step.name)
        harmless = text in HARMLESS or f"{step.name}: {text}" in HARMLESS
        assert (refuted is None) == harmless, f"{step.name}: {text}"


def test_invalidation_without_invept_is_refuted() -> None:
    program = with_step("invalidate", lambda s: not isinstance(s, ir.CallStatement))
    assert first_refuted(program, "invalidate") == "cached_frame_is_own"


def test_unmapping_that_is_not_noted_is_refuted() -> None:
    program = with_step("disclaim", lambda s: not (isinstance(s, ir.WriteState) and s.name == "UNMAPPED_AT"))
    assert first_refuted(program, "disclaim") == "cached_frame_is_own"


def test_scrub_that_does_not_write_is_refuted() -> None:
    program = with_step("scrub", lambda s: not isinstance(s, ir.WriteMemory))
    assert first_refuted(program, "scrub") == "clean_frames_are_zero"


def test_frame_handed_over_unscrubbed_is_refuted() -> None:
    program = with_step("assign", lambda s: requirement(s) != "FRAME_CLEAN[frame]")
    assert first_refuted(program, "assign") == "handed_over_zero"


def test_frame_adopted_beyond_the_end_of_memory_is_refuted() -> None:
    program = with_bug(
        Bug("", "", "", "", "", (Patch("vmm/frames.isa", " and frame < MEMORY_END", ""),)), None
    )
    assert first_refuted(program, "adopt") == "used_frames_are_memory"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            "bit(attempt.FETCH and not by_user) ++ attempt[1..0]",
            "bit(attempt.FETCH and not by_user) ++ attempt[1..0] & 1",
        ),
        ("rights := rights & ept_rights(entry)", "rights := ept_rights(entry)"),
        ("WRITE: access == WRITE or counts_as_write", "WRITE: access == WRITE"),
        ("let by_user = attempt.FETCH and attempt.USER", "let by_user = attempt.FETCH"),
    ],
    ids=["writes are not checked", "the leaf alone counts", "walks only read", "all fetches are the user's"],
)
def test_access_without_the_right_is_refuted(old: str, new: str) -> None:
    program = with_bug(Bug("", "", "", "", "", (Patch("vmx/ept.isa", old, new),)), None)
    assert (first_refuted(program, "ept_rights") or "").startswith("level")


def test_refusal_of_what_is_permitted_is_refuted() -> None:
    patch = Patch("vmx/ept.isa", "entry.MEMORY_TYPE in {2, 3, 7}", "entry.MEMORY_TYPE in {0, 2, 3, 7}")
    program = with_bug(Bug("", "", "", "", "", (patch,)), None)
    assert first_refuted(program, "ept_rights") == "refuses_nothing_else"


# --- devices ---


def only_calls_of_the_hardware_left_out(step: str) -> ir.Program:
    """The program whose step notes an invalidation that it does not make."""
    return with_step(step, lambda s: not isinstance(s, ir.CallStatement))


@pytest.mark.parametrize(
    ("step", "refuted"),
    [
        ("invalidate_domain", "device_translation_is_own"),
        ("invalidate_context", "cached_context_is_own"),
        ("invalidate_interrupt", "cached_interrupt_is_own"),
    ],
)
def test_invalidation_that_the_hardware_is_not_told_of_is_refuted(step: str, refuted: str) -> None:
    assert first_refuted(only_calls_of_the_hardware_left_out(step), step) == refuted


@pytest.mark.parametrize(
    ("step", "note", "refuted"),
    [
        ("release_device", "DEVICE_LEFT_AT", "device_translation_is_own"),
        ("close_domain", "DOMAIN_OWNER", "domain_has_owner"),
    ],
)
def test_change_that_is_not_noted_is_refuted(step: str, note: str, refuted: str) -> None:
    program = with_step(step, lambda s: not (isinstance(s, ir.WriteState) and s.name == note))
    assert first_refuted(program, step) == refuted


def test_context_entry_that_stays_is_refuted() -> None:
    """The device is said to be detached, and its entry is still there."""
    assert first_refuted(only_calls_of_the_hardware_left_out("detach"), "detach") == "context_entry_is_own"


def test_invalidation_without_draining_and_interrupts_of_any_source_are_refuted() -> None:
    """Requests under way count as cached; an entry that checks no source serves all devices."""
    patches = (
        Patch("vmm/devices.isa", "DRAIN_WRITES: true", "DRAIN_WRITES: false"),
        Patch("vmm/device_interrupts.isa", "VALIDATION: BY_SOURCE", "VALIDATION: ANY_SOURCE"),
    )
    program = with_bug(Bug("", "", "", "", "", patches), None)
    assert first_refuted(program, "invalidate_domain") == "device_translation_is_own"
    assert first_refuted(program, "allow_interrupt") == "interrupt_entry_is_own"


def returning(name: str, value: bool) -> ir.Program:
    """The program with a predicate that is always true, or always false."""
    function = PROGRAM.functions[name]
    body = (ir.Return(function.span, ir.Literal(ir.BOOL, int(value))),)
    return replace(PROGRAM, functions={**PROGRAM.functions, name: replace(function, body=body)})


def test_walk_that_ends_at_any_level_is_refuted() -> None:
    assert first_refuted(returning("maps_page", True), "dma_translate") == "lands_in_own_frame"


def test_remapping_without_source_check_is_refuted() -> None:
    program = returning("is_valid_source", True)
    assert first_refuted(program, "remap_interrupt") == "is_the_devices_own"
    assert first_refuted(program, "device_walk") == "interrupt_hit"


def test_invariant_that_nothing_satisfies_is_vacuous() -> None:
    never = replace(PROGRAM.invariants["time_has_not_ended"], condition=ir.Literal(ir.BOOL, 0))
    program = replace(PROGRAM, invariants={**PROGRAM.invariants, never.name: never})
    assert {r.status for r in results(group_of(program, "kill"))} == {Status.VACUOUS}


def test_write_outside_a_step_is_refuted() -> None:
    write = next(s for s in PROGRAM.steps["kill"].body if isinstance(s, ir.WriteState))
    stop = PROGRAM.functions["yield"]
    program = replace(
        PROGRAM, functions={**PROGRAM.functions, "yield": replace(stop, body=(*stop.body, write))}
    )
    assert first_refuted(program, "only_steps_write") == "VM_STATE"


def with_step_and_function(step: str, keep: Callable[[ir.Stmt], bool]) -> ir.Program:
    """The program with only some of the statements of a step, in the function that runs, too."""
    program = with_step(step, keep)
    broken = replace(PROGRAM.functions[step], body=program.steps[step].body)
    return replace(program, functions={**PROGRAM.functions, step: broken})


@pytest.mark.parametrize(
    ("step", "lost", "claims"),
    [
        # Pages given away that are still in the reverse map.
        ("release", "REVERSE_MAP", {"cached_frame_is_own"}),
        # Translations and walks that are used although they were invalidated, or lead to any frame.
        ("guest_store", "is_cached", {"others_unchanged"}),
        ("tlb_fill", "ept_is_leaf", {"cached_frame_is_own"}),
    ],
)
def test_counterexample_is_confirmed_by_the_reference(
    capsys: pytest.CaptureFixture[str], model: Model, step: str, lost: str, claims: set[str]
) -> None:
    check = next(s for s in PROGRAM.steps[step].body if lost in (requirement(s) or ""))
    program = with_step_and_function(step, lambda s: s is not check)
    broken = build(replace(program, instructions={}))  # which takes long, and they are not needed
    refuted = [r.counterexample for r in results(group_of(program, step)) if r.counterexample is not None]
    assert claims <= {c.summary.split()[0] for c in refuted}
    for one in (c for c in refuted if c.summary.split()[0] in claims):
        assert one.case is not None
        case = parse_case(json.loads(json.dumps(one.case)))
        assert replay(case, broken) == 0
        assert "holds before and not after" in capsys.readouterr().out
        assert replay(case, model) == 1
        assert "is refused" in capsys.readouterr().out


def test_access_without_translation_is_confirmed_by_the_reference(capsys: pytest.CaptureFixture[str]) -> None:
    """What the proof leaves open, the other translation, does what the counterexample says."""
    patches = (
        Patch(
            "cpu/paging.isa", "[locate_page_entry(place, READ, address), 64]", "[place as host_physical, 64]"
        ),
        Patch(
            "cpu/paging.isa", "[locate_page_entry(place, WRITE, address), 64]", "[place as host_physical, 64]"
        ),
        Patch("cpu/paging.isa", "return hpa[63..12]", "return gpa[63..12]"),
        Patch(
            "vtd/remapping.isa",
            "[dma_translate(device, aligned, WRITE), 64]",
            "[aligned as host_physical, 64]",
        ),
    )
    program = with_bug(Bug("", "", "", "", "", patches), None)
    broken = build(replace(program, instructions={}))
    refuted = [r for subject in ("translate", "dma_write") for r in results(group_of(program, subject))]
    assert [r.id.rsplit(".", 1)[-1] for r in refuted] == [READS, WRITES, LANDS, WRITES]
    for result in refuted:
        assert open_translation_replay.replay(refuted_case(result), broken) == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ("reads 0x", "writes 0x", "returns frame 0x"))


def test_lemma_that_fails_is_confirmed_by_the_reference(
    capsys: pytest.CaptureFixture[str], model: Model
) -> None:
    """Interrupts of any source: one through a cached entry need not be the device's own."""
    program = returning("is_valid_source", True)
    refuted = next(r for r in results(group_of(program, "device_walk")) if r.id.endswith("interrupt_hit"))
    assert refuted.counterexample is not None
    case = parse_case(json.loads(json.dumps(refuted.counterexample.case)))
    assert replay(case, build(replace(program, instructions={}))) == 0
    assert "is_vector_of" in capsys.readouterr().out
    assert replay(case, model) == 1
