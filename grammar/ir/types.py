"""The types of values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bool:
    """A truth value."""

    def __str__(self) -> str:
        return "bool"


@dataclass(frozen=True)
class Bits:
    """A bit vector of `width` bits."""

    width: int

    def __str__(self) -> str:
        return f"bits({self.width})"


@dataclass(frozen=True)
class Newtype:
    """The same bits as `bits(width)` under a name that does not mix with others."""

    name: str
    width: int

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Enum:
    """Named constants of `width` bits."""

    name: str
    width: int
    members: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class BitfieldMember:
    """Bits `high` to `low` of a bitfield, with the line of documentation that stands behind it."""

    name: str
    high: int
    low: int
    doc: str


@dataclass(frozen=True)
class Bitfield:
    """`width` bits some of which have names; a field of one bit is a `bool`."""

    name: str
    width: int
    members: tuple[BitfieldMember, ...]

    def member(self, name: str) -> BitfieldMember | None:
        """The field of that name."""
        return next((m for m in self.members if m.name == name), None)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Struct:
    """A record of named fields."""

    name: str
    fields: tuple[tuple[str, Type], ...]

    def __str__(self) -> str:
        return self.name


Vector = Bits | Newtype | Enum | Bitfield
Type = Bool | Bits | Newtype | Enum | Bitfield | Struct

BOOL = Bool()
# The type of a call of a function that returns nothing.
NOTHING = Struct("nothing", ())
