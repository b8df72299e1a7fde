"""Lemmas about the tables of translations (fastmodel/memory.py): what is found was entered, for that page.

The texts run on a state block that is an array, so that slots are symbolic. Where the tables are emptied, nothing is
found (`empty`, `stale`); entering a page changes what is found for that page alone (`reads`, `writes`, `wide`). So by
induction whatever is found is what a walk found since the tables were emptied last. A miss walks, and enters what the
walk found, but for writes to pages with code, or while there is a journal (`miss`). When the tables are emptied is the
engine's business: a table belongs to one CR3, EPT pointer and mode, and is emptied when the reference forgets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import z3

from checks.fast.table_words import WIDE, Address, AnyWords, Memory
from checks.fast.text_case import REACHES, WRONG, text_case, word_at
from checks.fast.words import WORDS, Paths, Word, bits_of, number
from checks.symbolic.terms import Terms, Truth, Vector
from checks.theorem import Counterexample, Goal, Witness
from checks.trap.concrete import Concrete
from fastmodel import memory, paging
from fastmodel import state as layout
from fastmodel.compiler.plain import PlainProgram
from fastmodel.compiler.program import instance

MOST_BYTES = 8  # of an operand
MISSED = 0
PAGE_BITS = 12
GENERATION_BITS = 12  # above the page's number


def _missed(*_: object) -> int:
    return MISSED


LOOK_UPS = PlainProgram(
    {
        **WORDS,
        "not_zero": lambda value: value,
        "read_address_slowly": _missed,
        "write_address_slowly": _missed,
    }
)


@dataclass(frozen=True, slots=True)
class Table:
    """One of the tables: what is in an empty slot, how a page is entered, and how an operand is looked up."""

    offset: int
    entries: int
    empty: int
    enter: Callable[[Memory, Number, Number], object]
    look_up: Callable[[Memory, Number, Number], object]

    def entry(self, memory: Memory, linear: Vector) -> Address:
        """The entry of an address's page."""
        terms = memory.paths.terms
        place = terms.arithmetic("*", self.slot(terms, linear), layout.TLB_ENTRY, 64)
        return Address(memory, terms.arithmetic("+", place, self.offset, 64))

    def slot(self, terms: Terms, linear: Vector) -> Vector:
        """The number of the slot of an address's page."""
        page = terms.arithmetic(">>", linear, PAGE_BITS, 64)
        return terms.arithmetic("&", page, self.entries - 1, 64)

    def is_kept(self, memory: Memory, slot: Vector) -> Truth:
        """What holds of a slot: it is empty, or holds a page whose slot it is."""
        terms = memory.paths.terms
        place = terms.arithmetic("*", slot, layout.TLB_ENTRY, 64)
        tag = memory.words.read(terms.arithmetic("+", place, self.offset, 64))
        empty = terms.equal(tag, bits_of(self.empty), 64)
        own = terms.equal(terms.arithmetic("&", tag, self.entries - 1, 64), slot, 64)
        return terms.disjunction((empty, own))


def _text(function: Callable[..., Any]) -> Callable[..., Any]:
    return LOOK_UPS.function(instance(function))


def direct(offset: int, look_up: Callable[..., int]) -> Table:
    """A table of the block."""

    def enter(memory_: Memory, linear: Number, host: Number) -> object:
        return _text(memory.remember)(memory_.block + offset, linear, host)

    def find(memory_: Memory, linear: Number, size: Number) -> object:
        return _text(look_up)(memory_.block, linear, size)

    return Table(offset, layout.TLB_ENTRIES, -1, enter, find)


def wide() -> Table:
    """The wide table for reads; that for writes is the same elsewhere."""

    def enter(memory_: Memory, linear: Number, host: Number) -> object:
        return _text(memory.remember_widely)(memory_.block, Address(memory_, WIDE), linear, host)

    def find(memory_: Memory, linear: Number, size: Number) -> object:
        return _text(memory.known_widely)(memory_.block, Address(memory_, WIDE), linear, size)

    return Table(WIDE, layout.WIDE_ENTRIES, 0, enter, find)


