"""Calls compiled in place, with what is known of their arguments: the middle of the partial evaluator.

Addresses in the state block are known offsets; below CONTROLS they are the guest's registers, which live in local
variables.
"""

from __future__ import annotations

import ast
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FunctionType

from fastmodel import state as layout
from fastmodel.compiler import primitives
from fastmodel.compiler.convention import Convention
from fastmodel.compiler.expressions import READS
from fastmodel.compiler.llvm import FunctionWriter
from fastmodel.compiler.program import WORDS, Instance, Names, fold

# Below this offset the block holds what lives in local variables.
CONTROLS = layout.CR3
STATE_BLOCK = READS[primitives.get]


class Untranslatable(Exception):
    """A routine does something with the state block that is only known when it runs."""


@dataclass
class Frame:
    """A call that is compiled into its caller: what is known of its locals, and where the others live."""

    inside: Instance
    numbers: dict[str, int] = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)  # addresses in the state block
    tables: set[str] = field(
        default_factory=set
    )  # addresses in the block, not known, but beyond the registers
    slots: dict[str, str] = field(default_factory=dict)
    result: str = ""  # where the result is put, and where to go then; a routine has neither
    end: str = ""


class FrameWriter(FunctionWriter):
    """Writes the bodies of calls in place."""

    def __init__(self, inside: Instance, convention: Convention) -> None:
        super().__init__(inside, Names(), convention)
        self.frame = Frame(inside)
        self.allocated: list[str] = []
        self.written: set[int] = set()  # offsets of the registers that are written

    @abstractmethod
    def slow_call(self, callee: Instance, node: ast.Call) -> str:
        """A call of a slow function where it lies."""

    @abstractmethod
    def fixed_field(self, width: int, address: int) -> int | None:
        """What `field` reads, if it is known."""

    # --- calls ---

    def text_call(self, node: ast.Call) -> tuple[str, str]:
        """A call of a function of the text: compiled in place, unless it is a slow one."""
        callee = self.callee(node)
        kind = "i1" if callee.source.returns_bool else "i64"
        if "slow" in callee.source.marks:
            return kind, self.slow_call(callee, node)
        frame = self.frame_of(callee, node)
        expression = callee.source.only_expression
        if expression is not None:
            with self.inside_of(frame):
                return kind, self.condition(expression) if kind == "i1" else self.integer(expression)
        frame.result, frame.end = self.allocate(kind), self.label()
        with self.inside_of(frame):
            self.body(self.source.tree.body)
        self.emit("unreachable")
        self.ended = True
        self.lines.append(f"{frame.end}:")
        self.ended = False
        return kind, self.value(f"load {kind}, ptr {frame.result}")

    def callee(self, node: ast.Call) -> Instance:
        """The function of the text that a call names."""
        target = self.word(node)
        assert isinstance(target, FunctionType)
        return self.inside.callee(target)

    def frame_of(self, callee: Instance, node: ast.Call) -> Frame:
        """The frame of a call: what is known of the arguments; the others are computed here."""
        frame = self.known_frame(callee, node)
        for name, argument in zip(callee.source.parameters, node.args, strict=True):
            if name not in frame.numbers and name not in frame.offsets:
                slot = frame.slots[name] = self.allocate("i64")
                self.emit(f"store i64 {self.integer(argument)}, ptr {slot}")
                if self.is_in_tables(argument):
                    frame.tables.add(name)
        return frame

    def known_frame(self, callee: Instance, node: ast.Call) -> Frame:
        """What is known of the arguments of a call."""
        frame = Frame(callee)
        for name, argument in zip(callee.source.parameters, node.args, strict=True):
            if callee.source.assigned[name]:
                continue
            offset = self.offset(argument)
            number = self.known(argument) if offset is None else None
            if offset is not None:
                frame.offsets[name] = offset
            elif number is not None:
                frame.numbers[name] = number
        return frame

    @contextmanager
    def inside_of(self, frame: Frame) -> Iterator[None]:
        """While the body of a call is compiled."""
        outer, loops = self.frame, self.loops
        self.frame, self.inside, self.source, self.loops = frame, frame.inside, frame.inside.source, []
        try:
            yield
        finally:
            self.frame, self.inside, self.source, self.loops = outer, outer.inside, outer.inside.source, loops

    # --- what is known ---

    def known(self, node: ast.expr) -> int | None:
        """The value of an expression if it is known when the region is translated."""
        return fold(node, self)

    def number(self, name: str) -> int | None:
        """The number that a name stands for."""
        return self.frame.numbers.get(name, self.inside.number(name))

    def number_of_call(self, node: ast.Call) -> int | None:
        """What a call returns: a field of a decoded instruction, or what follows from what is known."""
        function = self.word(node)
        if function is primitives.field:
            width, address = self.known(node.args[0]), self.known(node.args[1])
            return self.fixed_field(width, address) if width and address is not None else None
        if function in WORDS:
            return None
        return self.inside_single(node, self.known)

    def offset(self, node: ast.expr) -> int | None:
        """The offset in the state block that an expression is the address of, if it is known."""
        match node:
            case ast.Name(id=name):
                return self.frame.offsets.get(name)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                base, more = self.offset(left), self.known(right)
                return None if base is None or more is None else base + more
            case ast.Call():
                function = self.word(node)
                return None if function in WORDS else self.inside_single(node, self.offset)
        return None

    def is_in_tables(self, node: ast.expr) -> bool:
        """Whether an expression is an address in the state block beyond the registers; indices are not negative."""
        match node:
            case ast.Name(id=name) if name in self.frame.tables:
                return True
            case ast.BinOp(left=left, op=ast.Add()) if self.is_in_tables(left):
                return True
        return (self.offset(node) or 0) >= CONTROLS

    def inside_single(self, node: ast.Call, look: Callable[[ast.expr], int | None]) -> int | None:
        """What is known of the result of a function that is a single expression."""
        callee = self.callee(node)
        expression = callee.source.only_expression
        if expression is None or "slow" in callee.source.marks:
            return None
        frame = self.known_frame(callee, node)
        with self.inside_of(frame):
            return look(expression)

    # --- locals and the state block ---

    def allocate(self, kind: str) -> str:
        """A fresh local variable of the function."""
        self.count += 1
        self.allocated.append(f"  %v{self.count} = alloca {kind}")
        return f"%v{self.count}"

    def slot(self, name: str) -> str:
        """Where a local lives."""
        if name not in self.frame.slots:
            self.frame.slots[name] = self.allocate("i64")
        return self.frame.slots[name]

    def assign(self, name: str, value: ast.expr) -> None:
        """Gives a local a value; what is known is not computed."""
        if self.source.assigned[name] == 1 and not self.source.has_loops:
            offset = self.offset(value)
            known = self.known(value) if offset is None else None
            if offset is not None:
                self.frame.offsets[name] = offset
                return
            if known is not None:
                self.frame.numbers[name] = known
                return
        if self.is_in_tables(value):
            self.frame.tables.add(name)
        super().assign(name, value)

    def integer(self, node: ast.expr) -> str:
        """An expression that is an integer."""
        offset = self.offset(node)
        return super().integer(node) if offset is None else self.value(f"add i64 %state, {offset}")

    def read_memory(self, node: ast.Call, kind: int) -> str:
        """`get` of a register reads a local."""
        offset = self.block_offset(node, kind)
        if offset is None:
            return super().read_memory(node, kind)
        if offset == layout.ZERO:
            return "0"
        width, shift = self.width(node), offset % 8 * 8
        read = self.value(f"load i64, ptr %r{offset & ~7}")
        if shift:
            read = self.value(f"lshr i64 {read}, {shift}")
        return read if width == 64 else self.value(f"and i64 {read}, {(1 << width) - 1}")

    def write_memory(self, node: ast.Call, kind: int) -> None:
        """`put` of a register writes a local."""
        offset = self.block_offset(node, kind)
        if offset is None:
            super().write_memory(node, kind)
            return
        self.written.add(offset & ~7)
        width, shift, value = self.width(node), offset % 8 * 8, self.integer(node.args[2])
        if width != 64:
            mask = (1 << width) - 1
            part = self.value(f"shl i64 {self.value(f'and i64 {value}, {mask}')}, {shift}")
            before = self.value(f"load i64, ptr %r{offset & ~7}")
            value = self.value(f"or i64 {part}, {self.value(f'and i64 {before}, {~(mask << shift)}')}")
        self.emit(f"store i64 {value}, ptr %r{offset & ~7}")

    def block_offset(self, node: ast.Call, kind: int) -> int | None:
        """The offset of a register, None if the access is to something else."""
        if kind != STATE_BLOCK:
            return None
        offset = self.offset(node.args[1])
        if offset is None and not self.is_in_tables(node.args[1]):
            raise Untranslatable
        return offset if offset is not None and offset < CONTROLS else None
