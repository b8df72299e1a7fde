"""Expressions of the restricted Python → LLVM IR."""

from __future__ import annotations

import ast
from dataclasses import replace

from fastmodel.compiler import primitives
from fastmodel.compiler.convention import Convention
from fastmodel.compiler.program import Instance, Names, SubsetError, fold, offset_in_block, reaches

OPERATORS = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.BitAnd: "and",
    ast.BitOr: "or",
    ast.BitXor: "xor",
    ast.LShift: "shl",
    ast.RShift: "ashr",
}
SHIFTS = frozenset({"shl", "ashr", "lshr"})
COMPARISONS = {ast.Eq: "eq", ast.NotEq: "ne", ast.Lt: "slt", ast.LtE: "sle", ast.Gt: "sgt", ast.GtE: "sge"}

DIVISIONS: dict[object, str] = {primitives.quotient: "udiv", primitives.remainder: "urem"}
HIGH_PRODUCTS: dict[object, str] = {primitives.high_product: "zext", primitives.signed_high_product: "sext"}
BIT_SCANS: dict[object, str] = {primitives.lowest_bit: "cttz", primitives.highest_bit: "ctlz"}

# Kinds of memory for alias analysis: metadata numbers of the preamble.
READS = {primitives.get: 1, primitives.load: 2, primitives.field: 3}
WRITES = {primitives.put: 1, primitives.store: 2, primitives.set_field: 3}