READS = direct(layout.READ_TLB, memory.read_address)
WRITES = direct(layout.WRITE_TLB, memory.write_address)
WIDE_READS = wide()


Number: TypeAlias = int | Word


@dataclass(slots=True)
class Lemmas:
    """The lemmas in one context; `named` are the numbers that one of them is about, `seen` as in `AnyWords`.

    `reached` are the conditions under which something is found, `nowhere` those under which that is address 0: on
    numbers, it could not be told from a miss.
    """

    terms: Terms
    paths: Paths = field(init=False)
    reached: list[Truth] = field(default_factory=list)
    nowhere: list[Truth] = field(default_factory=list)
    named: dict[str, Vector] = field(default_factory=dict)
    seen: dict[int, z3.BitVecRef] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.paths = Paths(self.terms)

    @property
    def array(self) -> z3.ArrayRef:
        """The words at the start."""
        sort = z3.BitVecSort(64, self.terms.context)
        return z3.Array("words", sort, sort)

    def memory(self) -> Memory:
        """Any block and tables; the generation is one that the wide tables can have."""
        return Memory(self.paths, AnyWords(self.terms, self.array, self.seen))

    def word(self, name: str) -> Number:
        """A number of which nothing is known."""
        self.named[name] = self.terms.symbol(name, 64)
        return number(self.paths, self.named[name])

    def goals(self, family: str) -> Iterator[Goal]:
        """The lemmas as goals; each finds something on some path."""
        for name, lemma in LEMMAS.items():
            yield Lemmas(self.terms).goal(f"{family}.{name}", lemma)

    def goal(self, goal: str, lemma: Lemma) -> Goal:
        """A lemma as a goal."""
        claim = self.terms.truth(self.terms.conjunction(lemma(self)))
        witness = Witness(REACHES, self.terms.truth(self.terms.disjunction(self.reached)))
        explain = partial(self._explained, goal)
        return Goal(goal, claim, self.hypotheses(), (witness,), self._values, explain)

    def finds(self, condition: Truth, found: object) -> None:
        """Notes that something is found under a condition."""
        is_nowhere = self.terms.equal(bits_of(found), 0, 64)
        self.nowhere.append(self.terms.conjunction((condition, is_nowhere)))
        self.reached.append(self.terms.conjunction((condition, self.terms.negation(is_nowhere))))

    def _values(self) -> list[z3.ExprRef]:
        """What is to be 0 or false if it can be: that an address is 0, the numbers, and the words that were read."""
        return [
            *(one for one in (*self.nowhere, *self.named.values()) if isinstance(one, z3.ExprRef)),
            *(z3.Select(self.array, place) for place in self.seen.values()),
        ]

    def _explained(self, goal: str, model: z3.ModelRef) -> Counterexample:
        concrete = Concrete(model)
        numbers = {name: concrete.number(value) for name, value in self.named.items()}
        for place in self.seen.values():
            numbers[word_at(concrete.number(place))] = concrete.number(z3.Select(self.array, place))
        case = text_case(goal, numbers)
        rows = tuple((name, f"{value:#x}") for name, value in numbers.items())
        return Counterexample(WRONG, ("", "value"), rows, None, case)

    def hypotheses(self) -> tuple[z3.BoolRef, ...]:
        """`assumed`, as terms."""
        return tuple(map(self.terms.truth, self.assumed()))

    def assumed(self) -> tuple[Truth, ...]:
        """What holds wherever the tables are used."""
        return self._generation_is_one(), self._size_is_one()

    def same_page(self, left: Vector, right: Vector) -> Truth:
        """Whether two addresses lie in the same page."""
        pages = (self.terms.extract(address, 63, PAGE_BITS) for address in (left, right))
        return self.terms.equal(next(pages), next(pages), 64 - PAGE_BITS)

    def _size_is_one(self) -> Truth:
        """Operands have at least one byte, and not more than MOST_BYTES."""
        less = self.terms.arithmetic("-", bits_of(self.word("size")), 1, 64)
        return self.terms.compare("<", less, MOST_BYTES, 64)

    def _generation_is_one(self) -> Truth:
        """Of WIDE_GENERATION only bits above a page's number are set, and some are."""
        generation = bits_of((self.memory().block + layout.WIDE_GENERATION).read(64))
        low = self.terms.extract(generation, 63 - GENERATION_BITS, 0)
        is_zero = self.terms.equal(generation, 0, 64)
        return self.terms.conjunction(
            (self.terms.equal(low, 0, 64 - GENERATION_BITS), self.terms.negation(is_zero))
        )


