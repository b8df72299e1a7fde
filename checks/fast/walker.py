"""The machine as the texts of the page walk see it: the words of the state block, memory, and EPT as an unknown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from checks.fast.contract import simple
from checks.fast.words import WORDS, Fact, Paths, Word, bits_of, number
from checks.symbolic.evaluate import Call
from checks.symbolic.memory import WORD
from checks.symbolic.state import Elements, Initial, State, Updated
from checks.symbolic.terms import Terms, Truth, Vector
from checks.symbolic.values import Value
from checks.trap.contract import FAULT
from checks.trap.unknown import Unknowns, zero
from fastmodel import paging
from fastmodel import state as layout
from fastmodel.compiler.plain import PlainProgram
from grammar import ir

PHYSICAL = "PHYSICAL"
ADDRESS = ir.Bits(64)
# The specification's kinds of access, by the fast model's.
ACCESS = {paging.READ: 0, paging.WRITE: 1, paging.EXECUTE: 2}


@dataclass(slots=True)
class Entries:
    """Memory as words at addresses: all that a walk reads and writes is entries, which are aligned."""

    terms: Terms

    def initial(self, name: str) -> Elements:
        """The words at the start."""
        unknown = self.terms.function(name, (64,), 64)
        return Initial(
            lambda point: self.terms.apply(unknown, [self.terms.vector(cast(Vector, point[0]), 64)])
        )

    def read(self, elements: Elements, address: Vector, width: int) -> Vector:
        """The word at an address."""
        assert width == 64
        return cast(Vector, elements.read((simple(address),)))

    def write(self, elements: Elements, address: Vector, value: Vector, width: int) -> Elements:
        """The words after a write."""
        assert width == 64
        return Updated(self.terms, elements, (simple(address),), value, (ADDRESS,), WORD)

    def element_type(self, name: str) -> ir.Type:  # noqa: ARG002  part of the protocol
        """The type of a word."""
        return WORD


@dataclass(slots=True)
class Walker:
    """One run of a text: the words of the block by offset, and memory as it is by now."""

    paths: Paths
    state: State
    ept: Ept
    words: dict[int, Any] = field(default_factory=dict)

    def copy(self) -> Walker:
        """A block to run on; this one stays as it is."""
        return Walker(self.paths, self.state.copy(), self.ept, dict(self.words))


@dataclass(frozen=True, slots=True)
class BlockWord:
    """An address in the state block; offset 0 is `state` in the texts."""

    walker: Walker
    offset: int = 0

    def __add__(self, other: int) -> BlockWord:
        return BlockWord(self.walker, self.offset + other)

    def read(self, _width: int) -> object:
        """`get`: some words are addresses of memory."""
        if self.offset == layout.MEMORY:
            return MemoryWord(self.walker, 0)
        if self.offset == layout.CODE_PAGES:
            return CodePage(self.walker)
        return self.walker.words[self.offset]

    def write(self, _width: int, value: object) -> None:
        """`put`."""
        self.walker.words[self.offset] = value


@dataclass(frozen=True, slots=True)
class MemoryWord:
    """An address in this process of a word of the machine's memory."""

    walker: Walker
    address: Vector

    def __add__(self, other: int | Word) -> MemoryWord:
        return MemoryWord(
            self.walker, self.walker.paths.terms.arithmetic("+", self.address, bits_of(other), 64)
        )

    def read(self, width: int) -> int | Word:
        """`load`."""
        state = self.walker.state
        model = state.surroundings.memories[PHYSICAL]
        return number(self.walker.paths, model.read(state.elements(PHYSICAL), self.address, width))

    def write(self, width: int, value: int | Word) -> None:
        """`store`."""
        state = self.walker.state
        model = state.surroundings.memories[PHYSICAL]
        state.set(PHYSICAL, model.write(state.elements(PHYSICAL), self.address, bits_of(value), width))