class ExpressionWriter:
    """Writes the instructions of one function, block by block."""

    def __init__(self, inside: Instance, names: Names, convention: Convention) -> None:
        self.inside = inside
        self.source = inside.source
        self.names = names
        self.convention = convention
        self.pinned = convention.pinned if inside.pinned else ()  # what of the state block is held in locals
        self.lines: list[str] = []
        self.count = 0
        self.ended = False  # whether the current block has its terminator

    def emit(self, line: str) -> None:
        """Adds a line to the current block, unless that has ended."""
        if not self.ended:
            self.lines.append(f"  {line}")

    def value(self, operation: str) -> str:
        """Adds an operation; returns the name of its result."""
        self.count += 1
        self.emit(f"%.{self.count} = {operation}")
        return f"%.{self.count}"

    def label(self) -> str:
        """A fresh name for a block."""
        self.count += 1
        return f"b{self.count}"

    def begin(self, label: str) -> None:
        """Starts a block; the one before runs into it unless it has ended."""
        self.jump(label)
        self.lines.append(f"{label}:")
        self.ended = False

    def jump(self, label: str) -> None:
        """Ends the block with a jump."""
        self.emit(f"br label %{label}")
        self.ended = True

    def branch(self, condition: str, then: str, otherwise: str) -> None:
        """Ends the block with a choice."""
        self.emit(f"br i1 {condition}, label %{then}, label %{otherwise}")
        self.ended = True

    def error(self, node: ast.AST, message: str) -> SubsetError:
        """An error at a place in the text."""
        return self.source.error(node, message)

    # --- expressions ---

    def known(self, node: ast.expr) -> int | None:
        """The value of an expression if it is known already."""
        return fold(node, self.inside)

    def slot(self, name: str) -> str:
        """Where a local lives."""
        return f"%{name}.slot"

    def integer(self, node: ast.expr) -> str:
        """An expression that is an integer."""
        known = self.known(node)
        if known is not None and not isinstance(known, bool):
            return str(primitives.wrap(known))
        match node:
            case ast.Name(id=name) if name in self.source.locals:
                return self.value(f"load i64, ptr {self.slot(name)}")
            case ast.Name(id=name):
                raise self.error(node, f"{name} is no number here")
            case ast.BinOp(left=left, op=operator, right=right) if type(operator) in OPERATORS:
                return self.operation(OPERATORS[type(operator)], self.integer(left), self.integer(right))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self.value(f"sub i64 0, {self.integer(operand)}")
            case ast.UnaryOp(op=ast.Invert(), operand=operand):
                return self.value(f"xor i64 {self.integer(operand)}, -1")
            case ast.IfExp():
                return self.choice(node, "i64")
            case ast.Call():
                kind, value = self.call(node)
                if kind == "i64":
                    return value
        raise self.error(node, "an integer is expected here")

    def operation(self, name: str, left: str, right: str) -> str:
        """A binary operation; shift amounts count modulo 64."""
        if name in SHIFTS:
            right = str(int(right) & 63) if right.isdigit() else self.value(f"and i64 {right}, 63")
        return self.value(f"{name} i64 {left}, {right}")

    def condition(self, node: ast.expr) -> str:
        """An expression that is a condition."""
        known = self.known(node)
        if isinstance(known, bool):
            return "true" if known else "false"
        match node:
            case ast.Compare(left=left, ops=[operator], comparators=[right]) if type(operator) in COMPARISONS:
                return self.value(
                    f"icmp {COMPARISONS[type(operator)]} i64 {self.integer(left)}, {self.integer(right)}"
                )
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return self.value(f"xor i1 {self.condition(operand)}, true")
            case ast.BoolOp(op=operator, values=[first, *rest]):
                return self.chain(isinstance(operator, ast.And), first, rest)
            case ast.IfExp():
                return self.choice(node, "i1")
            case ast.Call():
                kind, value = self.call(node)
                if kind == "i1":
                    return value
        raise self.error(node, "a condition is expected here; compare the integer with 0")

    def chain(self, is_and: bool, first: ast.expr, rest: list[ast.expr]) -> str:
        """`and` and `or`, which stop at the first value that decides."""
        end = self.label()
        decided = "false" if is_and else "true"
        incoming = []
        value = self.condition(first)
        for following in rest:
            here, more = self.label(), self.label()
            self.begin(here)
            incoming.append(f"[ {decided}, %{here} ]")
            self.branch(value, *((more, end) if is_and else (end, more)))
            self.begin(more)
            value = self.condition(following)
        here = self.label()
        self.begin(here)
        incoming.append(f"[ {value}, %{here} ]")
        self.begin(end)
        return self.value(f"phi i1 {', '.join(incoming)}")

    def choice(self, node: ast.IfExp, kind: str) -> str:
        """`a if c else b`."""
        decided = self.known(node.test)
        evaluate = self.integer if kind == "i64" else self.condition
        if decided is not None:
            return evaluate(node.body if decided else node.orelse)
        condition = self.condition(node.test)
        then, otherwise, end = self.label(), self.label(), self.label()
        self.branch(condition, then, otherwise)
        incoming = []
        for label, part in ((then, node.body), (otherwise, node.orelse)):
            self.begin(label)
            value = evaluate(part)
            here = self.label()
            self.begin(here)
            incoming.append(f"[ {value}, %{here} ]")
            self.jump(end)
        self.begin(end)
        return self.value(f"phi {kind} {', '.join(incoming)}")

    # --- calls ---

    def word(self, node: ast.Call) -> object:
        """The function that a call names."""
        if not isinstance(node.func, ast.Name) or node.keywords:
            raise self.error(node, "only plain calls of named functions are possible")
        function = self.inside.resolve(node.func.id)
        if function is None or isinstance(function, int):
            raise self.error(node, f"{node.func.id} is no function of a text")
        return function

    def call(self, node: ast.Call) -> tuple[str, str]:
        """A call: the type and name of its result."""
        function = self.word(node)
        if function in READS:
            return "i64", self.read_memory(node, READS[function])
        if function in WRITES:
            self.write_memory(node, WRITES[function])
            return "none", ""
        if function in DIVISIONS or function in HIGH_PRODUCTS or function in BIT_SCANS:
            return "i64", self.computation(function, [self.integer(a) for a in node.args])
        match function:
            case primitives.signed | primitives.unsigned:
                return "i64", self.extension(node, "sext" if function is primitives.signed else "zext")
            case primitives.shift_right:
                left, right = (self.integer(a) for a in node.args)
                return "i64", self.operation("lshr", left, right)
            case primitives.below:
                left, right = (self.integer(a) for a in node.args)
                return "i1", self.value(f"icmp ult i64 {left}, {right}")
            case primitives.bit:
                return "i64", self.value(f"zext i1 {self.condition(node.args[0])} to i64")
            case primitives.not_zero:
                value = self.integer(node.args[0])
                self.emit(f"call void @llvm.assume(i1 {self.value(f'icmp ne i64 {value}, 0')})")
                return "i64", value
            case primitives.invoke:
                return "i64", self.invocation("call", node)
            case primitives.proceed:
                raise self.error(node, "proceed() must stand in a return statement")
        return self.text_call(node)

    def computation(self, function: object, values: list[str]) -> str:
        """`quotient`, `remainder`, the high products and the scans for a bit."""
        if function in DIVISIONS:
            return self.value(f"{DIVISIONS[function]} i64 {values[0]}, {values[1]}")
        if function in HIGH_PRODUCTS:
            left, right = (self.value(f"{HIGH_PRODUCTS[function]} i64 {v} to i128") for v in values)
            product = self.value(f"mul i128 {left}, {right}")
            high = self.value(f"lshr i128 {product}, 64")
            return self.value(f"trunc i128 {high} to i64")
        found = self.value(f"call i64 @llvm.{BIT_SCANS[function]}.i64(i64 {values[0]}, i1 true)")
        return self.value(f"xor i64 {found}, 63") if BIT_SCANS[function] == "ctlz" else found

    def text_call(self, node: ast.Call) -> tuple[str, str]:
        """A call of a function of the text."""
        assert isinstance(node.func, ast.Name)
        target = self.inside.resolve(node.func.id)
        assert target is not None
        assert not isinstance(target, int)
        callee = self.inside.callee(target)
        if len(node.args) != len(callee.source.parameters):
            raise self.error(node, f"{node.func.id} takes {len(callee.source.parameters)} arguments")
        arguments = [f"i64 {self.integer(a)}" for a in node.args]
        kind = "i1" if callee.source.returns_bool else "i64"
        convention = self.convention.of(callee.source)
        shares = bool(self.pinned) and reaches(callee, frozenset(self.pinned))
        is_slow = "slow" in callee.source.marks
        if shares and is_slow:
            self.unpin()
        elif shares:
            callee = replace(callee, pinned=True)
            arguments += [f"ptr {pinned_slot(offset)}" for offset in self.pinned]
        name, passed = quoted(self.names.of(callee)), ", ".join(arguments)
        result = self.value(f"call {convention} {kind} @{name}({passed})")
        if shares and is_slow:
            self.pin()
        return kind, result

    def unpin(self) -> None:
        """Writes the words that are held to the state block, for a function that looks for them there."""
        for offset in self.pinned:
            held = self.value(f"load i64, ptr {pinned_slot(offset)}")
            self.emit(f"store i64 {held}, ptr {self.block_word(offset)}, !tbaa !{READS[primitives.get]}")

    def pin(self) -> None:
        """Reads the words that are held from the state block."""
        for offset in self.pinned:
            self.emit(f"store i64 {self.block_value(offset)}, ptr {pinned_slot(offset)}")

    def block_word(self, offset: int) -> str:
        """The address of a word of the state block."""
        address = self.value(f"add i64 %state, {offset}")
        return self.value(f"inttoptr i64 {address} to ptr")

    def block_value(self, offset: int) -> str:
        """A word of the state block."""
        return self.value(f"load i64, ptr {self.block_word(offset)}, !tbaa !{READS[primitives.get]}")

    def invocation(self, how: str, node: ast.Call) -> str:
        """A call of the routine that stands at a place."""
        return self.invoked(how, [self.integer(a) for a in node.args])

    def invoked(self, how: str, arguments: list[str]) -> str:
        """As `invocation`, with the arguments computed."""
        word = self.value(f"inttoptr i64 {arguments[1]} to ptr")
        routine = self.value(f"load ptr, ptr {word}, align 8, !tbaa !{READS[primitives.field]}")
        passed = ", ".join(f"i64 {a}" for a in (*arguments, *self.handed_on()))
        return self.value(f"{how} {self.convention.routine} i64 {routine}({passed})")

    def handed_on(self) -> list[str]:
        """The pinned words, which every routine is given."""
        if self.pinned:
            return [self.value(f"load i64, ptr {pinned_slot(offset)}") for offset in self.pinned]
        return [self.block_value(offset) for offset in self.convention.pinned]

    def pinned_offset(self, node: ast.Call) -> int | None:
        """The offset of the word that is read or written, if it is held."""
        offset = offset_in_block(node.args[1], self.inside)
        return offset if offset in self.pinned else None

    def read_memory(self, node: ast.Call, kind: int) -> str:
        """`get`, `load` and `field`."""
        pinned = self.pinned_offset(node)
        if pinned is not None:
            return self.value(f"load i64, ptr {pinned_slot(pinned)}")
        width, address = self.width(node), self.pointer(node.args[1])
        read = self.value(f"load i{width}, ptr {address}, align 1, !tbaa !{kind}")
        return read if width == 64 else self.value(f"zext i{width} {read} to i64")

    def write_memory(self, node: ast.Call, kind: int) -> None:
        """`put`, `store` and `set_field`."""
        pinned = self.pinned_offset(node)
        if pinned is not None:
            self.emit(f"store i64 {self.integer(node.args[2])}, ptr {pinned_slot(pinned)}")
            return
        width, address = self.width(node), self.pointer(node.args[1])
        value = self.integer(node.args[2])
        if width != 64:
            value = self.value(f"trunc i64 {value} to i{width}")
        self.emit(f"store i{width} {value}, ptr {address}, align 1, !tbaa !{kind}")

    def extension(self, node: ast.Call, how: str) -> str:
        """`signed` and `unsigned`."""
        width, value = self.width(node), self.integer(node.args[1])
        if width == 64:
            return value
        narrow = self.value(f"trunc i64 {value} to i{width}")
        return self.value(f"{how} i{width} {narrow} to i64")

    def width(self, node: ast.Call) -> int:
        """The first argument of a word: a constant width."""
        width = self.known(node.args[0]) if node.args else None
        if width is None or not 1 <= width <= 64:
            raise self.error(node, "the width must be a constant from 1 to 64")
        return width

    def pointer(self, node: ast.expr) -> str:
        """An address as an LLVM pointer."""
        return self.value(f"inttoptr i64 {self.integer(node)} to ptr")


def pinned_slot(offset: int) -> str:
    """Where a function holds a pinned word."""
    return f"%pinned{offset}"


def quoted(name: str) -> str:
    """A name as LLVM writes it if it is not a plain word."""
    return f'"{name}"'