def _is_miss(found: object) -> bool:
    return isinstance(found, int) and found == MISSED


def entered(lemmas: Lemmas, table: Table) -> Iterator[Truth]:
    """After a page is entered, operands in it are found there, and all others where they were found before."""
    terms, linear, filled, host = lemmas.terms, *map(lemmas.word, ("linear", "filled", "host"))
    size = lemmas.word("size")
    last = terms.arithmetic("-", terms.arithmetic("+", bits_of(linear), bits_of(size), 64), 1, 64)
    in_one_page = lemmas.same_page(bits_of(linear), last)
    is_its_page = lemmas.same_page(bits_of(linear), bits_of(filled))
    moved = terms.arithmetic("-", bits_of(host), bits_of(filled), 64)
    wanted = terms.arithmetic("+", moved, bits_of(linear), 64)
    kept = table.is_kept(lemmas.memory(), table.slot(terms, bits_of(linear)))

    def act() -> tuple[object, object]:
        after, before = lemmas.memory(), lemmas.memory()
        table.enter(after, filled, host)
        return table.look_up(after, linear, size), table.look_up(before, linear, size)

    for condition, (found, known) in lemmas.paths.explore(act):
        given = terms.conjunction((condition, kept))
        if _is_miss(found):
            yield terms.implies(given, terms.negation(terms.conjunction((is_its_page, in_one_page))))
            continue
        lemmas.finds(given, found)
        is_known = False if _is_miss(known) else terms.equal(bits_of(found), bits_of(known), 64)
        is_right = terms.choose_truth(is_its_page, terms.equal(bits_of(found), wanted, 64), is_known)
        yield terms.implies(given, terms.conjunction((is_right, in_one_page)))
    yield from _stays_kept(lemmas, table, filled, host)


def _stays_kept(lemmas: Lemmas, table: Table, filled: Number, host: Number) -> Iterator[Truth]:
    """What holds of every slot holds of it after a page is entered."""
    terms, after = lemmas.terms, lemmas.memory()
    table.enter(after, filled, host)
    slot = terms.arithmetic("&", bits_of(lemmas.word("slot")), table.entries - 1, 64)
    yield terms.implies(table.is_kept(lemmas.memory(), slot), table.is_kept(after, slot))


def empty(lemmas: Lemmas) -> Iterator[Truth]:
    """In a table of the block that was emptied nothing is found."""
    terms, linear, size = lemmas.terms, lemmas.word("linear"), lemmas.word("size")
    for table in (READS, WRITES):

        def act(table: Table = table) -> object:
            own = lemmas.memory()
            table.entry(own, bits_of(linear)).write(64, table.empty)
            return table.look_up(own, linear, size)

        for condition, found in lemmas.paths.explore(act):
            if _is_miss(found):
                lemmas.reached.append(condition)
            else:
                lemmas.finds(condition, found)
            yield terms.implies(condition, _is_miss(found))