@dataclass(frozen=True, slots=True)
class CodePage:
    """The mark of a page that instructions were decoded from: it may be anything."""

    walker: Walker
    page: Vector = 0

    def __add__(self, page: int | Word) -> CodePage:
        return CodePage(self.walker, bits_of(page))

    def read(self, _width: int) -> int | Word:
        """`field`."""
        return number(
            self.walker.paths, self.walker.ept.unknowns.vector("code_page", [(self.page, ADDRESS)], 64)
        )


# --- EPT as an unknown function ---


@dataclass(frozen=True, slots=True)
class Ept:
    """What EPT makes of guest-physical addresses: `ept_translate` on both sides, where it is not walked."""

    terms: Terms
    unknowns: Unknowns
    sets_flags: Truth  # EPT is active, with accessed and dirty flags

    def place(self, address: Vector) -> Vector:
        """The host-physical address: some frame, and the same offset."""
        address = simple(address)
        frame = self.unknowns.vector("ept_frame", [(address, ADDRESS)], 40)
        return self.terms.concat([(0, 12), (frame, 40), (self.terms.extract(address, 11, 0), 12)])

    def completes(self, address: Vector, access: int) -> Truth:
        """Whether the specification's access to an address neither faults nor exits, as one that counts as `access`."""
        name = f"ept_completes_{access}"
        return self.terms.equal(self.unknowns.vector(name, [(simple(address), ADDRESS)], 1), 1, 1)

    def is_given(self, address: Vector, access: int) -> Truth:
        """Whether the fast model translates an address; by lemma `ept`, the specification then does."""
        name = f"ept_given_{access}"
        is_given = self.terms.equal(self.unknowns.vector(name, [(simple(address), ADDRESS)], 1), 1, 1)
        return self.terms.conjunction((is_given, self.completes(address, access)))

    def specified(self, call: Call) -> Value:
        """Stands for the specification's `ept_translate`: a walk counts as a write if flags are set."""
        address, access, _, is_walk, _ = call.arguments
        assert isinstance(access, int)
        kind = next(fast for fast, number in ACCESS.items() if number == access)
        completes = self.completes(cast(Vector, address), kind)
        if is_walk:
            written = self.completes(cast(Vector, address), paging.WRITE)
            completes = self.terms.choose_truth(self.sets_flags, written, completes)
        call.abort(FAULT, self.terms.negation(completes), zero(call.evaluator.program.aborts[FAULT].type))
        return self.place(cast(Vector, address))

    def permitted(self, writable: Truth, user: Truth, executable: Truth) -> Truth:
        """Whether rights permit the access at hand: `permits` on both sides, where it is not looked into."""
        rights = [(self.terms.as_vector(right), ir.Bits(1)) for right in (writable, user, executable)]
        return self.terms.equal(self.unknowns.vector("permitted", rights, 1), 1, 1)


def ept_translate(state: BlockWord, address: int | Word, access: int) -> int | Word:
    """Stands for the fast model's `ept_translate`."""
    ept, paths = state.walker.ept, state.walker.paths
    if Fact(paths, ept.is_given(bits_of(address), access)):
        return number(paths, ept.place(bits_of(address)))
    return -1


def _note_write(state: BlockWord, _host: object, _size: int) -> Fact:
    return Fact(state.walker.paths, state.walker.paths.terms.bool_symbol("journal_has_room"))


def translated(state: BlockWord, linear: int | Word, _access: int) -> int | Word:
    """Stands for the fast model's `translate`."""
    found = state.walker.ept.unknowns.vector("translated", [(bits_of(linear), ADDRESS)], 64)
    return number(state.walker.paths, found)


ALONE = PlainProgram({**WORDS, "note_write": _note_write})
ABOVE_EPT = PlainProgram(
    {**WORDS, "note_write": _note_write, "note_use": lambda *_: 0, "ept_translate": ept_translate}
)
ABOVE_WALK = PlainProgram({**WORDS, "translate": translated})
