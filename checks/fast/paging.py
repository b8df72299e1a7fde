"""Lemmas about the fast model's page walk: what it finds, the specification's walk finds too.

The texts of `fastmodel/paging.py` run on terms beside the specification's functions. Both dimensions are never
unrolled together. EPT's walk is one lemma; the walk of the guest's tables another, in which EPT is an unknown function
of guest-physical addresses that the first lemma justifies; setting accessed and dirty flags a third. What they rest on:
the guest's tables are not EPT tables (isolation proves it of this VMM), so that flags set there do not change EPT.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias, cast

from checks.fast.contract import is_canonical, simple
from checks.fast.walk_case import Kind, Situation, Step, explained
from checks.fast.walker import (
    ABOVE_EPT,
    ABOVE_WALK,
    ACCESS,
    ALONE,
    PHYSICAL,
    BlockWord,
    Entries,
    Ept,
    MemoryWord,
    Walker,
    ept_translate,
    translated,
)
from checks.fast.words import WORDS, Fact, Paths, Word, bits_of, number
from checks.symbolic.evaluate import Call, Evaluator
from checks.symbolic.paths import Cursor
from checks.symbolic.state import State, Surroundings
from checks.symbolic.terms import Terms, Truth, Vector
from checks.symbolic.values import Point, Record, Value, build, fresh
from checks.theorem import Goal, Witness
from checks.trap.initial import Anything, Symbols
from checks.trap.unknown import Unknowns
from fastmodel import memory, paging
from fastmodel import state as layout
from fastmodel.compiler.plain import PlainProgram
from fastmodel.compiler.program import instance
from grammar import ir

EPT_ACCESSED_DIRTY = 6  # of the EPT pointer
VIRTUALIZE_APIC_ACCESSES, MODE_BASED_EXECUTE = 0, 22  # of the secondary controls
# The specification's privileges; SUPERVISOR_AC is not one of a fetch.
SUPERVISOR, SUPERVISOR_AC, USER = 0, 1, 3
# Control bits that the walk looks at, by their bit in MODE.
MODE_BITS = {
    layout.WRITE_PROTECT: ("CR0", 16),
    layout.NO_EXECUTE: ("EFER", 11),
    layout.SMEP: ("CR4", 20),
    layout.SMAP: ("CR4", 21),
}
RIGHTS = ("writable", "user", "executable")
SIZES = (1, 2, 4, 8)  # bytes of an operand


@dataclass(slots=True)
class Lemmas:
    """The lemmas in one context; `hypotheses` hold wherever the fast model runs."""

    program: ir.Program
    terms: Terms
    paths: Paths = field(init=False)
    start: State = field(init=False)
    ept: Ept = field(init=False)
    hypotheses: list[Truth] = field(default_factory=list)
    _steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        terms = self.terms
        self.paths = Paths(terms)
        symbols = Symbols(terms)
        self.start = State(Surroundings(self.program, terms, Anything(symbols), {PHYSICAL: Entries(terms)}))
        pointer = cast(Vector, self.start.get("EPT_POINTER"))
        is_active = cast(Truth, self._evaluated("ept_enabled"))
        sets_flags = terms.conjunction((is_active, terms.bit(pointer, EPT_ACCESSED_DIRTY, 64, 64)))
        self.ept = Ept(terms, Unknowns(terms), sets_flags)
        secondary = self._evaluated("secondary")
        is_usual = terms.conjunction(
            terms.negation(terms.bit(cast(Vector, secondary), bit, 32, 32))
            for bit in (VIRTUALIZE_APIC_ACCESSES, MODE_BASED_EXECUTE)
        )
        self.hypotheses.append(terms.implies(cast(Truth, self.start.get("IN_NON_ROOT")), is_usual))
        # What VM entry has checked of the EPT pointer.  SDM 3C 27.2.1.1
        self.hypotheses.append(terms.equal(terms.arithmetic("&", pointer, paging.RESERVED, 64), 0, 64))
        self.hypotheses.append(terms.negation(terms.equal(pointer, 0, 64)))

    def goal(self, name: str, lemma: Lemma) -> Goal:
        """A lemma as a goal of that name; it is reached by some path of its text."""
        self._steps.clear()
        claim = self.terms.truth(self.terms.conjunction(lemma(self)))
        hypotheses = tuple(self.terms.truth(h) for h in self.hypotheses)
        reached = self.terms.disjunction(step.condition for step in self._steps)
        witness = Witness("completes", self.terms.truth(reached))
        explain = partial(explained, name, tuple(self._steps))
        is_split = lemma in BY_PATHS
        return Goal(name, claim, hypotheses, (witness,), explain=explain, is_split=is_split)

    def follows(self, condition: Truth, claim: Truth, situation: Situation) -> Truth:
        """A claim about a path that ends with a translation, and what a counterexample to it looks like."""
        self._steps.append(Step(condition, claim, situation))
        return self.terms.implies(condition, claim)

    def controls(self) -> dict[str, Value]:
        """The registers that decide what the walk does with rights."""
        return {name: self.start.get(name) for name, _ in MODE_BITS.values()}

    def entry(self, place: Vector) -> Value:
        """The word at a host-physical address, at the start."""
        return self.start.elements(PHYSICAL).read((simple(place),))

    def walker(self, privilege: int) -> Walker:
        """A state block as the engine fills it.  fastmodel/controls.py, engine.py"""
        terms, start = self.terms, self.start
        bits = [
            (terms.as_vector(terms.bit(cast(Vector, start.get(name)), bit, 64, 64)), 1)
            for name, bit in reversed(MODE_BITS.values())
        ]
        mode = terms.concat([(0, 59), *bits, (int(privilege == USER), 1)])
        is_active = cast(Truth, self._evaluated("ept_enabled"))
        pointer = terms.choose(is_active, cast(Vector, start.get("EPT_POINTER")), 0, 64)
        words: dict[int, Vector] = {
            layout.CR3: cast(Vector, start.get("CR3")),
            layout.EPT_POINTER: pointer,
            layout.MODE: mode,
            layout.MEMORY_SIZE: terms.symbol("memory_size", 64),
            layout.ALONE: terms.symbol("alone", 64),
            layout.REASON: terms.symbol("reason", 64),
        }
        known = {offset: number(self.paths, value) for offset, value in words.items()}
        return Walker(self.paths, start.copy(), self.ept, known)

    def runs(
        self, texts: PlainProgram, function: Callable[..., object], walker: Walker, *arguments: object
    ) -> Iterator[tuple[Truth, Walker, object]]:
        """Each path of a text: its condition, the block after it, and what it returned."""
        prepared = texts.function(instance(function))

        def act() -> tuple[Walker, object]:
            own = walker.copy()
            return own, prepared(BlockWord(own), *arguments)

        for condition, (own, result) in self.paths.explore(act):
            yield condition, own, result

    def specified(
        self, name: str, arguments: tuple[Value, ...], overrides: Mapping[str, Any], cursor: Cursor
    ) -> Value:
        """The result of a function of the specification, which completes where the cursor is alive."""
        evaluator = Evaluator(self.program, self.terms, overrides=dict(overrides))
        return cast(Value, evaluator.call(self.program.functions[name], arguments, cursor, []))

    def _evaluated(self, name: str) -> Value:
        return self.specified(name, (), {}, Cursor(self.start.copy(), {}))

    def argument(self, function: str, name: str) -> Value:
        """A symbol for a parameter of a function of the specification."""
        parameters = self.program.functions[function].parameters
        return fresh(self.terms, f"{function}.{name}", next(p.type for p in parameters if p.name == name))

    def is_unchanged(self, before: State, after: State) -> Truth:
        """Whether memory is the same, at an arbitrary address."""
        point: Point = (self.terms.symbol("address", 64),)
        left, right = (cast(Vector, state.elements(PHYSICAL).read(point)) for state in (before, after))
        return self.terms.equal(left, right, 64)


def is_address(found: object) -> bool:
    """Whether a text returned an address, not -1."""
    return not isinstance(found, int) or found >= 0


def ept(lemmas: Lemmas) -> Iterator[Truth]:
    """Where `ept_translate` gives an address, the specification's gives the same, and changes nothing.  SDM 3C 29.3"""
    terms = lemmas.terms
    address = terms.symbol("gpa", 64)
    # The fast model's access, the specification's, and whether it is the walk's own.
    cases = [(access, access, False) for access in ACCESS]
    cases += [
        (paging.READ, paging.READ, True),
        (paging.WRITE, paging.READ, True),
        (paging.WRITE, paging.WRITE, True),
    ]
    for asked, access, is_walk in cases:
        # A walk asks for less than a write only where flags are not set.
        is_asked = terms.negation(lemmas.ept.sets_flags) if is_walk and asked != paging.WRITE else True
        cursor = Cursor(lemmas.start.copy(), {})
        rights, origin = (lemmas.argument("ept_translate", name) for name in ("rights", "origin"))
        place = lemmas.specified(
            "ept_translate", (address, ACCESS[access], origin, is_walk, rights), {}, cursor
        )
        same = terms.conjunction((cursor.alive, lemmas.is_unchanged(lemmas.start, cursor.state)))
        walker = lemmas.walker(SUPERVISOR)
        situation = Situation(
            Kind.EPT_OF_WALK if is_walk else Kind.EPT,
            asked,
            entries=_walked(
                lemmas, cast(Vector, lemmas.start.get("EPT_POINTER")), address, lambda place: place
            ),
            sets_flags=lemmas.ept.sets_flags,
        )
        for condition, _, found in lemmas.runs(
            ALONE, paging.ept_translate, walker, number(lemmas.paths, address), asked
        ):
            if is_address(found):
                equal = terms.equal(bits_of(found), cast(Vector, place), 64)
                yield lemmas.follows(
                    terms.conjunction((condition, is_asked)), terms.conjunction((same, equal)), situation
                )


