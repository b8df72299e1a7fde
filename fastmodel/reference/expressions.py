"""Expressions of the specification as LLVM instructions.

Both sides of `and`, `or` and a conditional expression are computed: expressions have no effects there, and none
has an undefined result: division by zero and shifts by the width or more are what SMT-LIB says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fastmodel.reference.contents import Contents
from fastmodel.reference.layout import OFFSET
from fastmodel.reference.records import operand_offset
from fastmodel.reference.state import STATE, StateWriter
from fastmodel.reference.types import field_index, llvm_type
from grammar import ir
from refmodel.generate.bounds import width_of

RECORD = "%record"

_PLAIN = {"+": "add", "-": "sub", "*": "mul", "&": "and", "|": "or", "^": "xor", "and": "and", "or": "or"}
_COMPARISONS = {
    "==": "eq",
    "!=": "ne",
    "<": "ult",
    "<=": "ule",
    ">": "ugt",
    ">=": "uge",
    "<s": "slt",
    "<=s": "sle",
    ">s": "sgt",
    ">=s": "sge",
}
_SHIFTS = {"<<": "shl", ">>": "lshr", ">>s": "ashr"}


class ExpressionWriter(StateWriter):
    """Writes expressions of one function.  `operands` are those of the instruction, by position.

    `updated` names the operands that are both read and written: their reads announce the write.
    """

    def __init__(
        self, module: Contents, operands: tuple[str, ...] = (), updated: frozenset[str] = frozenset()
    ) -> None:
        super().__init__(module)
        self._operands = operands
        self._updated = updated
        self.abort_label = "aborted"
        self._kinds: dict[type, Callable[[Any], str]] = {
            ir.Literal: self._literal,
            ir.Local: self._local,
            ir.Read: self._read,
            ir.ReadMemory: self._read_memory,
            ir.FieldOf: self._field_of,
            ir.Slice: lambda e: self.cut(self.of(e.base), width_of(e.base.type), e.high, e.low),
            ir.Bit: self._bit,
            ir.Unary: self._unary,
            ir.Binary: self._binary,
            ir.Concat: self._concat,
            ir.Extend: self._extend,
            ir.Cast: lambda e: self.of(e.base),
            ir.Conditional: self._conditional,
            ir.ForAll: self._for_all,
            ir.MakeStruct: lambda e: self._insert(e.type, "undef", enumerate(e.values)),
            ir.UpdateStruct: self._update_struct,
            ir.UpdateBits: self._update_bits,
            ir.Call: self._call,
            ir.OperandRead: self._operand_read,
            ir.OperandAttribute: self._operand_attribute,
            ir.InstructionProperty: self._instruction_property,
            ir.Undefined: lambda e: self.of(e.value),
            ir.Holds: lambda e: self.value(f"call i1 @holds_{e.group}(ptr {STATE})"),
        }

    def of(self, expression: ir.Expr) -> str:
        """The name of the expression's value, or a constant."""
        return self._kinds[type(expression)](expression)

    def typed(self, expression: ir.Expr) -> str:
        """The value with its type before it."""
        return f"{llvm_type(expression.type)} {self.of(expression)}"

    def leave_if_aborted(self) -> None:
        """Goes to where aborts are caught, or out of the function, if one is on its way."""
        abort = self.load_header("ABORT")
        on = self.label()
        self.branch(self.value(f"icmp eq i64 {abort}, 0"), on, self.abort_label)
        self.begin(on)

    # --- names and state --------------------------------------------------------------------------

    @staticmethod
    def _literal(e: ir.Literal) -> str:
        return str(int(e.value))

    def _local(self, e: ir.Local) -> str:
        type_ = llvm_type(e.type)
        return self.value(f"load {type_}, ptr {self.slot(e.name, type_)}")

    def _read(self, e: ir.Read) -> str:
        variable = self.module.program.state[e.name]
        if variable.space == "ghost":  # nothing is ever written to them
            return "0"
        return self.read_variable(e.name, [self.typed(index) for index in e.indices])

    def _read_memory(self, e: ir.ReadMemory) -> str:
        width = e.type.width
        self.module.memory_widths.add(width)
        return self.value(f"call i{width} @read_memory_{width}(ptr {STATE}, {self.typed(e.address)})")

    # --- operators --------------------------------------------------------------------------------

    def _unary(self, e: ir.Unary) -> str:
        operand, type_ = self.of(e.operand), llvm_type(e.type)
        return self.value(f"sub {type_} 0, {operand}" if e.op == "-" else f"xor {type_} {operand}, -1")

    def _binary(self, e: ir.Binary) -> str:
        left, type_ = self.of(e.left), llvm_type(e.left.type)
        if e.op in _SHIFTS:
            return self._shift(_SHIFTS[e.op], left, width_of(e.left.type), e.right)
        right = self.of(e.right)
        if e.op in _PLAIN:
            return self.value(f"{_PLAIN[e.op]} {type_} {left}, {right}")
        if e.op in _COMPARISONS:
            return self.value(f"icmp {_COMPARISONS[e.op]} {type_} {left}, {right}")
        return self._divide(e.op, width_of(e.left.type), left, right)

    def _divide(self, op: str, width: int, left: str, right: str) -> str:
        """By zero: all ones, and the dividend.

        LLVM calls a library's function to divide 128 bits, which is not linked; wider divisions it writes out.
        """
        is_zero = self.value(f"icmp eq i{width} {right}, 0")
        divisor = self.value(f"select i1 {is_zero}, i{width} 1, i{width} {right}")
        wide = 256 if 64 < width <= 128 else width
        dividend, divisor = self.resized(left, width, wide), self.resized(divisor, width, wide)
        divided = self.value(f"{'udiv' if op == '/' else 'urem'} i{wide} {dividend}, {divisor}")
        result = self.resized(divided, wide, width)
        return self.value(f"select i1 {is_zero}, i{width} {'-1' if op == '/' else left}, i{width} {result}")

    def _shift(self, operation: str, value: str, width: int, amount: ir.Expr) -> str:
        most = width - 1 if operation == "ashr" else 0
        if isinstance(amount, ir.Literal):
            if amount.value < width:
                return self.value(f"{operation} i{width} {value}, {amount.value}")
            return self.value(f"ashr i{width} {value}, {most}") if most else "0"
        given, bits = self.of(amount), width_of(amount.type)
        by = self.resized(given, bits, width)
        if width >= 1 << bits:
            return self.value(f"{operation} i{width} {value}, {by}")
        too_far = self.value(f"icmp uge i{bits} {given}, {width}")
        by = self.value(f"select i1 {too_far}, i{width} {most}, i{width} {by}")
        shifted = self.value(f"{operation} i{width} {value}, {by}")
        if operation == "ashr":
            return shifted
        return self.value(f"select i1 {too_far}, i{width} 0, i{width} {shifted}")

    def _conditional(self, e: ir.Conditional) -> str:
        condition = self.of(e.condition)
        return self.value(f"select i1 {condition}, {self.typed(e.then)}, {self.typed(e.otherwise)}")

    def _for_all(self, e: ir.ForAll) -> str:
        """A loop that ends at the first value of which the condition is false."""
        type_, body, end = llvm_type(e.first.type), self.label(), self.label()
        value, result = self.slot(e.name, type_), self.slot(f"for all {e.name}", "i1")
        first, last = self.of(e.first), self.of(e.last)
        self.emit(f"store {type_} {first}, ptr {value}")
        self.emit(f"store i1 true, ptr {result}")
        self.branch(self.value(f"icmp ule {type_} {first}, {last}"), body, end)
        self.begin(body)
        holds = self.of(e.condition)
        self.emit(f"store i1 {holds}, ptr {result}")
        here = self.value(f"load {type_}, ptr {value}")
        self.emit(f"store {type_} {self.value(f'add {type_} {here}, 1')}, ptr {value}")
        has_more = self.value(f"icmp ult {type_} {here}, {last}")
        self.branch(self.value(f"and i1 {holds}, {has_more}"), body, end)
        self.begin(end)
        return self.value(f"load i1, ptr {result}")

    # --- parts of vectors -------------------------------------------------------------------------

    def resized(self, value: str, width: int, wanted: int) -> str:
        """A vector widened by zeros, or its low bits."""
        if width == wanted:
            return value
        return self.value(f"{'zext' if width < wanted else 'trunc'} i{width} {value} to i{wanted}")

    def cut(self, value: str, width: int, high: int, low: int) -> str:
        """Bits `high` to `low`."""
        if low:
            value = self.value(f"lshr i{width} {value}, {low}")
        return self.resized(value, width, high - low + 1)

    def _bit(self, e: ir.Bit) -> str:
        width = width_of(e.base.type)
        if isinstance(e.index, ir.Literal) and e.index.value >= width:
            return "0"
        return self.resized(self._shift("lshr", self.of(e.base), width, e.index), width, 1)

    def _concat(self, e: ir.Concat) -> str:
        whole, position = "0", e.type.width
        for part in e.parts:
            width = width_of(part.type)
            position -= width
            whole = self._joined(whole, self.of(part), width, position, e.type.width)
        return whole

    def _joined(self, whole: str, part: str, width: int, position: int, wanted: int) -> str:
        """A vector with a part in the place of zeros."""
        part = self.resized(part, width, wanted)
        if position:
            part = self.value(f"shl i{wanted} {part}, {position}")
        return self.value(f"or i{wanted} {whole}, {part}")

    def _extend(self, e: ir.Extend) -> str:
        base, width = self.of(e.base), width_of(e.base.type)
        if e.signed and width < e.type.width:
            return self.value(f"sext i{width} {base} to i{e.type.width}")
        return self.resized(base, width, e.type.width)

    def _update_bits(self, e: ir.UpdateBits) -> str:
        width = width_of(e.type)
        changed = sum(((1 << high - low + 1) - 1) << low for high, low, _ in e.changes)
        kept = (1 << width) - 1 & ~changed
        whole = self.value(f"and i{width} {self.of(e.base)}, {kept}")
        for high, low, value in e.changes:
            whole = self._joined(whole, self.of(value), high - low + 1, low, width)
        return whole

    # --- structs ----------------------------------------------------------------------------------

    def _field_of(self, e: ir.FieldOf) -> str:
        assert isinstance(e.base.type, ir.Struct)
        return self.value(f"extractvalue {self.typed(e.base)}, {field_index(e.base.type, e.name)}")

    def _update_struct(self, e: ir.UpdateStruct) -> str:
        changes = ((field_index(e.type, name), value) for name, value in e.changes)
        return self._insert(e.type, self.of(e.base), changes)

    def _insert(self, type_: ir.Struct, whole: str, parts: Iterable[tuple[int, ir.Expr]]) -> str:
        for number, part in parts:
            whole = self.value(f"insertvalue {llvm_type(type_)} {whole}, {self.typed(part)}, {number}")
        return whole

    # --- calls and operands -----------------------------------------------------------------------

    def _call(self, e: ir.Call) -> str:
        function = self.module.program.functions[e.function]
        arguments = ", ".join([f"ptr {STATE}", *(self.typed(argument) for argument in e.arguments)])
        call = f"call {llvm_type(function.result)} {self.module.function(e.function)}({arguments})"
        result = ""
        if function.result is None:
            self.emit(call)
        else:
            result = self.value(call)
        if function.raises:
            self.leave_if_aborted()
        return result

    def operand(self, name: str) -> str:
        """A pointer to the record of an operand."""
        return self.address(RECORD, operand_offset(self._operands.index(name)))

    def _operand_read(self, e: ir.OperandRead) -> str:
        access = "modify" if e.name in self._updated else "read"
        function = self.module.operand_access(access, e.type.width)
        result = self.value(f"call i{e.type.width} {function}(ptr {STATE}, ptr {self.operand(e.name)})")
        self.leave_if_aborted()
        return result

    def _operand_attribute(self, e: ir.OperandAttribute) -> str:
        width = width_of(e.type)
        operand = self.operand(e.name)
        whole = self.value(f"call i64 @operand_{e.attribute}(ptr {STATE}, ptr {operand})")
        return self.resized(whole, 64, width)

    def _instruction_property(self, e: ir.InstructionProperty) -> str:
        assert e.name.upper() in OFFSET
        return self.resized(self.load_header(e.name.upper()), 64, e.type.width)
