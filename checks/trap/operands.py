"""Symbolic operands: register numbers, addresses and immediates are symbols that all runs of a form share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

from checks.symbolic.evaluate import Evaluator
from checks.symbolic.paths import Cursor, Exits
from checks.symbolic.state import Elements
from checks.symbolic.terms import Terms, Truth, Vector
from checks.symbolic.values import Value, choose
from checks.trap.forms import Form, OperandKind, Place
from checks.trap.runs import Settings
from grammar import ir
from refmodel.encoding import REP, REPNE

CODE_SIZE = "code_size"
"""The function that says what code the processor is in."""
FUNCTIONS = frozenset(
    {
        *("read_register", "write_register", "read_high_byte", "write_high_byte"),
        *("read_memory_operand", "modify_memory_operand", "write_memory_operand"),
    }
)
"""The functions of the specification by which operands are read and written."""


@dataclass(slots=True)
class OperandSymbols:
    """The symbols of a form: `number`, `address`, `segment` and `value` by operand name.

    An operand's address, its displacement and its addressing are symbols of their own: proofs hold for all encodings of
    an address, and for words of instruction information that no encoding gives.
    `has_rex` decides what the byte registers 4 to 7 are; `length` is the instruction's length in bytes; `address_size`
    and `operand_size` are 16, 32 or 64, and `repeat` is the prefix F2 or F3, or 0. `registers` are the general
    registers at the start, one of which holds the address of a string operand; `code_size` says what code the
    instruction is in.
    """

    terms: Terms
    form: Form
    registers: Elements
    code_size: Vector = 64
    numbers: dict[str, Vector] = field(default_factory=dict)
    addresses: dict[str, Vector] = field(default_factory=dict)
    segments: dict[str, Vector] = field(default_factory=dict)
    displacements: dict[str, Vector] = field(default_factory=dict)
    addressings: dict[str, Vector] = field(default_factory=dict)
    values: dict[str, Vector] = field(default_factory=dict)
    has_rex: Truth = field(init=False)
    length: Vector = field(init=False)
    address_size: Vector = field(init=False)
    operand_size: Vector = field(init=False)
    repeat: Vector = field(init=False)

    @classmethod
    def of(cls, settings: Settings, form: Form) -> OperandSymbols:
        """The symbols of a form in a group, in code of the size that the start states say."""
        function = settings.program.functions[CODE_SIZE]
        evaluator = Evaluator(settings.program, settings.terms)
        code_size = evaluator.call(function, (), Cursor(settings.first, {}), [])
        return cls(settings.terms, form, settings.first.elements("GPR"), cast(Vector, code_size))

    def __post_init__(self) -> None:
        self.has_rex = self.terms.bool_symbol("operands.rex")
        self.length = self.terms.extend(self.terms.symbol("operands.length", 4), 4, 64, is_signed=False)
        other = self.terms.choose(self._is_code(32), 16, 32, 64)
        self.address_size = self._prefixed("address_size", other, self.code_size, 64)
        self.operand_size = self._prefixed("word", 16, self._prefixed("quadword", 64, 32, 64), 64)
        self.repeat = self._prefixed("repeat", REP, self._prefixed("repne", REPNE, 0, 8), 8)
        for name, kind in self.kinds().items():
            self._declare(name, kind)

    def _prefixed(self, name: str, given: Vector, otherwise: Vector, width: int) -> Vector:
        """One value with a prefix, another without."""
        chosen = choose(
            self.terms, self.terms.bool_symbol(f"operands.{name}"), given, otherwise, ir.Bits(width)
        )
        return cast(Vector, chosen)

    def kinds(self) -> dict[str, OperandKind]:
        """The operand kinds by operand name."""
        return dict(zip(self.form.instruction.operands, self.form.kinds, strict=True))

    def _declare(self, name: str, kind: OperandKind) -> None:
        if kind.place in (Place.REGISTER, Place.NUMBER):
            symbol = self.terms.symbol(f"{name}.index", 4)
            self.numbers[name] = symbol if kind.fixed is None else kind.fixed
        elif kind.place is Place.MEMORY:
            self.addresses[name] = self._address(name, kind)
            self.segments[name] = self.terms.symbol(f"{name}.segment", 3)
            self.displacements[name] = self.terms.symbol(f"{name}.displacement", 64)
            self.addressings[name] = self.terms.symbol(f"{name}.addressing", 12)
        elif kind.width is not None:
            symbol = self.terms.symbol(f"{name}.value", kind.width)
            self.values[name] = symbol if kind.fixed is None else kind.fixed

    def _address(self, name: str, kind: OperandKind) -> Vector:
        """A symbol, or what the register holds at which a string operand lies."""
        if kind.fixed is None:
            return self.terms.symbol(f"{name}.address", 64)
        whole = cast(Vector, self.registers.read((kind.fixed,)))
        address = whole
        for size in (32, 16):
            low = self.terms.extend(self.terms.extract(whole, size - 1, 0), size, 64, is_signed=False)
            address = self.terms.choose(self._has_address_size(size), low, address, 64)
        return address

    def base_register(self, name: str) -> Vector:
        """What the register holds that a memory operand's address comes from: for a string operand the one that the
        opcode implies, all of it.
        """
        fixed = self.kinds()[name].fixed
        return self.addresses[name] if fixed is None else cast(Vector, self.registers.read((fixed,)))

    def _has_address_size(self, size: int) -> Truth:
        return self.terms.equal(self.address_size, size, 64)

    def _address_hypotheses(self) -> Iterator[Truth]:
        """An offset in a segment has no more bits than the instruction's addresses.  SDM 1 3.6"""
        for name, kind in self.kinds().items():
            for size in (32, 16) if kind.place is Place.MEMORY and kind.fixed is None else ():
                high = self.terms.extract(self.addresses[name], 63, size)
                fits = self.terms.equal(high, 0, 64 - size)
                yield self.terms.implies(self._has_address_size(size), fits)

    def _is_code(self, size: int) -> Truth:
        return self.terms.equal(self.code_size, size, 64)

    def _code_hypotheses(self) -> Iterator[Truth]:
        """The form exists in this code; outside 64-bit mode there is no REX, and so there are eight registers."""
        terms, is_64_bit = self.terms, self._is_code(64)
        if 64 not in self.form.encoded:
            yield terms.negation(is_64_bit)
        elif len(self.form.encoded) == 1:
            yield is_64_bit
            return
        low = [terms.compare("<", n, 8, 4) for n in self.numbers.values()]
        yield terms.disjunction((is_64_bit, terms.conjunction((terms.negation(self.has_rex), *low))))

    def hypotheses(self) -> list[Truth]:
        """What holds of the symbols of every encoding."""
        terms = self.terms
        kinds = self.kinds()
        limits = [
            (number, 4, kinds[name].limit) for name, number in self.numbers.items() if kinds[name].limit < 16
        ]
        limits += [(segment, 3, kinds[name].limit) for name, segment in self.segments.items()]
        within = [terms.compare("<", value, limit, width) for value, width, limit in limits]
        further = (*self._code_hypotheses(), *self._address_hypotheses())
        return [*within, *(one for one in further if one is not True)]