def stale(lemmas: Lemmas) -> Iterator[Truth]:
    """In a wide table only entries of the present generation are found; one that is 0 has none."""
    terms, linear, size = lemmas.terms, lemmas.word("linear"), lemmas.word("size")
    own = lemmas.memory()
    tag = bits_of(WIDE_READS.entry(own, bits_of(linear)).read(64))
    generation = bits_of((own.block + layout.WIDE_GENERATION).read(64))
    left, right = (terms.extract(word, 63, 64 - GENERATION_BITS) for word in (tag, generation))
    is_present = terms.equal(left, right, GENERATION_BITS)
    claim = terms.conjunction((is_present, terms.negation(terms.equal(tag, 0, 64))))
    for condition, found in lemmas.paths.explore(partial(WIDE_READS.look_up, own, linear, size)):
        if not _is_miss(found):
            lemmas.finds(condition, found)
            yield terms.implies(condition, claim)


@dataclass(slots=True)
class Miss:
    """A run of the text for what the tables of the block do not know: where it entered the page."""

    entered: list[tuple[str, object]] = field(default_factory=list)


def miss(lemmas: Lemmas) -> Iterator[Truth]:
    """A miss gives what the walk finds, and enters that; writes to code, or with a journal, enter nothing."""
    terms, linear, physical = lemmas.terms, *map(lemmas.word, ("linear", "physical"))
    is_code, journal = lemmas.word("is_code"), lemmas.word("journal")
    is_plain = terms.conjunction(terms.equal(bits_of(word), 0, 64) for word in (is_code, journal))
    wanted = terms.arithmetic("+", bits_of(lemmas.word("memory")), bits_of(physical), 64)
    is_walked = terms.negation(terms.compare("<s", bits_of(physical), 0, 64))
    for access, text in (
        (paging.READ, memory.read_address_slowly),
        (paging.WRITE, memory.write_address_slowly),
    ):

        def act(text: Any = text) -> tuple[object, Miss]:
            run = Miss()
            program = _recording(run, physical, is_code)
            known = {layout.MEMORY: lemmas.word("memory"), layout.JOURNAL: journal}
            state = _Known({**known, layout.CODE_WRITES: lemmas.word("code_writes")})
            return program.function(instance(text))(state, linear, 8), run

        for condition, (found, run) in lemmas.paths.explore(act):
            if _is_miss(found):
                yield terms.implies(condition, not run.entered)
                continue
            lemmas.finds(condition, found)
            may_enter = True if access == paging.READ else is_plain
            same = [terms.equal(bits_of(host), wanted, 64) for _, host in run.entered]
            claims = (is_walked, terms.equal(bits_of(found), wanted, 64), *same)
            yield terms.implies(condition, terms.conjunction(claims))
            if run.entered:
                yield terms.implies(condition, may_enter)


@dataclass(frozen=True, slots=True)
class _Known:
    """A state block of which a few words are looked at."""

    words: dict[int, object]
    offset: int = 0

    def __add__(self, other: object) -> _Known:
        return _Known(self.words, self.offset + other) if isinstance(other, int) else self

    def read(self, _width: int) -> object:
        return self.words.get(self.offset, self)

    def write(self, _width: int, value: object) -> None:
        self.words[self.offset] = value


def _recording(run: Miss, physical: Number, is_code: Number) -> PlainProgram:
    """The texts with a walk that finds `physical`, and tables that know nothing; what is entered is noted."""

    def enter(name: str, host: object) -> object:
        run.entered.append((name, host))
        return host

    return PlainProgram(
        {
            **WORDS,
            "translate_within_page": lambda *_: physical,
            "known_widely": _missed,
            "field": lambda *_: is_code,
            "note_write": lambda *_: True,
            "remember": lambda _table, _linear, host: enter("block", host),
            "remember_widely": lambda _state, _table, _linear, host: enter("wide", host),
        }
    )


Lemma: TypeAlias = Callable[[Lemmas], Iterator[Truth]]
LEMMAS: dict[str, Lemma] = {
    "reads": partial(entered, table=READS),
    "writes": partial(entered, table=WRITES),
    "wide": partial(entered, table=WIDE_READS),
    "empty": empty,
    "stale": stale,
    "miss": miss,
}
