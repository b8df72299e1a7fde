"""How native functions call each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastmodel.compiler.program import Source


@dataclass(frozen=True, slots=True)
class Convention:
    """How functions call each other: for routines (threaded code needs `musttail`) and for slow paths.

    `pinned` are offsets of words of the state block that routines hand on to each other in registers. The block has
    them where no routine runs. Only `get(64, state + …)` and `put(64, state + …)` may name them.
    """

    threaded: bool
    pinned: tuple[int, ...] = ()

    @property
    def routine(self) -> str:
        """The calling convention of routines: all arguments in registers, none saved."""
        return "ghccc" if self.threaded else ""

    def of(self, source: Source) -> str:
        """The calling convention of a function that is no routine."""
        return "preserve_mostcc" if self.threaded and "slow" in source.marks else ""
