"""Shows, where it can, that a surviving mutant does what the original does.

The versions are compared where the fault is, on arbitrary arguments; a step under the invariant, an instruction under
the VMM's policy. A step that does the same in fewer states does no harm: what it refuses nobody can exploit. Nor does
an instruction that merely reports something else when it exits, or exits in other states: the theorems hold of what it
does where it does not exit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import z3

from checks.isolation.instances import Instances
from checks.isolation.patterns import find_patterns
from checks.isolation.world import MEMORY, World, take_step
from checks.mutate.outcomes import Difference, Outcome, compare, outcome, same_state
from checks.mutate.places import KEYS, Mutant
from checks.mutate.scope import is_of_msr_areas
from checks.mutate.tables import RULES, Item, items_named
from checks.mutate.trial import Trial
from checks.mutate.weave import CANNOT_BUILD, Weaver
from checks.symbolic.evaluate import Evaluator
from checks.symbolic.memory import ByteMemory, UnalignedAccessError
from checks.symbolic.paths import RETURN, Cursor, Exit
from checks.symbolic.state import State, Surroundings
from checks.symbolic.terms import AbstractTerms, Terms, Truth
from checks.symbolic.values import fresh
from checks.theorem import Goal, Group
from checks.trap.contract import LOADS, STORES, VM_EXIT
from checks.trap.forms import Form, forms_by_instruction
from checks.trap.operands import OperandSymbols, SymbolicOperands
from checks.trap.ownership import Ownership
from checks.trap.runs import Run, Settings
from checks.walk import nodes, reachable_functions
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

_BY_THEMSELVES = ("functions", "policies", "invariants", RULES)
"""The tables whose items are values of arbitrary states and arguments."""

MOST_FUNCTIONS = 8
"""A function is compared by itself only if it is made from no more."""

Numbered: TypeAlias = Mapping[int, Mutant]
"""Mutants by number, all of which are woven into one program."""


def same_alone(program: ir.Program, weaver: Weaver, some: Numbered) -> frozenset[int]:
    """Of some mutants of one function, policy, invariant or handler: those proved to do what the original does."""
    some = _comparable(program, some)
    mutant = next(iter(some.values()), None)
    if mutant is None:
        return frozenset()
    try:
        return _same_alone(program, weaver.woven(some), mutant, frozenset(some))
    except CANNOT_BUILD:
        return frozenset()


def reasons(program: ir.Program, weaver: Weaver, subject: str, some: Numbered) -> dict[int, str]:
    """Why mutants are no worse than the original in a step, or in a block of instructions, as far as was found."""
    some = _comparable(program, some)
    woven = weaver.woven(some)
    block = [name for name, one in program.instructions.items() if (one.family or name) == subject]
    try:
        if subject in program.steps:
            return _compare_steps(program, woven, subject, frozenset(some))
        return _compare_forms(program, woven, block, frozenset(some)) if block else {}
    except CANNOT_BUILD:
        return {}


def _comparable(program: ir.Program, some: Numbered) -> Numbered:
    """Those whose place does no more than change state: what is said to the machine around the specification, and what
    caches remember and forget, is not compared.
    """
    return {n: mutant for n, mutant in some.items() if not has_other_effects(program, mutant)}


def has_other_effects(program: ir.Program, mutant: Mutant) -> bool:
    """Whether a statement in which the mutant is has an output, or forgets something, by itself or in what it calls; or
    the mutant is in what results are remembered by.
    """
    if mutant.path[:1] == (KEYS,):
        return True
    named = items_named(program, mutant.kind, mutant.name)
    statements = [n for n in nodes(tuple(named.values())) if isinstance(n, ir.Stmt) and n.span == mutant.span]
    called = reachable_functions(program, statements)
    bodies = (*statements, *(function.body for function in called))
    return any(isinstance(node, ir.Output | ir.Forget) for body in bodies for node in nodes(body))


def weakest(found: Iterable[str]) -> str:
    """The reason that holds of everything, from one for each."""
    return max(found, key=_ORDER.index, default="")


def in_which(
    terms: Terms, assumptions: Iterable[Truth], conclusions: Sequence[Truth], numbers: frozenset[int]
) -> frozenset[int]:
    """The mutants in which the solver finds the conclusions to follow."""
    if not numbers:
        return numbers
    context = terms.context
    conditions = tuple(terms.truth(one) for one in assumptions)
    goal = Goal("same", terms.truth(terms.conjunction(conclusions)), conditions)
    trial = Trial(Group("same", context, (goal,)), set(numbers))
    for _ in trial.refuted():
        pass  # who refutes it is alive no more
    return frozenset() if trial.unsure else frozenset(trial.alive)


# --- functions, policies and invariants by themselves --------------------------------------------


def _same_alone(
    program: ir.Program, woven: ir.Program, mutant: Mutant, numbers: frozenset[int]
) -> frozenset[int]:
    """Those in which all instances of a function, or a predicate, have the same outcome as before."""
    before, after = _items(program, mutant), _items(woven, mutant)
    if not before:
        return frozenset()
    for name in before:
        numbers = _same_one(program, woven, (before[name], after[name]), numbers)
    return numbers


def _items(program: ir.Program, mutant: Mutant) -> Mapping[str, Item]:
    """What can be compared by itself; handlers are functions too."""
    if mutant.kind == "handlers":
        return {mutant.name: replace(program.functions[f"handle_{mutant.name}"], source=mutant.name)}
    return items_named(program, mutant.kind, mutant.name) if mutant.kind in _BY_THEMSELVES else {}


def _same_one(
    program: ir.Program, woven: ir.Program, versions: tuple[object, object], numbers: frozenset[int]
) -> frozenset[int]:
    boundary = frozenset(LOADS) | frozenset(STORES)
    below = reachable_functions(program, versions, frozenset())
    if len(below) > MOST_FUNCTIONS or any(f.source in boundary or is_of_msr_areas(f) for f in below):
        return frozenset()
    for memory in (_words, _bytes):
        world = World(program, z3.Context())
        start = memory(world)
        try:
            ends = [
                _alone(p, world.terms, start, one) for p, one in zip((program, woven), versions, strict=True)
            ]
        except UnalignedAccessError:
            continue
        return _same(world.terms, [], compare(world.terms, *ends), numbers)
    return frozenset()


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


def _same(
    terms: Terms, assumptions: Sequence[Truth], found: Difference, numbers: frozenset[int]
) -> frozenset[int]:
    return in_which(terms, assumptions, (found.same_end, found.same_values, found.same_states), numbers)


# --- steps ---------------------------------------------------------------------------------------


def _compare_steps(
    program: ir.Program, woven: ir.Program, step: str, numbers: frozenset[int]
) -> dict[int, str]:
    context = z3.Context()
    world, other = World(program, context), World(woven, context)
    first, second = take_step(world, program.steps[step]), take_step(other, woven.steps[step])
    instances = Instances(world, find_patterns(program))
    assumed = list(instances.at((first.seen, second.seen), list(first.arguments.items())))
    terms = world.terms
    old, new = (terms.conjunction(run.requirements) for run in (first, second))
    same = same_state(terms, first.after, second.after)
    stricter = in_which(terms, [*assumed, new], [old, same], numbers)
    equal = in_which(terms, [*assumed, old], [new], stricter)
    return {n: SAME_IN_STEPS if n in equal else STRICTER for n in stricter}


# --- instructions --------------------------------------------------------------------------------


def _compare_forms(
    program: ir.Program, woven: ir.Program, names: Sequence[str], numbers: frozenset[int]
) -> dict[int, str]:
    """Compares all forms of some instructions, in VMX non-root operation under the policy, and outside of it."""
    found = dict.fromkeys(numbers, SAME_UNDER_POLICY)
    for old, new in _forms(program, woven, names):
        here = _compare_form(program, woven, (old, new), frozenset(found))
        found = {n: weakest((found[n], reason)) for n, reason in here.items()}
        if not found:
            break
    return found


def _forms(program: ir.Program, woven: ir.Program, names: Sequence[str]) -> Iterator[tuple[Form, Form]]:
    kept = {name: program.instructions[name] for name in names}
    for name, forms in forms_by_instruction(replace(program, instructions=kept)).items():
        other = woven.instructions[name]
        for form in forms:
            yield form, replace(form, instruction=other, body=other.body(form.body.widths))


def _compare_form(
    program: ir.Program, woven: ir.Program, forms: tuple[Form, Form], numbers: frozenset[int]
) -> dict[int, str]:
    settings = Settings.create(Ownership(program), AbstractTerms(z3.Context()))
    terms = settings.terms
    symbols = OperandSymbols.of(settings, forms[0])
    assumed = [*symbols.hypotheses(), *(condition for _, condition in settings.promises())]
    versions = tuple(zip((program, woven), forms, strict=True))
    (first, second), (bare, other) = (
        [_instruction(p, settings, symbols, form, start) for p, form in versions]
        for start in (settings.first, settings.bare)
    )
    assumed += [*_instances(settings, first), *_instances(settings, second)]
    in_guest, outside = compare(terms, first[1], second[1]), compare(terms, bare[1], other[1])
    in_guests = _same(terms, assumed, in_guest, numbers)
    everywhere = _same(terms, assumed, outside, in_guests)
    reports = in_which(terms, assumed, (in_guest.same_end, in_guest.same_states), numbers - in_guests)
    stays = [terms.negation(ends[VM_EXIT].condition) for _, ends in (first, second) if VM_EXIT in ends]
    exits = _same(terms, [*assumed, *stays], in_guest, numbers - in_guests - reports)
    return {
        **dict.fromkeys(exits, EXITS),
        **dict.fromkeys(reports, INFORMATION),
        **dict.fromkeys(in_guests, SAME_IN_GUESTS),
        **dict.fromkeys(everywhere, SAME_UNDER_POLICY),
    }


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
