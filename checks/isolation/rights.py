"""Theorems about rights: `ept_translate` completes if and only if each entry on the way permits the access.

What an entry permits is written here once more, from the SDM and by bit positions, so that the specification's own
functions are what is proved. Nothing of the VMM is assumed: this holds for any controls and any tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from checks.function_case import IT_RAISES, IT_RETURNS
from checks.isolation.claims import Proof, explain_called, run_function
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
PHYSICAL_ADDRESS_WIDTH = 40
ACCESSED_DIRTY = 6
"""Of the EPT pointer.  SDM 3C 25.6.11"""
ACTIVATE_SECONDARY, MODE_BASED_EXECUTE, VIRTUALIZE_APIC_ACCESSES = 31, 22, 0
"""Of the primary and secondary processor-based controls.  SDM 3C 25.6.2"""


REFUSES = "refuses_nothing_else"


def rights(world: World, _patterns: Patterns, name: str) -> Group:
    """A goal for each level: the entry there, if the walk reaches it, permits the access."""
    terms, function = world.terms, world.program.functions[EPT_TRANSLATE]
    arguments = {p.name: world.symbol(p.name, p.type) for p in function.parameters}
    access = cast(Vector, arguments["access"])
    called = run_function(world, function, tuple(arguments.values()))
    completes = [cast(Truth, world.look("ept_enabled", world.before)[0]), called.after.alive]
    values = {"address": arguments["address"]}
    text = f"{EPT_TRANSLATE} can complete without the right"
    goals, good = [], list[Truth]()
    for level, reached, entry in _walk(world, cast(Vector, arguments["address"])):
        assumed = [*completes, reached]
        witness = Witness(IT_RETURNS, world.all_of(assumed))
        wanted = terms.conjunction((_permits(world, entry, arguments), _is_well_formed(world, entry, level)))
        permitted = world.follows(assumed, wanted)
        good.append(terms.implies(reached, wanted))
        goal = f"{name}.level{level}"
        told = explain_called(world, goal, called, text, values)
        goals.append(Goal(goal, permitted, witnesses=(witness,), explain=told))
    is_access = terms.disjunction(terms.equal(access, code, 2) for code in (READ, WRITE, EXECUTE))
    refused = [
        is_access,
        completes[0],
        terms.negation(called.after.alive),
        terms.negation(_has_apic_page(world)),
    ]
    witness = Witness(IT_RAISES, world.all_of(refused))
    justified = world.follows(refused, terms.negation(terms.conjunction(good)))
    text = f"{EPT_TRANSLATE} can refuse what all entries permit"
    told = explain_called(world, f"{name}.{REFUSES}", called, text, values)
    goals.append(Goal(f"{name}.{REFUSES}", justified, witnesses=(witness,), explain=told))
    return Group(name, world.context, tuple(goals))


PROOFS: dict[str, tuple[Proof, tuple[str, ...]]] = {
    "ept_rights": (rights, (*(f"level{level}" for level in LEVELS), REFUSES)),
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


def _is_well_formed(world: World, entry: Vector, level: int) -> Truth:
    """The entry is not misconfigured: nothing is written that cannot be read, no reserved bit is set, and a page has a
    memory type that exists. Pages that can only be executed are supported.  SDM 3C 29.3.3.1
    """
    terms = world.terms
    is_page: Truth = level == 1 or terms.conjunction((level in (2, 3), _bit(world, entry, LARGE)))
    readable = terms.implies(_bit(world, entry, WRITE), _bit(world, entry, READ))
    high = _is_zero(world, entry, 51, PHYSICAL_ADDRESS_WIDTH)
    low = level == 1 or _is_zero(world, entry, 11 + 9 * (level - 1), 12)
    type_ = terms.extract(entry, 5, 3)
    exists = terms.disjunction(terms.equal(type_, known, 3) for known in (0, 1, 4, 5, 6))
    page = terms.conjunction((low, exists))
    return terms.conjunction(
        (readable, high, terms.choose_truth(is_page, page, _is_zero(world, entry, 7, 3)))
    )


def _is_zero(world: World, value: Vector, high: int, low: int) -> Truth:
    return world.terms.equal(world.terms.extract(value, high, low), 0, high - low + 1)


def _has_mode_based_execute(world: World) -> Truth:
    return _has_secondary(world, MODE_BASED_EXECUTE)


def _has_apic_page(world: World) -> Truth:
    """Accesses to the APIC-access page may exit whatever EPT says.  SDM 3C 30.4"""
    return _has_secondary(world, VIRTUALIZE_APIC_ACCESSES)


def _has_secondary(world: World, control: int) -> Truth:
    primary, secondary = (_scalar(world, name) for name in ("PRIMARY_CONTROLS", "SECONDARY_CONTROLS"))
    parts = (_bit(world, primary, ACTIVATE_SECONDARY), _bit(world, secondary, control))
    return world.terms.conjunction(parts)


def _scalar(world: World, name: str) -> Vector:
    return cast(Vector, world.before.get(name))


def _bit(world: World, value: Vector, number: int) -> Truth:
    return world.terms.equal(world.terms.extract(value, number, number), 1, 1)
