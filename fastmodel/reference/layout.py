"""Where everything lies in the state block, which is made of 64-bit words.

    header | aborts | what every instruction changes | other variables | lists

A variable with an index of up to 8 bits is an array; others are lists of what was written: a count, then for each
entry its indices and its value. The Python engine copies the machine in and out by this table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from fastmodel.reference.types import words_of
from grammar import ir
from refmodel.generate.bounds import width_of

# Words of the header, by number. The offsets in bytes are the same names in `runtime.ll`.
HEADER = (
    "ZERO",  # nothing writes it: the base or index that an address has not
    "ABORT",  # which abort is on its way: its number from 1 on, 0 if none is
    "OUTSIDE",  # not zero: something happened that is left to the Python model
    "MEMORY",  # where memory lies in this process, and how many bytes it has
    "MEMORY_SIZE",
    "JOURNAL",  # the 64-bit words of memory that were written: address, content before
    "JOURNAL_COUNT",
    "JOURNAL_LIMIT",
    "DECODED",  # a table of pointers to decoded instructions, by a hash of their bytes
    "DECODE",  # a function that decodes bytes seen for the first time
    "INSTRUCTION_LENGTH",
    "ADDRESS_SIZE",
    "OPERAND_SIZE",
    "REPEAT",
)
OFFSET = {name: 8 * number for number, name in enumerate(HEADER)}

# Every instruction changes these; what else one changes is reported apart.
COMMON = ("GPR", "RIP", "NEXT_RIP", "RFLAGS", "TSC", "PREEMPTION_TIMER_VALUE")

ARRAY_INDEX_BITS = 8
LIST_LENGTH = 64


@dataclass(frozen=True)
class Place:
    """A variable's place: `offset` in bytes, `stride` in bytes between elements.  `keys` is not zero for a list."""

    variable: ir.StateVariable
    offset: int
    stride: int
    keys: int

    @property
    def length(self) -> int:
        """How many elements the array or list has room for."""
        if self.keys:
            return LIST_LENGTH
        return 1 << sum(width_of(index.type) for index in self.variable.indices)


@dataclass(frozen=True)
class Leaf:
    """A value without parts within what an abort carries: the indices that lead to it."""

    path: tuple[int, ...]
    type: ir.Type
    offset: int


@dataclass
class Layout:
    """The state block of a program's variables."""

    places: dict[str, Place] = field(default_factory=dict)
    aborts: dict[str, tuple[Leaf, ...]] = field(default_factory=dict)
    caches: dict[str, int] = field(
        default_factory=dict
    )  # cached function → offset of the pointer to its table
    other: int = 0  # where variables begin that not every instruction changes
    size: int = 8 * len(HEADER)

    @staticmethod
    def of(program: ir.Program, variables: list[ir.StateVariable], cached: list[str]) -> Layout:
        """Places for these variables and for the caches of these functions."""
        layout = Layout()
        for name in cached:
            layout.caches[name] = layout._take(1)
        for abort in program.aborts.values():
            layout.aborts[abort.name] = tuple(
                Leaf(path, type_, layout._take(words_of(type_))) for path, type_ in leaves(abort.type)
            )
        rank = {name: n for n, name in enumerate(COMMON)}
        for variable in sorted(variables, key=lambda v: (rank.get(v.name, len(rank)), is_list(v))):
            if variable.name not in COMMON and not layout.other:
                layout.other = layout.size
            layout._add(variable)
        return layout

    def _add(self, variable: ir.StateVariable) -> None:
        keys = len(variable.indices) if is_list(variable) else 0
        stride = 8 * (keys + words_of(variable.type))
        place = Place(variable, self.size, stride, keys)
        self.places[variable.name] = place
        self.size += stride * place.length + (8 if keys else 0)

    def _take(self, words: int) -> int:
        offset = self.size
        self.size += 8 * words
        return offset


def is_list(variable: ir.StateVariable) -> bool:
    """Whether a variable has too many elements for an array."""
    return sum(width_of(index.type) for index in variable.indices) > ARRAY_INDEX_BITS


def leaves(type_: ir.Type, path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], ir.Type]]:
    """The values without parts in a value of a type, with the indices that lead to each."""
    if isinstance(type_, ir.Struct):
        for number, (_, part) in enumerate(type_.fields):
            yield from leaves(part, (*path, number))
    else:
        yield path, type_
