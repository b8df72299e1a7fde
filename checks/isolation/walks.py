"""Theorems about translation: what a walk and the caches can reach is the guest's own.

The lemmas about one entry and one cached translation cover any number of processors walking at once. The other groups
tie them to what runs: `ept_translate` of the specification, all four levels of it, and `translate`, in which the
guest's page tables are arbitrary and each access goes through `ept_translate`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

from checks.isolation.explain import explain
from checks.isolation.instances import Instances
from checks.isolation.patterns import Patterns
from checks.isolation.world import FRAME_WIDTH, MEMORY, Sightings, World
from checks.symbolic.evaluate import Evaluator
from checks.symbolic.paths import Cursor, Exits
from checks.symbolic.terms import Truth, Vector
from checks.symbolic.values import Point, Value
from checks.theorem import Goal, Group, Witness
from grammar import ir

LEVELS = (4, 3, 2, 1)
EPT_TRANSLATE = "ept_translate"
ACCESSED_AND_DIRTY = 0x300

Proof = Callable[[World, Patterns, str], Group]


def lemmas(world: World, patterns: Patterns, name: str) -> Group:
    """One step of a walk at each level, where it starts, and a hit in the TLB."""
    before = world.before
    names = ("cpu", "vm", "table", "index", "offset")
    cpu, vm, table, index, offset = _symbols(world, "walk_finds_own", names)
    always: tuple[Value, Sightings] = (True, {})
    goals = [_lemma(world, patterns, f"{name}.root", always, ("starts_at_own_root", cpu), {"cpu": cpu})]
    for level in LEVELS:
        walking = world.look("is_walking", before, level, cpu, vm, table)
        values = {"cpu": cpu, "vm": vm, "table": table, "index": index, "offset": offset}
        claim = ("walk_finds_own", level, vm, table, index, offset)
        goals.append(_lemma(world, patterns, f"{name}.level{level}", walking, claim, values))
    cached = world.look("is_cached", before, cpu, vm, table)
    values = {"cpu": cpu, "vm": vm, "frame": table}
    goals.append(_lemma(world, patterns, f"{name}.tlb_hit", cached, ("is_data_of", vm, table), values))
    return Group(name, world.context, tuple(goals))


def _symbols(world: World, function: str, names: Sequence[str]) -> list[Value]:
    """Symbols with the names, and the types, of parameters of the function or of a step."""
    types = {p.name: p.type for step in world.program.steps.values() for p in step.parameters}
    types |= {p.name: p.type for p in world.program.functions[function].parameters}
    return [world.symbol(name, types[name]) for name in names]


def _lemma(
    world: World,
    patterns: Patterns,
    name: str,
    given: tuple[Value, Sightings],
    claim: tuple[str, *tuple[Value, ...]],
    values: dict[str, Value],
) -> Goal:
    """What the invariant makes of a condition: `claim` is a predicate of the spec and its arguments."""
    predicate, *arguments = claim
    condition, seen = cast(Truth, given[0]), given[1]
    conclusion, looked = world.look(predicate, world.before, *arguments)
    assumptions = [condition, *Instances(world, patterns).at((seen, looked), list(values.items()))]
    witness = Witness("there is such a translation", world.all_of(assumptions))
    where = world.program.functions[predicate].span
    told = explain(world, f"{predicate} can be false", where, values)
    return Goal(name, world.follows(assumptions, cast(Truth, conclusion)), witnesses=(witness,), explain=told)


def ept_translation(world: World, patterns: Patterns, name: str) -> Group:
    """`ept_translate` returns an address in a frame of the guest, and changes only flags in the guest's own tables."""
    before = world.before
    function = world.program.functions[EPT_TRANSLATE]
    arguments = tuple(world.symbol(p.name, p.type) for p in function.parameters)
    result, cursor, seen = _run(world, function, arguments)
    (cpu,) = _symbols(world, "runs_with_own_tables", ("cpu",))
    point = tuple(_symbols(world, "read_entry", ("table", "index")))
    vm = world.read(before, "RUNNING", cpu)
    running, running_seen = world.look("runs_with_own_tables", before, cpu)
    translated, _ = world.look("ept_enabled", before)
    is_own, own_seen = world.look("is_data_of", before, vm, _frame(world, result))
    is_table, table_seen = world.look("is_own_table", before, vm, point[0])
    marks = _unchanged_or(world, cursor, point, cast(Truth, is_table))
    given = [cast(Truth, t) for t in (running, translated, cursor.alive, *_policies(world))]
    named = [("offset", _frame(world, cast(Vector, arguments[0])))]
    instances = Instances(world, patterns)
    to_land = instances.at((_seen_without_marks(world, function, arguments), running_seen, own_seen), named)
    to_mark = instances.at((seen, running_seen, table_seen), named)
    conclusions = {
        "lands_in_own_frame": ([*given, *to_land], cast(Truth, is_own)),
        "keeps_offset": (given, _same_offset(world, result, cast(Vector, arguments[0]))),
        "marks_own_tables": ([*given, *to_mark], marks),
    }
    values = {"address": arguments[0], "cpu": cpu, "vm": vm, "table": point[0], "index": point[1]}
    return _group(world, name, function, conclusions, values)


def _policies(world: World) -> list[Value]:
    """What the VMM promises of the controls.  Parameters never occur in what it promises of EPT."""
    evaluator, policies = world.evaluator(), world.program.policies.values()
    return [evaluator.pure(policy.condition, world.before) for policy in policies if not policy.parameters]


