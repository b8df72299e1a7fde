"""Shows, where it can, that a surviving mutant does what the original does.

The versions are compared where the fault is, on arbitrary arguments; a step under the invariant, an instruction under
the VMM's policy. A step that does the same in fewer states does no harm: what it refuses nobody can exploit. Nor does
an instruction that merely reports something else when it exits, or exits in other states: the theorems hold of what it
does where it does not exit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import z3

from checks.isolation.instances import Instances
from checks.isolation.patterns import find_patterns
from checks.isolation.world import MEMORY, World, take_step
from checks.mutate.outcomes import Difference, Outcome, compare, follows, outcome, same_state
from checks.mutate.places import Mutant, mutated, source_name
from checks.mutate.scope import is_of_msr_areas
from checks.symbolic.evaluate import Evaluator
from checks.symbolic.expressions import UnsupportedError
from checks.symbolic.memory import ByteMemory, UnalignedAccessError
from checks.symbolic.paths import RETURN, Cursor, Exit
from checks.symbolic.state import State, Surroundings
from checks.symbolic.terms import AbstractTerms, Terms, Truth
from checks.symbolic.values import fresh
from checks.trap.contract import LOADS, STORES, VM_EXIT
from checks.trap.forms import Form, forms_by_instruction
from checks.trap.operands import OperandSymbols, SymbolicOperands
from checks.trap.ownership import Ownership
from checks.trap.runs import Run, Settings
from checks.walk import reachable_functions
from grammar import ir

SAME = "proved to do the same"
SAME_IN_STEPS = "proved to do the same under the invariant"
SAME_UNDER_POLICY = "proved to do the same under the policy"
STRICTER = "proved to do the same in fewer states, and nothing in the others"
SAME_IN_GUESTS = "proved to do the same in every guest, under the policy"
INFORMATION = "proved to differ in what an exit reports only"
EXITS = "proved to do the same wherever neither exits; whether it exits is without harm to C, I and E"

EQUIVALENT = frozenset({SAME, SAME_IN_STEPS, SAME_UNDER_POLICY, SAME_IN_GUESTS})
"""The reasons that say that there is no difference; the others say why one does no harm."""

_ORDER = (SAME, SAME_IN_STEPS, SAME_UNDER_POLICY, SAME_IN_GUESTS, STRICTER, INFORMATION, EXITS, "")

_CANNOT_COMPARE = (UnsupportedError, UnalignedAccessError, KeyError, StopIteration, z3.Z3Exception)

MOST_FUNCTIONS = 8
"""A function is compared by itself only if it is made from no more."""

MOST_GROUPS = 3
"""Instructions and steps that use a changed function are compared one by one only if they are so few groups."""


def is_same_alone(program: ir.Program, mutant: Mutant) -> bool:
    """Whether a function, policy or invariant is proved to do by itself what it did before."""
    if mutant.kind not in ("functions", "policies", "invariants"):
        return False
    try:
        return _same_alone(program, mutated(program, mutant), mutant)
    except _CANNOT_COMPARE:
        return False


def reason(program: ir.Program, mutant: Mutant, groups: Sequence[str]) -> str:
    """Why a mutant is no worse than the original, one of the reasons above; empty if none was found.

    `groups` are those in whose terms it is.
    """
    if is_same_alone(program, mutant):
        return SAME
    subjects = [group.split(".", 1) for group in groups if group.startswith(("isolation.", "trap."))]
    if len(subjects) > MOST_GROUPS:
        return ""
    changed = mutated(program, mutant)
    try:
        found = [_reason_of(program, changed, subject) for _, subject in subjects]
    except _CANNOT_COMPARE:
        return ""
    return max(found, key=_ORDER.index, default="")


def _reason_of(program: ir.Program, changed: ir.Program, subject: str) -> str:
    """What is proved of a step, or of a block of instructions."""
    if subject in program.steps:
        return _compare_steps(program, changed, subject)
    block = [name for name, one in program.instructions.items() if (one.family or name) == subject]
    return _compare_forms(program, changed, block) if block else ""


# --- functions, policies and invariants by themselves --------------------------------------------


def _same_alone(program: ir.Program, changed: ir.Program, mutant: Mutant) -> bool:
    """Whether all instances of a function, or a predicate, have the same outcome as before."""
    before, after = getattr(program, mutant.kind), getattr(changed, mutant.kind)
    names = [name for name, item in before.items() if source_name(item) == mutant.name]
    return all(_same_one(program, changed, (before[name], after[name])) for name in names)


def _same_one(program: ir.Program, changed: ir.Program, versions: tuple[object, object]) -> bool:
    boundary = frozenset(LOADS) | frozenset(STORES)
    below = reachable_functions(program, versions, frozenset())
    if len(below) > MOST_FUNCTIONS or any(f.source in boundary or is_of_msr_areas(f) for f in below):
        return False
    for memory in (_words, _bytes):
        world = World(program, z3.Context())
        start = memory(world)
        try:
            ends = [
                _alone(p, world.terms, start, one)
                for p, one in zip((program, changed), versions, strict=True)
            ]
        except UnalignedAccessError:
            continue
        return _is_same(world.terms, [], compare(world.terms, *ends))
    return False


def _words(world: World) -> State:
    return world.before


def _bytes(world: World) -> State:
    """The arbitrary state, with a memory of bytes."""
    old, terms = world.before.surroundings, world.terms
    function = terms.function("bytes", (64,), 8)
    memory = ByteMemory(terms, 64, lambda address: terms.apply(function, [terms.vector(address, 64)]))
    return State(Surroundings(old.program, terms, old.source, {MEMORY: memory}))


def _alone(program: ir.Program, terms: Terms, start: State, item: object) -> Outcome:
    evaluator, own = Evaluator(program, terms), list[Exit]()
    assert isinstance(item, (ir.Function, ir.Predicate))
    arguments = {p.name: fresh(terms, f"argument.{p.name}", p.type) for p in item.parameters}
    cursor = Cursor(start.copy(), {} if isinstance(item, ir.Function) else dict(arguments))
    if isinstance(item, ir.Predicate):
        return outcome(evaluator, cursor, own, (evaluator.evaluate(item.condition, cursor, own), ir.BOOL))
    value = evaluator.call(item, tuple(arguments.values()), cursor, own)
    result = (value, item.result) if item.result is not None and value is not None else None
    return outcome(evaluator, cursor, own, result)


def _is_same(terms: Terms, assumptions: Sequence[Truth], found: Difference) -> bool:
    return follows(terms, assumptions, (found.same_end, found.same_values, found.same_states))


# --- steps ---------------------------------------------------------------------------------------


def _compare_steps(program: ir.Program, changed: ir.Program, step: str) -> str:
    context = z3.Context()
    world, other = World(program, context), World(changed, context)
    patterns = find_patterns(program)
    first, second = take_step(world, program.steps[step]), take_step(other, changed.steps[step])
    instances = Instances(world, patterns)
    assumed = list(instances.at((first.seen, second.seen), list(first.arguments.items())))
    terms = world.terms
    old, new = (terms.conjunction(run.requirements) for run in (first, second))
    same = same_state(terms, first.after, second.after)
    if not follows(terms, [*assumed, new], [old, same]):
        return ""
    return SAME_IN_STEPS if follows(terms, [*assumed, old], [new]) else STRICTER


# --- instructions --------------------------------------------------------------------------------


def _compare_forms(program: ir.Program, changed: ir.Program, names: Sequence[str]) -> str:
    """Compares all forms of some instructions, in VMX non-root operation under the policy, and outside of it."""
    found = [_compare_form(program, changed, *pair) for pair in _forms(program, changed, names)]
    return max(found, key=_ORDER.index, default="")


def _forms(program: ir.Program, changed: ir.Program, names: Sequence[str]) -> Iterator[tuple[Form, Form]]:
    kept = {name: program.instructions[name] for name in names}
    for name, forms in forms_by_instruction(replace(program, instructions=kept)).items():
        other = changed.instructions[name]
        for form in forms:
            yield form, replace(form, instruction=other, body=other.body(form.body.widths))


def _compare_form(program: ir.Program, changed: ir.Program, old: Form, new: Form) -> str:
    settings = Settings.create(Ownership(program), AbstractTerms(z3.Context()))
    terms = settings.terms
    symbols = OperandSymbols.of(settings, old)
    assumed = [*symbols.hypotheses(), *(condition for _, condition in settings.promises())]
    versions = ((program, old), (changed, new))
    (first, second), (bare, other) = (
        [_instruction(p, settings, symbols, form, start) for p, form in versions]
        for start in (settings.first, settings.bare)
    )
    assumed += [*_instances(settings, first), *_instances(settings, second)]
    in_guest, outside = compare(terms, first[1], second[1]), compare(terms, bare[1], other[1])
    if _is_same(terms, assumed, in_guest):
        return SAME_UNDER_POLICY if _is_same(terms, assumed, outside) else SAME_IN_GUESTS
    if follows(terms, assumed, (in_guest.same_end, in_guest.same_states)):
        return INFORMATION
    stays = [terms.negation(ends[VM_EXIT].condition) for _, ends in (first, second) if VM_EXIT in ends]
    return EXITS if _is_same(terms, [*assumed, *stays], in_guest) else ""


def _instances(settings: Settings, ran: tuple[Evaluator, Outcome]) -> Iterator[Truth]:
    """The policies about values that an instruction used, such as the number of an MSR."""
    evaluator, start = ran[0], settings.first
    run = Run(evaluator, start, True, False, False, None, start, start, ())
    return (condition for _, condition in settings.instances(run))


def _instruction(
    program: ir.Program, settings: Settings, symbols: OperandSymbols, form: Form, start: State
) -> tuple[Evaluator, Outcome]:
    evaluator = Evaluator(program, settings.terms, overrides=settings.contract.overrides())
    evaluator.operands = SymbolicOperands(evaluator, symbols)
    cursor, exits = Cursor(start.copy(), {}), list[Exit]()
    evaluator.run(form.body.body, cursor, exits)
    cursor.leave(RETURN, None, None, exits)
    return evaluator, outcome(evaluator, cursor, exits, None)