def walk(lemmas: Lemmas) -> Iterator[Truth]:
    """Where `translate` gives an address, the specification's walk gives the same, with the same rights.

    What it sets in the entries is lemma `used`'s.  SDM 3A 4.5, 4.6
    """
    terms, linear = lemmas.terms, lemmas.terms.symbol("linear", 64)

    def specified(call: Call) -> Truth:
        rights = cast(Record, call.arguments[0])
        return lemmas.ept.permitted(*(cast(Truth, rights.field(name)) for name in RIGHTS))

    def permits(_mode: Word, rights: Word, executable: Word, _access: int) -> Fact:
        writable, user = (terms.bit(rights.value, bit, 64, 64) for bit in (1, 2))
        return Fact(
            lemmas.paths, lemmas.ept.permitted(writable, user, terms.bit(executable.value, 0, 64, 64))
        )

    stands_for: dict[str, Callable[..., Any]] = {
        "ept_translate": ept_translate,
        "mark_used": lambda *_: True,
        "permits": permits,
    }
    guest_walk = PlainProgram({**WORDS, **stands_for})
    overrides = {"ept_translate": lemmas.ept.specified, "mark_used": lambda *_: None, "permits": specified}
    for access, number_ in ACCESS.items():
        cursor = Cursor(lemmas.start.copy(), {})
        frame = lemmas.specified("translate", (linear, number_, SUPERVISOR), overrides, cursor)
        place = terms.concat([(cast(Vector, frame), 52), (terms.extract(linear, 11, 0), 12)])
        walker, given = lemmas.walker(SUPERVISOR), number(lemmas.paths, linear)
        situation = Situation(
            Kind.WALK,
            access,
            linear=linear,
            entries=_walked(lemmas, cast(Vector, lemmas.start.get("CR3")), linear, lemmas.ept.place),
            controls=lemmas.controls(),
        )
        for condition, _, found in lemmas.runs(guest_walk, paging.translate, walker, given, access):
            if is_address(found):
                claims = (cursor.alive, is_canonical(terms, linear), terms.equal(bits_of(found), place, 64))
                yield lemmas.follows(condition, terms.conjunction(claims), situation)