def _run(world: World, function: ir.Function, arguments: Point) -> tuple[Vector, Cursor, Sightings]:
    """The result of a function, where control is after it, and what it looked at."""
    evaluator, cursor = world.evaluator(), Cursor(world.before.copy(), {})
    result = cast(Vector, evaluator.call(function, arguments, cursor, []))
    return result, cursor, world.sightings(evaluator.touched)


def _seen_without_marks(world: World, function: ir.Function, arguments: Point) -> Sightings:
    """What `ept_translate` looks at to find the address, before it marks the entries as used."""
    evaluator = world.evaluator()
    evaluator.overrides = {**world.overrides, "ept_mark_used": lambda *_: None}
    evaluator.call(function, arguments, Cursor(world.before.copy(), {}), [])
    return world.sightings(evaluator.touched)


def guest_translation(world: World, _patterns: Patterns, name: str) -> Group:
    """`translate`, with whatever page tables the guest has, reads, writes and returns frames of the guest only."""
    terms, before = world.terms, world.before
    vm, frame = _symbols(world, "is_data_of", ("vm", "frame"))
    (index,) = _symbols(world, "read_entry", ("index",))
    contract = _Contract()
    world.overrides[EPT_TRANSLATE] = contract.translate
    function = world.program.functions["translate"]
    arguments = tuple(world.symbol(p.name, p.type) for p in function.parameters)
    result, cursor, seen = _run(world, function, arguments)
    given = [cursor.alive, *(world.truth("is_data_of", before, vm, f) for f in contract.frames)]
    reads = terms.conjunction(world.truth("is_data_of", before, vm, f) for f, _ in seen[MEMORY].values())
    unchanged = world.equal_words(before, cursor.state, (frame, index))
    writes = terms.disjunction((unchanged, world.truth("is_data_of", before, vm, frame)))
    landed = world.truth("is_data_of", before, vm, terms.extract(result, FRAME_WIDTH - 1, 0))
    conclusions = {
        "reads_own_frames": (given, reads),
        "writes_own_frames": (given, writes),
        "lands_in_own_frame": (given, landed),
    }
    return _group(world, name, function, conclusions, {"vm": vm, "frame": frame, "index": index})


class _Contract:
    """`ept_translate` as the theorems about it allow: it exits, or returns the same offset in a frame of the guest."""

    def __init__(self) -> None:
        self.frames: list[Value] = []

    def translate(
        self,
        evaluator: Evaluator,
        function: ir.Function,  # noqa: ARG002 - part of the protocol
        arguments: Point,
        cursor: Cursor,
        exits: Exits,  # noqa: ARG002 - exits do nothing to memory
    ) -> Value:
        """Replaces `ept_translate`."""
        terms = evaluator.terms
        number = len(self.frames)
        frame = terms.symbol(f"translated.{number}", FRAME_WIDTH)
        self.frames.append(frame)
        cursor.alive = terms.conjunction((cursor.alive, terms.bool_symbol(f"permitted.{number}")))
        offset = terms.extract(cast(Vector, arguments[0]), 11, 0)
        return terms.concat([(0, 12), (frame, FRAME_WIDTH), (offset, 12)])


PROOFS: dict[str, tuple[Proof, tuple[str, ...]]] = {
    "walk": (lemmas, ("root", *(f"level{level}" for level in LEVELS), "tlb_hit")),
    EPT_TRANSLATE: (ept_translation, ("lands_in_own_frame", "keeps_offset", "marks_own_tables")),
    "translate": (guest_translation, ("reads_own_frames", "writes_own_frames", "lands_in_own_frame")),
}
"""The groups by subject: what builds one, and the names of its goals."""


def _group(
    world: World,
    name: str,
    function: ir.Function,
    conclusions: Mapping[str, tuple[Sequence[Truth], Truth]],
    values: dict[str, Value],
) -> Group:
    """Goals about one run of a function that returns: by name, the assumptions and the conclusion."""
    assumed = [truth for assumptions, _ in conclusions.values() for truth in assumptions]
    witness = Witness(f"{function.source} returns", world.all_of(assumed))
    told = explain(world, f"{function.source} can reach what is not the guest's", function.span, values)
    goals = tuple(
        Goal(f"{name}.{goal}", world.follows(assumptions, conclusion), witnesses=(witness,), explain=told)
        for goal, (assumptions, conclusion) in conclusions.items()
    )
    return Group(name, world.context, goals)


def _frame(world: World, address: Vector) -> Vector:
    """The number of the frame that an address is in."""
    return world.terms.extract(address, 11 + FRAME_WIDTH, 12)


def _same_offset(world: World, result: Vector, address: Vector) -> Truth:
    """The result is an address of a frame, with the offset that the address has in its page."""
    terms = world.terms
    offset = terms.equal(terms.extract(result, 11, 0), terms.extract(address, 11, 0), 12)
    return terms.conjunction((offset, terms.equal(terms.extract(result, 63, 52), 0, 12)))


def _unchanged_or(world: World, cursor: Cursor, point: Point, is_own_table: Truth) -> Truth:
    """A word is as before, or differs in accessed and dirty flags only and is in an own table."""
    terms = world.terms
    old, new = (cast(Vector, world.read(s, MEMORY, *point)) for s in (world.before, cursor.state))
    difference = terms.arithmetic("^", old, new, 64)
    rest = terms.arithmetic("&", difference, terms.complement(ACCESSED_AND_DIRTY, 64), 64)
    marked = terms.conjunction((is_own_table, terms.equal(rest, 0, 64)))
    return terms.disjunction((terms.equal(old, new, 64), marked))
