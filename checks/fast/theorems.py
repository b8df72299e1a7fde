"""The theorem about one form: what its handler does is what the specification does.

For all contents of registers, flags and memory, all operands and all outcomes of memory accesses: where the handler
completes, so does the specification's instruction, and both leave the same state; where the handler refuses, nothing
has changed. So a fault or VM exit is never missed: a handler does not complete where the specification faults.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import cast

import z3

from checks.fast.block import Block, Decoded, RegisterOffset
from checks.fast.contract import is_canonical
from checks.fast.forms import HandledForm
from checks.fast.start import FLAGS, ReferenceEvaluator, Start, flags_of
from checks.fast.words import TEXTS, Word, bits_of
from checks.symbolic.memory import BYTE
from checks.symbolic.paths import RETURN, Cursor, Exit, Paths
from checks.symbolic.state import State
from checks.symbolic.terms import Truth, Vector, conjuncts
from checks.symbolic.values import Point, Value, equal, fresh
from checks.trap.contract import LINEAR
from checks.trap.forms import OperandKind, Place
from checks.trap.operands import OperandSymbols, SymbolicOperands
from checks.trap.runs import LINEAR_WIDTH
from fastmodel import decoded
from fastmodel import state as layout
from fastmodel.compiler.program import instance
from fastmodel.handlers.operands import DONE, REFUSED, TAKEN, effective_address
from fastmodel.handlers.registry import BRANCH, CONDITIONAL, JUMP, REPEAT
from grammar import ir

NEXT_RIP = "NEXT_RIP"
ES, DS = 0, 3
COUNT = "count"  # what the specification calls the operand of a shift that says how far
COUNT_BITS = {32: 5, 64: 6}  # how many bits of it matter, by the width of what is shifted


@dataclass(frozen=True, slots=True)
class Path:
    """One way through a handler: under `condition` it ends in `state`; `is_sound` if what it returned has a meaning."""

    condition: Truth
    completes: bool
    is_sound: Truth
    state: State


@dataclass(frozen=True, slots=True)
class Difference:
    """Two values that must be equal where `condition` holds: the specification's and the handler's."""

    condition: Truth
    name: str
    point: Point
    expected: Value
    found: Value
    type: ir.Type
    is_equal: Truth


@dataclass(slots=True)
class FormTheorem:
    """The proof of one form."""

    start: Start
    handled: HandledForm
    symbols: OperandSymbols = field(init=False)
    fields: Decoded = field(init=False)
    evaluator: ReferenceEvaluator = field(init=False)
    completes: Truth = False
    completed: State = field(init=False)
    failures: list[Truth] = field(default_factory=list)  # when accesses of the specification fault or exit
    paths: list[Path] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.start.terms.forget_facts()
        self.symbols = OperandSymbols(
            self.start.terms, self.handled.form, self.start.block.state.elements("GPR")
        )
        # The decoder leaves instructions with prefix 67 to the reference; F2 and F3 mean something for strings only.
        self.symbols.address_size = 64
        if self.handled.handler.flow != REPEAT:
            self.symbols.repeat = 0
        self.fields = Decoded(self.start.paths)
        self._decode()
        self._run_specification()
        self.paths = list(self._run_handler())
        self.differences = [d for path in self.paths for d in self._compare(path)]

    # --- operands: what the decoder hands over ---

    def _decode(self) -> None:
        """Fills the fields of the decoded instruction."""
        terms, fields = self.start.terms, self.fields.fields
        rip = cast(Vector, self.start.block.state.get("RIP"))
        fields[decoded.ADDRESS] = rip
        fields[decoded.NEXT] = terms.arithmetic("+", rip, self.symbols.length, 64)
        fields[decoded.EXTRA] = self.handled.condition
        fields[decoded.REPEAT] = terms.extend(self.symbols.repeat, 8, 64, is_signed=False)
        if self.handled.handler.flow == REPEAT:
            fields[decoded.IMMEDIATE] = rip
        registers = iter((decoded.FIRST, decoded.SECOND))
        for name, kind in self.symbols.kinds().items():
            register = next(registers, None)
            if kind.place is Place.REGISTER and register is not None:
                fields[register] = self._register(name, kind)
            elif kind.place is Place.MEMORY and kind.fixed is not None:
                self.symbols.addresses[name] = self._general(kind.fixed)
                self.symbols.segments[name] = DS if kind.limit > 1 else ES
            elif kind.place is Place.MEMORY:
                self._decode_memory(name)
            elif kind.place is Place.VALUE:
                fields[decoded.IMMEDIATE] = self._immediate(name, kind)

    def _register(self, name: str, kind: OperandKind) -> RegisterOffset:
        terms, index = self.start.terms, self.symbols.numbers[name]
        if kind.width != 8 or kind.fixed is not None:
            return RegisterOffset(index)
        is_high_number = terms.equal(terms.extract(index, 3, 2), 1, 2)
        is_high = terms.conjunction((terms.negation(self.symbols.has_rex), is_high_number))
        return RegisterOffset(index, is_high)

    def _general(self, number: int) -> Vector:
        """What a general register holds at the start."""
        return cast(Vector, self.start.block.state.elements("GPR").read((number,)))

    def _decode_memory(self, name: str) -> None:
        """A base and an index register, either of which may be missing; the address is lemma `fast.address`'s.

        The segment is SS or DS, which are flat: the decoder leaves operands with FS or GS to the reference.
        """
        self.fields.fields.update(memory_fields(self.start))
        address = TEXTS.function(instance(effective_address))(self.start.block.address, self.fields)
        self.symbols.addresses[name] = bits_of(address)
        is_stack = self.start.terms.symbol("decoded.is_stack", 1)
        self.symbols.segments[name] = self.start.terms.concat([(1, 2), (is_stack, 1)])

    def _immediate(self, name: str, kind: OperandKind) -> Vector:
        """The operand's value, with any bits above its width."""
        terms, value, width = self.start.terms, self.symbols.values[name], kind.width or 64
        high = terms.symbol("decoded.immediate", 64)
        if width == 64:
            return value
        return terms.concat([(terms.extract(high, 63, width), 64 - width), (value, width)])

    def hypotheses(self) -> Iterator[Truth]:
        """What holds of all decoded instructions."""
        yield from self.symbols.hypotheses()
        yield from self.start.terms.facts()
        if self.handled.handler.flow != REPEAT:
            yield self.start.terms.negation(self._has_resume_flag())
        if self.handled.handler.flow in (BRANCH, CONDITIONAL):
            yield is_canonical(self.start.terms, cast(Vector, self.fields.fields[decoded.IMMEDIATE]))

    def _has_resume_flag(self) -> Truth:
        """RFLAGS.RF, with which only an instruction that repeats itself is run again."""
        flags = cast(Vector, self.start.block.state.get(FLAGS))
        return self.start.terms.bit(flags, 16, 64, 64)

    # --- the two runs ---

    def _run_specification(self) -> None:
        start = self.start
        accesses = replace(start.accesses, failures=self.failures)
        self.evaluator = ReferenceEvaluator(start.program, start.terms, overrides=accesses.overrides())
        self.evaluator.operands = SymbolicOperands(self.evaluator, self.symbols)
        begin = start.resumed if self.handled.handler.flow == REPEAT else start.block.state
        cursor, exits = Cursor(begin.copy(), {}), list[Exit]()
        cursor.state.set(NEXT_RIP, cast(Vector, self.fields.fields[decoded.NEXT]))
        self.evaluator.run(self.handled.form.body.body, cursor, exits)
        cursor.leave(RETURN, None, None, exits)
        returned = [e for e in exits if e.kind == RETURN]
        self.completed = start.block.state
        if returned:
            merged = Paths(start.terms).merge_exits(returned, None, Cursor(begin, {}))
            self.completes, self.completed = merged.condition, merged.state

    def _run_handler(self) -> Iterator[Path]:
        handler = self.handled.handler
        function = TEXTS.function(instance(handler.function, dict(handler.bindings)))

        def act() -> tuple[Block, int | Word]:
            block = self.start.block.copy()
            return block, function(block.address, self.fields)

        for condition, (block, outcome) in self.start.paths.explore(act):
            yield self._path(condition, block, outcome)

    def _path(self, condition: Truth, block: Block, outcome: int | Word) -> Path:
        """What the routine around the handler makes of its outcome.  fastmodel/loop.py"""
        terms = self.start.terms
        block.state.set(FLAGS, flags_of(block))
        if isinstance(outcome, int) and outcome == REFUSED:
            return Path(condition, False, True, block.state)
        goes_on = terms.equal(bits_of(outcome), DONE, 64)
        is_sound, rip = goes_on, cast(Vector, self.fields.fields[decoded.NEXT])
        flow = self.handled.handler.flow
        if flow in (BRANCH, CONDITIONAL, REPEAT):
            is_sound = terms.disjunction((goes_on, terms.equal(bits_of(outcome), TAKEN, 64)))
            rip = terms.choose(goes_on, rip, cast(Vector, self.fields.fields[decoded.IMMEDIATE]), 64)
        elif flow == JUMP:
            rip = block.word(layout.RIP)
        block.state.set(NEXT_RIP, rip)
        return Path(condition, True, is_sound, block.state)

    # --- what must hold ---

    def _compare(self, path: Path) -> Iterator[Difference]:
        """The states after a path and, if it completes, after the specification's instruction; else before both."""
        expected = self.completed if path.completes else self.start.block.state
        condition = self.start.terms.conjunction((path.condition, self.completes if path.completes else True))
        for name in dict.fromkeys((*expected.changed, *path.state.changed)):
            yield self._compare_item(condition, name, expected, path.state)

    def _compare_item(self, condition: Truth, name: str, expected: State, found: State) -> Difference:
        """One item; indexed state and memory at an arbitrary point."""
        terms = self.start.terms
        if name == LINEAR:
            point: Point = (terms.symbol("LINEAR.address", LINEAR_WIDTH),)
            type_: ir.Type = BYTE
        else:
            variable = self.start.program.state[name]
            point = tuple(fresh(terms, f"{name}.{p.name}", p.type) for p in variable.indices)
            type_ = variable.type
        if not point:
            left, right = expected.get(name), found.get(name)
        elif expected.elements(name) is found.elements(name):
            left = right = expected.elements(name).read(point)
        else:
            left, right = expected.elements(name).read(point), found.elements(name).read(point)
        return Difference(condition, name, point, left, right, type_, equal(terms, left, right, type_))

    def conclusion(self) -> Truth:
        """The theorem as one term."""
        terms = self.start.terms
        decisions = [
            self._on_path(path.condition, terms.conjunction((path.is_sound, self.completes)))
            for path in self.paths
            if path.completes
        ]
        wanted = (self._by_count(d, self._on_path(d.condition, d.is_equal)) for d in self.differences)
        return terms.conjunction((*decisions, *wanted))

    def _on_path(self, condition: Truth, claim: Truth) -> Truth:
        """The claim where a path's condition holds.

        With divisions, what the condition says of terms is put into the claim: then both sides divide the same terms.
        """
        terms = self.start.terms
        if not terms.divides or isinstance(condition, bool) or isinstance(claim, bool):
            return terms.implies(condition, claim)
        known = terms.conjunction(terms.facts())
        return terms.implies(condition, simplified_where(condition, terms.implies(known, claim)))

    def _by_count(self, difference: Difference, claim: Truth) -> Truth:
        """A claim about what was shifted, as one claim for each distance, which leaves no shift by an unknown number.

        For the flags, and for short operands, one claim is solved faster than many.
        """
        count = self._count()
        bits = COUNT_BITS.get(self.handled.form.kinds[0].width or 0) if self.handled.form.kinds else None
        if count is None or bits is None or isinstance(claim, bool) or difference.name == FLAGS:
            return claim
        terms = self.start.terms
        low, high = terms.extract(count, bits - 1, 0), terms.extract(count, 7, bits)
        return terms.conjunction(
            terms.implies(
                terms.equal(low, n, bits), _known(claim, count, terms.concat([(high, 8 - bits), (n, bits)]))
            )
            for n in range(1 << bits)
        )

    def _count(self) -> z3.BitVecRef | None:
        """The operand that says how far to shift, if there is one that is not known."""
        if COUNT not in self.symbols.kinds():
            return None
        count = SymbolicOperands(self.evaluator, self.symbols).read(
            COUNT, Cursor(self.start.block.state, {}), []
        )
        return count if isinstance(count, z3.BitVecRef) else None


