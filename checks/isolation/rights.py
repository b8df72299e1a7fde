"""Theorems about rights: `ept_translate` completes only if each entry on the way permits the access.

What an entry permits is written here once more, from the SDM and by bit positions, so that the specification's own
functions are what is proved. Nothing of the VMM is assumed: this holds for any controls and any tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from checks.isolation.claims import Proof, run_function
from checks.isolation.explain import explain
from checks.isolation.patterns import Patterns
from checks.isolation.walks import EPT_TRANSLATE, LEVELS
from checks.isolation.world import MEMORY, World
from checks.symbolic.terms import Truth, Vector
from checks.symbolic.values import Record, Value
from checks.theorem import Goal, Group, Witness

READ, WRITE, EXECUTE = 0, 1, 2
"""The codes of accesses, and the bits of an entry that permit them.  SDM 3C 29.3.2"""
USER_EXECUTE = 10
LARGE = 7
ACCESSED_DIRTY = 6
"""Of the EPT pointer.  SDM 3C 25.6.11"""
ACTIVATE_SECONDARY, MODE_BASED_EXECUTE = 31, 22
"""Of the primary and secondary processor-based controls.  SDM 3C 25.6.2"""


def rights(world: World, _patterns: Patterns, name: str) -> Group:
    """A goal for each level: the entry there, if the walk reaches it, permits the access."""
    function = world.program.functions[EPT_TRANSLATE]
    arguments = {p.name: world.symbol(p.name, p.type) for p in function.parameters}
    _, cursor, _ = run_function(world, function, tuple(arguments.values()))
    completes = [cast(Truth, world.look("ept_enabled", world.before)[0]), cursor.alive]
    values = {"address": arguments["address"]}
    told = explain(world, f"{EPT_TRANSLATE} can complete without the right", function.span, values)
    goals = []
    for level, reached, entry in _walk(world, cast(Vector, arguments["address"])):
        assumed = [*completes, reached]
        witness = Witness(f"an access goes through level {level}", world.all_of(assumed))
        permitted = world.follows(assumed, _permits(world, entry, arguments))
        goals.append(Goal(f"{name}.level{level}", permitted, witnesses=(witness,), explain=told))
    return Group(name, world.context, tuple(goals))


PROOFS: dict[str, tuple[Proof, tuple[str, ...]]] = {
    "ept_rights": (rights, tuple(f"level{level}" for level in LEVELS)),
}


def _walk(world: World, address: Vector) -> Iterator[tuple[int, Truth, Vector]]:
    """(level, whether the walk reaches it, the entry there) for an address."""
    terms = world.terms
    table = terms.extract(_scalar(world, "EPT_POINTER"), 51, 12)
    reached: Truth = True
    for level in LEVELS:
        low = 12 + 9 * (level - 1)
        entry = cast(Vector, world.read(world.before, MEMORY, table, terms.extract(address, low + 8, low)))
        yield level, reached, entry
        ends = terms.conjunction((level in (2, 3), _bit(world, entry, LARGE)))
        reached = terms.conjunction((reached, terms.negation(ends)))
        table = terms.extract(entry, 51, 12)


def _permits(world: World, entry: Vector, arguments: dict[str, Value]) -> Truth:
    """The entry permits the access. Accesses of a walk of the guest's tables are writes as well, if EPT has accessed
    and dirty flags; a fetch from a user-mode address may need a right of its own.  SDM 3C 29.3.3.2
    """
    terms, access = world.terms, cast(Vector, arguments["access"])
    marks = _bit(world, _scalar(world, "EPT_POINTER"), ACCESSED_DIRTY)
    walks = terms.conjunction((cast(Truth, arguments["is_walk"]), marks))
    user = cast(Truth, cast(Record, arguments["rights"]).field("user"))
    by_user = terms.conjunction((user, _has_mode_based_execute(world)))
    execute = terms.choose_truth(by_user, _bit(world, entry, USER_EXECUTE), _bit(world, entry, EXECUTE))
    return terms.conjunction(
        (
            terms.implies(terms.disjunction((terms.equal(access, READ, 2), walks)), _bit(world, entry, READ)),
            terms.implies(
                terms.disjunction((terms.equal(access, WRITE, 2), walks)), _bit(world, entry, WRITE)
            ),
            terms.implies(terms.equal(access, EXECUTE, 2), execute),
        )
    )


def _has_mode_based_execute(world: World) -> Truth:
    primary, secondary = (_scalar(world, name) for name in ("PRIMARY_CONTROLS", "SECONDARY_CONTROLS"))
    active = _bit(world, primary, ACTIVATE_SECONDARY)
    return world.terms.conjunction((active, _bit(world, secondary, MODE_BASED_EXECUTE)))


def _scalar(world: World, name: str) -> Vector:
    return cast(Vector, world.before.get(name))


def _bit(world: World, value: Vector, number: int) -> Truth:
    return world.terms.equal(world.terms.extract(value, number, number), 1, 1)