def _walked(
    lemmas: Lemmas, table: Vector, address: Vector, host: Callable[[Vector], Vector]
) -> tuple[Value, ...]:
    """The entries that lie on the way to an address, if all are there and none is a large page."""
    terms, entries = lemmas.terms, []
    for shift in (39, 30, 21, 12):
        index = terms.extract(address, shift + 8, shift)
        place = terms.concat([(0, 24), (terms.extract(table, 39, 12), 28), (index, 9), (0, 3)])
        table = cast(Vector, lemmas.entry(host(place)))
        entries.append(table)
    return tuple(entries)


def rights(lemmas: Lemmas) -> Iterator[Truth]:
    """What `permits` allows, the specification's does.  SDM 3A 4.6"""
    terms = lemmas.terms
    entries, executable = (terms.symbol(name, 64) for name in ("entries", "executable"))
    bits = ((entries, 1), (entries, 2), (executable, 0))
    record = rights_record(lemmas, *(terms.bit(word, bit, 64, 64) for word, bit in bits))
    words = tuple(number(lemmas.paths, word) for word in (entries, executable))
    is_bit = terms.compare("<=", executable, 1, 64)
    for access, number_ in ACCESS.items():
        for privilege in (
            (SUPERVISOR, USER) if access == paging.EXECUTE else (SUPERVISOR, SUPERVISOR_AC, USER)
        ):
            cursor = Cursor(lemmas.start.copy(), {})
            allowed = lemmas.specified("permits", (record, number_, privilege), {}, cursor)
            permits = ALONE.function(instance(paging.permits))
            mode = lemmas.walker(privilege).words[layout.MODE]
            for condition, result in lemmas.paths.explore(partial(permits, mode, *words, access)):
                met = (condition, is_bit, result.condition if isinstance(result, Fact) else result)
                situation = Situation(
                    Kind.RIGHTS,
                    access,
                    privilege=privilege,
                    entries=(entries,),
                    is_executable=executable,
                    controls=lemmas.controls(),
                )
                yield lemmas.follows(terms.conjunction(met), cast(Truth, allowed), situation)