@dataclass(slots=True)
class SymbolicOperands:
    """Reads and writes the operands of one run, by the functions that the specification has for it."""

    evaluator: Evaluator
    symbols: OperandSymbols

    def attribute(self, name: str, attribute: str) -> Value:
        """`index`, `is_memory`, `address`, `segment`, `displacement` or `addressing`; zero where there is none."""
        if attribute == "is_memory":
            return name in self.symbols.addresses
        sources = {
            "index": self.symbols.numbers,
            "address": self.symbols.addresses,
            "segment": self.symbols.segments,
            "displacement": self.symbols.displacements,
            "addressing": self.symbols.addressings,
        }
        return sources[attribute].get(name, 0)

    def property(self, name: str) -> Vector:
        """`instruction_length`, `address_size`, `operand_size` or `repeat`."""
        symbols = self.symbols
        return {
            "instruction_length": symbols.length,
            "address_size": symbols.address_size,
            "operand_size": symbols.operand_size,
            "repeat": symbols.repeat,
        }[name]

    def read(self, name: str, cursor: Cursor, exits: Exits) -> Value:
        """The operand's value."""
        kind = self.symbols.kinds()[name]
        if kind.place is Place.VALUE:
            return self.symbols.values[name]
        if kind.place is Place.MEMORY:
            use = next(o for o in self.symbols.form.body.operands if o.name == name)
            function = "modify_memory_operand" if use.writes else "read_memory_operand"
            return self._access(function, kind, self._where(name), cursor, exits)
        number = self.symbols.numbers[name]
        low = self._access("read_register", kind, (number,), cursor, exits)
        if not self._may_be_high_byte(kind):
            return low
        high = self._call("read_high_byte", (number,), cursor, exits)
        return choose(self.evaluator.terms, self._is_high_byte(number), high, low, ir.Bits(8))

    def write(self, name: str, value: Value, cursor: Cursor, exits: Exits) -> None:
        """Replaces the operand's value."""
        kind = self.symbols.kinds()[name]
        if kind.place is Place.MEMORY:
            self._access("write_memory_operand", kind, (*self._where(name), value), cursor, exits)
            return
        number = self.symbols.numbers[name]
        if not self._may_be_high_byte(kind):
            self._access("write_register", kind, (number, value), cursor, exits)
            return
        condition = self._is_high_byte(number)
        self.evaluator.either(
            condition,
            lambda branch, out: self._call("write_high_byte", (number, value), branch, out),
            lambda branch, out: self._access("write_register", kind, (number, value), branch, out),
            cursor,
            exits,
        )

    def _where(self, name: str) -> tuple[Value, ...]:
        return self.symbols.segments[name], self.symbols.addresses[name]

    def _may_be_high_byte(self, kind: OperandKind) -> bool:
        return kind.width == 8 and kind.fixed is None

    def _is_high_byte(self, number: Vector) -> Truth:
        """Registers 4 to 7 without REX: AH, CH, DH, BH.  SDM 1 3.4.1.1"""
        terms = self.evaluator.terms
        is_high_number = terms.equal(terms.extract(number, 3, 2), 1, 2)
        return terms.conjunction((terms.negation(self.symbols.has_rex), is_high_number))

    def _access(
        self, source: str, kind: OperandKind, arguments: tuple[Value, ...], cursor: Cursor, exits: Exits
    ) -> Value:
        """Calls the instance of an operand function for the operand's width."""
        return self._call(f"{source}_{kind.width}", arguments, cursor, exits)

    def _call(self, name: str, arguments: tuple[Value, ...], cursor: Cursor, exits: Exits) -> Value:
        function = self.evaluator.program.functions[name]
        return cast(Value, self.evaluator.call(function, arguments, cursor, exits))
