"""Theorems about translation: what a walk and the caches can reach is the guest's own.

The lemmas about one entry and one cached translation cover any number of processors walking at once. The other groups
tie them to what runs: `ept_translate` of the specification, all four levels of it, and `translate`, in which the
guest's page tables are arbitrary and each access goes through `ept_translate`.
"""

from __future__ import annotations

from typing import cast

from checks.isolation.claims import (
    Proof,
    frame_of,
    group_about,
    lemma,
    run_function,
    same_offset,
    symbols,
)
from checks.isolation.instances import Instances
from checks.isolation.open_translation import LANDS, READS, WRITES, OpenTranslation, Owned
from checks.isolation.patterns import Patterns
from checks.isolation.world import FRAME_WIDTH, MEMORY, Sightings, World
from checks.symbolic.paths import Cursor
from checks.symbolic.terms import Truth, Vector
from checks.symbolic.values import Point, Value
from checks.theorem import Group
from grammar import ir

LEVELS = (4, 3, 2, 1)
EPT_TRANSLATE = "ept_translate"
ACCESSED_AND_DIRTY = 0x300


def lemmas(world: World, patterns: Patterns, name: str) -> Group:
    """One step of a walk at each level, where it starts, and a hit in the TLB."""
    names = ("cpu", "vm", "table", "index", "offset")
    cpu, vm, table, index, offset = symbols(world, "walk_finds_own", names)
    goals = [lemma(world, patterns, f"{name}.root", None, ("starts_at_own_root", (cpu,)), {"cpu": cpu})]
    values = {"cpu": cpu, "vm": vm, "table": table, "index": index, "offset": offset}
    for level in LEVELS:
        walking = ("is_walking", (level, cpu, vm, table))
        claim = ("walk_finds_own", (level, vm, table, index, offset))
        goals.append(lemma(world, patterns, f"{name}.level{level}", walking, claim, values))
    values = {"cpu": cpu, "vm": vm, "frame": table}
    cached = ("is_cached", (cpu, vm, table))
    goals.append(lemma(world, patterns, f"{name}.tlb_hit", cached, ("is_data_of", (vm, table)), values))
    return Group(name, world.context, tuple(goals))


def ept_translation(world: World, patterns: Patterns, name: str) -> Group:
    """`ept_translate` returns an address in a frame of the guest, and changes only flags in the guest's own tables."""
    before = world.before
    function = world.program.functions[EPT_TRANSLATE]
    arguments = tuple(world.symbol(p.name, p.type) for p in function.parameters)
    called = run_function(world, function, arguments)
    result, cursor, seen = cast(Vector, called.result), called.after, called.seen
    (cpu,) = symbols(world, "runs_with_own_tables", ("cpu",))
    point = tuple(symbols(world, "read_entry", ("table", "index")))
    vm = world.read(before, "RUNNING", cpu)
    running, running_seen = world.look("runs_with_own_tables", before, cpu)
    translated, _ = world.look("ept_enabled", before)
    is_own, own_seen = world.look("is_data_of", before, vm, frame_of(world, result))
    is_table, table_seen = world.look("is_own_table", before, vm, point[0])
    marks = _unchanged_or(world, cursor, point, cast(Truth, is_table))
    given = [cast(Truth, t) for t in (running, translated, cursor.alive, *_policies(world))]
    named = [("offset", frame_of(world, cast(Vector, arguments[0])))]
    instances = Instances(world, patterns)
    to_land = instances.at((_seen_without_marks(world, function, arguments), running_seen, own_seen), named)
    to_mark = instances.at((seen, running_seen, table_seen), named)
    conclusions = {
        LANDS: ([*given, *to_land], cast(Truth, is_own)),
        "keeps_offset": (given, same_offset(world, result, cast(Vector, arguments[0]))),
        "marks_own_tables": ([*given, *to_mark], marks),
    }
    values = {"address": arguments[0], "cpu": cpu, "vm": vm, "table": point[0], "index": point[1]}
    return group_about(world, name, called, conclusions, values)


def _policies(world: World) -> list[Value]:
    """What the VMM promises of the controls.  Parameters never occur in what it promises of EPT."""
    evaluator, policies = world.evaluator(), world.program.policies.values()
    return [evaluator.pure(policy.condition, world.before) for policy in policies if not policy.parameters]


def _seen_without_marks(world: World, function: ir.Function, arguments: Point) -> Sightings:
    """What `ept_translate` looks at to find the address, before it marks the entries as used."""
    evaluator = world.evaluator()
    evaluator.overrides = {**world.overrides, "ept_mark_used": lambda *_: None}
    evaluator.call(function, arguments, Cursor(world.before.copy(), {}), [])
    return world.sightings(evaluator.touched)


def guest_translation(world: World, _patterns: Patterns, name: str) -> Group:
    """`translate`, with whatever page tables the guest has, reads, writes and returns frames of the guest only."""
    function = world.program.functions["translate"]
    arguments = tuple(world.symbol(p.name, p.type) for p in function.parameters)
    (vm,) = symbols(world, "is_data_of", ("vm",))
    run = OpenTranslation(world, function, arguments, EPT_TRANSLATE, Owned("is_data_of", vm))
    landed = world.terms.extract(cast(Vector, run.result), FRAME_WIDTH - 1, 0)
    conclusions = {READS: run.reads(), WRITES: run.writes(), LANDS: run.owns(landed)}
    return run.group(name, conclusions, {"vm": vm})


PROOFS: dict[str, tuple[Proof, tuple[str, ...]]] = {
    "walk": (lemmas, ("root", *(f"level{level}" for level in LEVELS), "tlb_hit")),
    EPT_TRANSLATE: (ept_translation, (LANDS, "keeps_offset", "marks_own_tables")),
    "translate": (guest_translation, (READS, WRITES, LANDS)),
}
"""The groups by subject: what builds one, and the names of its goals."""


def _unchanged_or(world: World, cursor: Cursor, point: Point, is_own_table: Truth) -> Truth:
    """A word is as before, or differs in accessed and dirty flags only and is in an own table."""
    terms = world.terms
    old, new = (cast(Vector, world.read(s, MEMORY, *point)) for s in (world.before, cursor.state))
    difference = terms.arithmetic("^", old, new, 64)
    rest = terms.arithmetic("&", difference, terms.complement(ACCESSED_AND_DIRTY, 64), 64)
    marked = terms.conjunction((is_own_table, terms.equal(rest, 0, 64)))
    return terms.disjunction((terms.equal(old, new, 64), marked))