def rights_record(lemmas: Lemmas, *values: Truth) -> Record:
    """The specification's PageRights."""
    type_ = cast(ir.Struct, lemmas.program.types["PageRights"])
    by_name = dict(zip(RIGHTS, values, strict=True))
    return cast(Record, build(type_, "", lambda name, _type: by_name[name.removeprefix(".")]))


def used(lemmas: Lemmas, leaf: int) -> Iterator[Truth]:
    """Where `mark_used` is done, memory is what the specification's makes of it, level by level.  SDM 3A 4.8"""
    terms = lemmas.terms
    for access in (paging.READ, paging.WRITE):
        walker, cursor = lemmas.walker(SUPERVISOR), Cursor(lemmas.start.copy(), {})
        entries = []
        for level in range(24, leaf - 1, -8):
            place = terms.symbol(f"entry_{level}", 64)
            host = lemmas.ept.place(place)
            entries.append(lemmas.entry(host))
            walker.words[layout.WALK_PLACES + level] = number(lemmas.paths, place)
            walker.words[layout.WALK_ENTRIES + level] = MemoryWord(walker, host)
            _specified_mark(lemmas, place, level == leaf and access == paging.WRITE, cursor)
        situation = Situation(Kind.FLAGS, access, entries=tuple(entries))
        for condition, own, is_done in _marked(lemmas, walker, leaf, access):
            if is_done:
                same = lemmas.is_unchanged(cursor.state, own.state)
                yield lemmas.follows(condition, terms.conjunction((cursor.alive, same)), situation)


def _specified_mark(lemmas: Lemmas, place: Vector, is_dirty: bool, cursor: Cursor) -> None:
    """What the specification's walk does with the flags of the entry at a guest-physical address."""
    model = cursor.state.surroundings.memories[PHYSICAL]
    entry = model.read(cursor.state.elements(PHYSICAL), lemmas.ept.place(place), 64)
    arguments = (place, entry, lemmas.terms.symbol("linear", 64), is_dirty)
    lemmas.specified("mark_used", arguments, {"ept_translate": lemmas.ept.specified}, cursor)


def _marked(lemmas: Lemmas, walker: Walker, leaf: int, access: int) -> Iterator[tuple[Truth, Walker, object]]:
    """The paths of `mark_used`; the entries' addresses are those of the block that runs."""
    prepared = ABOVE_EPT.function(instance(paging.mark_used))

    def act() -> tuple[Walker, object]:
        own = walker.copy()
        for offset, value in walker.words.items():
            if isinstance(value, MemoryWord):
                own.words[offset] = MemoryWord(own, value.address)
        return own, prepared(BlockWord(own), leaf, access)

    for condition, (own, result) in lemmas.paths.explore(act):
        yield condition, own, result


def operand(lemmas: Lemmas) -> Iterator[Truth]:
    """An operand that is translated lies in one page, with its first byte."""
    terms, linear = lemmas.terms, lemmas.terms.symbol("linear", 64)
    for size in SIZES:
        walker = lemmas.walker(SUPERVISOR)
        given = number(lemmas.paths, linear)
        found_by_walk = bits_of(translated(BlockWord(walker), given, paging.READ))
        for condition, _, found in lemmas.runs(
            ABOVE_WALK, memory.translate_within_page, walker, given, size, paging.READ
        ):
            if is_address(found):
                last = terms.arithmetic("+", linear, size - 1, 64)
                first_page, last_page = (terms.extract(value, 63, 12) for value in (linear, last))
                claims = (
                    terms.equal(first_page, last_page, 52),
                    terms.equal(bits_of(found), found_by_walk, 64),
                )
                situation = Situation(Kind.PAGE_END, paging.READ, linear=linear, size=size)
                yield lemmas.follows(condition, terms.conjunction(claims), situation)


Lemma: TypeAlias = Callable[[Lemmas], Iterator[Truth]]

LEMMAS: dict[str, Lemma] = {
    "ept": ept,
    "walk": walk,
    "rights": rights,
    "used_1g": partial(used, leaf=16),
    "used_2m": partial(used, leaf=8),
    "used_4k": partial(used, leaf=0),
    "operand": operand,
}
BY_PATHS = tuple(LEMMAS[name] for name in ("used_1g", "used_2m", "used_4k"))
"""Lemmas whose paths are asked about one by one: taken together, they are harder."""
