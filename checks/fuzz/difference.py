"""What a comparison finds."""

from __future__ import annotations

from dataclasses import dataclass

from checks.case import Case

NONE = -1  # the value of "fault" and "VM exit" where there was none


@dataclass(frozen=True, slots=True)
class Difference:
    """An item that two engines leave with different values, apart from the bits that are undefined."""

    item: str
    reference: int
    tested: int


@dataclass(frozen=True, slots=True)
class Divergence:
    """A case on whose last step two engines differ, and where; `known` is the known fault that explains it."""

    case: Case
    differences: tuple[Difference, ...]
    known: str = ""
