"""The types of values."""

from __future__ import annotations

from functools import cache

from grammar.record import Record


class Bool(Record):
    """A truth value."""

    def __str__(self) -> str:
        return "bool"


class Bits(Record):
    """A bit vector of `width` bits."""

    width: int

    def __str__(self) -> str:
        return f"bits({self.width})"


class Newtype(Record):
    """The same bits as `bits(width)` under a name that does not mix with others."""

    name: str
    width: int

    def __str__(self) -> str:
        return self.name


class Enum(Record):
    """Named constants of `width` bits."""

    name: str
    width: int
    members: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        return self.name


class BitfieldMember(Record):
    """Bits `high` to `low` of a bitfield, with the line of documentation that stands behind it."""

    name: str
    high: int
    low: int
    doc: str


class Bitfield(Record):
    """`width` bits some of which have names; a field of one bit is a `bool`."""

    name: str
    width: int
    members: tuple[BitfieldMember, ...]

    def member(self, name: str) -> BitfieldMember | None:
        """The field of that name."""
        return next((m for m in self.members if m.name == name), None)

    def __str__(self) -> str:
        return self.name


class Struct(Record):
    """A record of named fields."""

    name: str
    fields: tuple[tuple[str, Type], ...]

    def __str__(self) -> str:
        return self.name


Vector = Bits | Newtype | Enum | Bitfield
Type = Bool | Bits | Newtype | Enum | Bitfield | Struct

BOOL = Bool()


@cache
def bits(width: int) -> Bits:
    """The type `bits(width)`, the same object each time: a program has many expressions of it."""
    return Bits(width)


# The type of a call of a function that returns nothing.
NOTHING = Struct("nothing", ())
