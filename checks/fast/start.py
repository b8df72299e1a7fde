"""The states that a handler and the specification begin in: the same machine, as each of them keeps it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import z3

from checks.fast.block import Block
from checks.fast.contract import Accesses
from checks.fast.numbers import NumberTerms
from checks.fast.words import MASK, TEXTS, Paths, bits_of
from checks.symbolic.evaluate import Evaluator
from checks.symbolic.memory import ByteMemory
from checks.symbolic.paths import Cursor, Exits
from checks.symbolic.state import State, Surroundings
from checks.symbolic.terms import Truth, Vector
from checks.symbolic.values import Point, Value
from checks.trap.contract import LINEAR
from checks.trap.initial import Symbols
from checks.trap.runs import LINEAR_WIDTH
from checks.trap.unknown import Unknowns
from fastmodel import state as layout
from fastmodel.compiler.program import instance
from fastmodel.controls import CS, RIGHTS_LONG
from fastmodel.handlers.flags import RF, rflags
from grammar import ir

FLAGS = "RFLAGS"
# The flag with which the fast model does not run: TF.  fastmodel/controls.py
NOT_RUN_WITH = 0x100
RIGHTS = "SEGMENT_RIGHTS"


class ReferenceEvaluator(Evaluator):
    """Evaluates with the reference model's choice of what is undefined: the fast model makes the same."""

    def _undefined(self, node: ir.Undefined, cursor: Cursor, exits: Exits) -> Value:
        return self.evaluate(node.value, cursor, exits)

    _EXPRESSIONS: ClassVar[dict[type, Callable[..., Any]]] = {
        **Evaluator._EXPRESSIONS,  # noqa: SLF001  the class it extends
        ir.Undefined: _undefined,
    }


@dataclass(slots=True)
class Source:
    """Initial values: symbols, except for the flags, which the block keeps in words of its own."""

    symbols: Symbols
    flags: Vector = 0

    def scalar(self, variable: ir.StateVariable) -> Value:
        """The initial value of a variable that is not indexed."""
        return self.flags if variable.name == FLAGS else self.symbols.value(variable.name, variable, ())

    def element(self, variable: ir.StateVariable, point: Point) -> Value:
        """The initial value of an element of an indexed variable."""
        return self.symbols.value(variable.name, variable, point)


@dataclass(slots=True)
class FastSource(Source):
    """The same for states that the fast model runs in: those in 64-bit mode."""

    def element(self, variable: ir.StateVariable, point: Point) -> Value:
        """The initial value of an element of an indexed variable."""
        if variable.name == RIGHTS and point == (CS,):
            return RIGHTS_LONG
        return self.symbols.value(variable.name, variable, point)


@dataclass(frozen=True, slots=True)
class Start:
    """The common start of one group's proofs.  `hypotheses` hold wherever the fast model runs.

    `resumed` is the specification's state after it cleared RF, as it does before each instruction.
    """

    program: ir.Program
    terms: NumberTerms
    paths: Paths
    symbols: Symbols
    accesses: Accesses
    block: Block
    resumed: State
    hypotheses: tuple[Truth, ...]

    @classmethod
    def create(cls, program: ir.Program, context: z3.Context) -> Start:
        """Fresh symbols in the context."""
        terms = NumberTerms(context)
        symbols, paths = Symbols(terms), Paths(terms)
        accesses = Accesses(terms, Unknowns(terms))
        memory = ByteMemory(terms, LINEAR_WIDTH, lambda address: symbols.byte(LINEAR, address, LINEAR_WIDTH))
        source, resumed = FastSource(symbols), FastSource(symbols)
        state, resumed_state = (
            State(Surroundings(program, terms, one, {LINEAR: memory})) for one in (source, resumed)
        )
        offsets = {"result": layout.RESULT, "carries": layout.CARRIES, "flags": layout.RFLAGS}
        words = {offset: terms.symbol(f"block.{name}", 64) for name, offset in offsets.items()}
        block = Block(paths, accesses, state, dict(words))
        source.flags = flags_of(block)
        resumed.flags = terms.arithmetic("&", source.flags, ~RF & MASK, 64)
        unset = terms.arithmetic("&", words[layout.RFLAGS], NOT_RUN_WITH, 64)
        return cls(
            program, terms, paths, symbols, accesses, block, resumed_state, (terms.equal(unset, 0, 64),)
        )


def flags_of(block: Block) -> Vector:
    """RFLAGS, as the text that ends a run makes it of the block."""
    return bits_of(TEXTS.function(instance(rflags))(block.address))