def _known(claim: z3.BoolRef, old: z3.BitVecRef, new: Vector) -> Truth:
    """The claim with a term replaced by an equal one."""
    known = z3.simplify(z3.substitute(claim, (old, cast(z3.BitVecRef, new))))
    return True if z3.is_true(known) else cast(Truth, known)


def simplified_where(condition: z3.BoolRef, claim: Truth) -> Truth:
    """The claim with the atoms of a condition, and the terms that it says are equal to others, replaced."""
    claim = cast(z3.BoolRef, z3.simplify(cast(z3.BoolRef, claim)))
    for _ in range(2):
        pairs = [pair for atom in conjuncts(z3.simplify(condition)) for pair in _replacements(atom)]
        claim = cast(z3.BoolRef, z3.simplify(z3.substitute(claim, *pairs)))
    return True if z3.is_true(claim) else claim


def _replacements(atom: z3.BoolRef) -> Iterator[tuple[z3.ExprRef, z3.ExprRef]]:
    """What is known where the atom holds; of two bits that differ, one is the other's complement."""
    is_negated = z3.is_not(atom)
    inner = atom.arg(0) if is_negated else atom
    if z3.is_eq(inner):
        left, right = inner.children()
        if z3.is_bv_value(left):
            left, right = right, left
        if not is_negated:
            yield left, right
        elif z3.is_bv(left) and left.size() == 1:
            yield left, ~right
    yield inner, z3.BoolVal(not is_negated, atom.ctx)


def memory_fields(start: Start) -> dict[int, Vector | RegisterOffset]:
    """The fields of a decoded instruction that say where a memory operand is: symbols."""
    terms = start.terms
    scale = terms.symbol("decoded.scale", 2)
    return {
        decoded.BASE: _optional_register(start, "base"),
        decoded.INDEX: _optional_register(start, "index"),
        decoded.SCALE: terms.extend(scale, 2, 64, is_signed=False),
        decoded.DISPLACEMENT: terms.symbol("decoded.displacement", 64),
    }


def _optional_register(start: Start, name: str) -> RegisterOffset:
    number = start.terms.symbol(f"decoded.{name}", 4)
    return RegisterOffset(number, is_present=start.terms.bool_symbol(f"decoded.has_{name}"))
