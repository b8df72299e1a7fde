"""Any state in which a guest runs of which all promises hold: where theorems about what keeps them start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

from checks.host_state.built import Built
from checks.host_state.promises import Promises, mode_of
from checks.symbolic.evaluate import Override
from checks.symbolic.state import State
from checks.symbolic.terms import Terms, Truth, Vector
from checks.symbolic.values import equal
from checks.totality.havoc import any_state
from checks.trap.operands import CODE_SIZE
from checks.trap.subject import next_rip
from grammar import ir

IN_CODE = "is_in_code"
"""The function of the specification that says where code can be fetched."""

NO_OVERRIDES: Mapping[str, Override] = MappingProxyType({})

LONGEST = 15
"""Bytes of the longest instruction.  SDM 2A 2.3.11"""


@dataclass(slots=True)
class RunningGuest:
    """The state, the promises about it by name, and what asks for promises."""

    promises: Promises
    state: State
    holding: dict[str, Truth]

    @classmethod
    def of(
        cls, program: ir.Program, terms: Terms, built: Built, overrides: Mapping[str, Override] = NO_OVERRIDES
    ) -> RunningGuest:
        """The state has fresh symbols, but for the constant fields of the VMCS.

        `overrides` are functions that promises call, which are not looked into.
        """
        state = any_state(program, terms, built)
        state.set(mode_of(program), value=True)
        promises = Promises(program, terms)
        promises.evaluator.overrides.update(overrides)
        return cls(promises, state, promises.of_running(state))

    def fetched(self) -> list[Truth]:
        """An instruction at RIP has been fetched, and NEXT_RIP is behind it."""
        terms, state = self.promises.terms, self.state
        length = terms.symbol("instruction.length", 64)
        code_size = self.promises.ask(CODE_SIZE, state)
        following = next_rip(terms, state, length, cast(Vector, code_size))
        is_behind = equal(terms, state.get("NEXT_RIP"), following, ir.Bits(64))
        return [*in_code(self.promises, state, length), is_behind]


def in_code(promises: Promises, state: State, length: Vector) -> Sequence[Truth]:
    """The instruction of so many bytes at RIP was fetched: its first and its last byte are in the code."""
    terms = promises.terms
    first = cast(Vector, state.get("RIP"))
    last = terms.arithmetic("+", first, terms.arithmetic("-", length, 1, 64), 64)
    return [
        *(promises.ask(IN_CODE, state, offset) for offset in (first, last)),
        terms.compare("<", 0, length, 64),
        terms.compare("<=", length, LONGEST, 64),
    ]
