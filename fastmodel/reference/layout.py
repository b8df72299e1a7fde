"""Where everything lies in the state block, which is made of 64-bit words.

    header | aborts | what every instruction changes | other variables | VMCS | lists

A register with an index of up to 8 bits is an array; other variables with indices are lists of what was written: a
count, then for each entry its indices and its value. `block.py` copies a machine in and out by this table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    # Of guests (guests.ll):
    "OUTPUTS",  # what goes to the outside world: for each output its number and arguments
    "OUTPUT_COUNT",
    "VMCS_NUMBER",  # which VMCS is current
    "VMCS_STORE",  # the others: for each whether it is there, and its fields
    "CONTROLS",  # what is known about the states of control registers met so far
    "CONTROL_COUNT",
    "CONTROL",  # the one that holds now
    "RUN",  # a function of the fast model: `run_registers`
    "PATIENCE",  # how many more steps are made here before Python has a look
    "STOP",  # why no more are
)
OFFSET = {name: 8 * number for number, name in enumerate(HEADER)}

# Every instruction changes these; what else one changes is reported apart. The first three lie as in a row of cases.
COMMON = ("GPR", "RIP", "RFLAGS", "NEXT_RIP", "TSC", "PREEMPTION_TIMER_VALUE")

ARRAY_INDEX_BITS = 8

# --- sizes of what the block points to, and numbers in it ---

DECODED_BITS = 16  # the table of decoded instructions has 2**16 places
LEFT_TO_PYTHON = 1 << 32  # a reason: not finished here
MOST_ARGUMENTS = 3  # of an output
OUTPUT_WORDS = 1 + MOST_ARGUMENTS
MOST_OUTPUTS = 1024
MOST_VMCS = 64
CONTROL_WORDS = 3  # of what is known about a state of the control registers, before these
CACHE_BITS = 10  # the table of a cached function has 2**10 places, behind a word: see caches.py


@dataclass(frozen=True)
class Place:
    """A variable's place: `offset` in bytes, `stride` in bytes between elements.  `keys` is not zero for a list.

    `length` is how many elements the array or list has room for. A list that is longer has a greater count, and no
    entries: what needs one is left to the Python model.
    """

    variable: ir.StateVariable
    offset: int
    stride: int
    keys: int
    length: int

    @property
    def size(self) -> int:
        """Of all of it, in bytes."""
        return self.stride * self.length + (8 if self.keys else 0)


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
    vmcs: int = 0  # where the fields of the VMCS begin
    lists: int = 0  # where they end, and lists begin
    size: int = 8 * len(HEADER)

    @staticmethod
    def of(program: ir.Program, names: Sequence[str], cached: Sequence[str], list_length: int) -> Layout:
        """Places for the variables of these names, lists being so long, and for the caches of these functions."""
        layout = Layout()
        for name in cached:
            layout.caches[name] = layout._take(1)
        for abort in program.aborts.values():
            layout.aborts[abort.name] = tuple(
                Leaf(path, type_, layout._take(words_of(type_))) for path, type_ in leaves(abort.type)
            )
        ordered = sorted((program.state[name] for name in names), key=_rank)
        layout._add([v for v in ordered if v.name in COMMON], list_length)
        layout.other = layout.size
        layout._add([v for v in ordered if v.name not in COMMON and _rank(v) < VMCS_RANK], list_length)
        layout.vmcs = layout.size
        layout._add([v for v in ordered if _rank(v) == VMCS_RANK], list_length)
        layout.lists = layout.size
        layout._add([v for v in ordered if _rank(v) > VMCS_RANK], list_length)
        return layout

    def _add(self, variables: list[ir.StateVariable], list_length: int) -> None:
        for variable in variables:
            keys = len(variable.indices) if is_list(variable) else 0
            stride = 8 * (keys + words_of(variable.type))
            length = list_length if keys else 1 << sum(width_of(index.type) for index in variable.indices)
            place = self.places[variable.name] = Place(variable, self.size, stride, keys, length)
            self.size += place.size

    def element(self, name: str, index: int) -> int:
        """The offset of an element of an array; index 0 for a variable without indices."""
        place = self.places[name]
        return place.offset + place.stride * index

    def _take(self, words: int) -> int:
        offset = self.size
        self.size += 8 * words
        return offset


def cache_stride(key_count: int) -> int:
    """The size in bytes of a place in the table of a cached function."""
    return 8 * (key_count + 2)


def cache_bytes(key_count: int) -> int:
    """The size of the table."""
    return 8 + (cache_stride(key_count) << CACHE_BITS)


VMCS_RANK = len(COMMON) + 1


def _rank(variable: ir.StateVariable) -> int:
    """The order in which variables lie."""
    if variable.name in COMMON:
        return COMMON.index(variable.name)
    return len(COMMON) + (2 if is_list(variable) else variable.space == "vmcs")


def is_list(variable: ir.StateVariable) -> bool:
    """Whether a variable is no array: it has too many elements, or is the VMM's, which has one for each guest."""
    index_bits = sum(width_of(index.type) for index in variable.indices)
    return index_bits > ARRAY_INDEX_BITS or (index_bits > 0 and variable.space != "register")


def instruction_bodies(program: ir.Program) -> list[ir.InstructionBody]:
    """The bodies of all instructions, by the numbers that records of decoded instructions have for them."""
    return [body for instruction in program.instructions.values() for body in instruction.bodies]


def leaves(type_: ir.Type, path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], ir.Type]]:
    """The values without parts in a value of a type, with the indices that lead to each."""
    if isinstance(type_, ir.Struct):
        for number, (_, part) in enumerate(type_.fields):
            yield from leaves(part, (*path, number))
    else:
        yield path, type_
