"""Partial evaluation: the routines of a region as one LLVM function.

The place of a routine is known, so that what `field` reads of a decoded instruction is a number. Addresses in the
state block are known offsets; below CONTROLS they are the guest's registers, which live in local variables that LLVM turns
into registers. They are loaded where the region is entered and written back where it is left. Going on at a place of
the region is a jump.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from types import FunctionType

from fastmodel import state as layout
from fastmodel.compiler import primitives
from fastmodel.compiler.expressions import READS, WRITES, Convention
from fastmodel.compiler.llvm import PREAMBLE, FunctionWriter
from fastmodel.compiler.program import WORDS, Instance, Names, fold
from fastmodel.decoded import DECODED_SIZE, LINK

REGION = "region"
# Below this offset the block holds what lives in local variables.
CONTROLS = layout.CR3
REGISTERS = tuple(offset for offset in range(0, CONTROLS, 8) if offset != layout.ZERO)
STATE_BLOCK = READS[primitives.get]


class Untranslatable(Exception):
    """A routine does something with the state block that is only known when it runs."""


@dataclass
class Frame:
    """A call that is compiled into its caller: what is known of its locals, and where the others live."""

    inside: Instance
    numbers: dict[str, int] = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)  # addresses in the state block
    tables: set[str] = field(default_factory=set)  # addresses in the block, not known, but beyond the registers
    slots: dict[str, str] = field(default_factory=dict)
    result: str = ""  # where the result is put, and where to go then; a routine has neither
    end: str = ""


class RegionWriter(FunctionWriter):
    """Writes the function of a region.  `slow_address` gives the addresses of slow functions, 0 if it has none."""

    def __init__(self, routines: Mapping[int, Instance], slow_address: Callable[[str], int]) -> None:
        super().__init__(next(iter(routines.values())), Names(), Convention(threaded=True))
        self.routines = routines
        self.slow_address = slow_address
        self.frame = Frame(self.inside)
        self.allocated: list[str] = []
        self.written: set[int] = set()  # registers that the region writes
        self.entries: list[int] = []
        self.left_alone: set[int] = set()  # places whose routines cannot be translated

    # --- the function ---

    def region(self, entries: list[int]) -> str:
        """The module: one routine, which may be entered at each of these places."""
        self.entries = entries
        for place in self.routines:
            self.place(place)
        self.leave()
        arguments = "i64 %state, i64 %u, i64 %remaining"
        head = f"define {self.convention.routine} i64 @{REGION}({arguments}) nounwind {{"
        return "\n".join([PREAMBLE, head, *self.prologue(), *self.lines, "}", ""])

    def prologue(self) -> list[str]:
        """Loads the registers, and goes to the place where the region is entered."""
        lines = ["  %place.slot = alloca i64", "  %remaining.slot = alloca i64", *self.allocated]
        for offset in REGISTERS:
            lines += [
                f"  %r{offset} = alloca i64",
                f"  %r{offset}.address = add i64 %state, {offset}",
                f"  %r{offset}.pointer = inttoptr i64 %r{offset}.address to ptr",
                f"  %r{offset}.first = load i64, ptr %r{offset}.pointer, !tbaa !{STATE_BLOCK}",
                f"  store i64 %r{offset}.first, ptr %r{offset}",
            ]
        cases = " ".join(f"i64 {place}, label %u{place}" for place in self.entries[1:])
        lines.append("  store i64 %remaining, ptr %remaining.slot")
        lines.append(f"  switch i64 %u, label %u{self.entries[0]} [ {cases} ]")
        return lines

    def leave(self) -> None:
        """Writes the registers back, and goes on at a place outside, or ends."""
        for label in ("leave", "exit"):
            self.lines.append(f"{label}:")
            self.ended = False
            for offset in sorted(self.written):
                value = self.value(f"load i64, ptr %r{offset}")
                self.emit(f"store i64 {value}, ptr %r{offset}.pointer, !tbaa !{STATE_BLOCK}")
            if label == "leave":
                place, remaining = (self.value(f"load i64, ptr %{name}.slot") for name in ("place", "remaining"))
                result = self.invoked("musttail call", ["%state", place, remaining])
                self.emit(f"ret i64 {result}")
            else:
                self.emit("ret i64 0")
            self.ended = True

    def place(self, place: int) -> None:
        """The routine of a place; one that cannot be translated is left to the code it had before."""
        self.lines.append(f"u{place}:")
        self.ended = False
        before = len(self.lines)
        outer = self.frame
        routine = self.routines[place]
        state, u, remaining = routine.source.parameters
        slot = self.allocate("i64")
        self.frame = Frame(routine, {u: place}, {state: 0}, slots={remaining: slot})
        try:
            self.emit(f"store i64 {self.value('load i64, ptr %remaining.slot')}, ptr {slot}")
            with self.inside_of(self.frame):
                self.body(self.source.tree.body)
        except Untranslatable:
            del self.lines[before:]
            self.ended = False
            self.left_alone.add(place)
            self.go_on_at(str(place))
        self.frame = outer

    # --- going on ---

    def go_on(self, node: ast.Call) -> None:
        """`return proceed(state, place, remaining)`."""
        _, target, remaining = node.args
        self.emit(f"store i64 {self.integer(remaining)}, ptr %remaining.slot")
        known = self.known(target)
        if known in self.routines:
            self.jump(f"u{known}")
        else:
            self.go_on_at(self.integer(target), is_known=known is not None)

    def go_on_at(self, place: str, *, is_known: bool = True) -> None:
        """Leaves the region for a place, unless it turns out to be one of its entries."""
        self.emit(f"store i64 {place}, ptr %place.slot")
        if is_known:
            self.jump("leave")
        else:
            cases = " ".join(f"i64 {entry}, label %u{entry}" for entry in self.entries)
            self.emit(f"switch i64 {place}, label %leave [ {cases} ]")
            self.ended = True

    def return_statement(self, value: ast.expr) -> None:
        """The end of a call that is compiled into its caller, or of a routine."""
        if isinstance(value, ast.Call) and self.word(value) is primitives.proceed:
            self.go_on(value)
        elif not self.frame.end:
            self.integer(value)
            self.jump("exit")
        else:
            result = self.condition(value) if self.source.returns_bool else self.integer(value)
            self.emit(f"store {self.result_type} {result}, ptr {self.frame.result}")
            self.jump(self.frame.end)

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

    def slow_call(self, callee: Instance, node: ast.Call) -> str:
        """A call of a slow function where it lies; it must not look at the guest's registers."""
        address = self.slow_address(callee.function.__name__) if callee.is_exported else 0
        if address == 0 or not leaves_registers_alone(callee):
            raise Untranslatable
        arguments = ", ".join(f"i64 {self.integer(a)}" for a in node.args)
        kind = "i1" if callee.source.returns_bool else "i64"
        convention = self.convention.of(callee.source)
        return self.value(f"call {convention} {kind} inttoptr (i64 {address} to ptr)({arguments})")

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

    def fixed_field(self, width: int, address: int) -> int | None:
        """What a decoded instruction of the region holds; a link only once it is set, since then it stays."""
        place = address - (address - self.first_place) % DECODED_SIZE
        if place not in self.routines:
            return None
        value = primitives.field(width, address)
        return None if address == place + LINK and value == 0 else value

    @property
    def first_place(self) -> int:
        """Places are multiples of DECODED_SIZE from here on."""
        return next(iter(self.routines))

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


@cache
def leaves_registers_alone(inside: Instance) -> bool:
    """Whether a slow function, and those that it calls, only look at the state block beyond the registers."""
    seen: set[Instance] = set()
    waiting = [inside]
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        if not _sums_reach_beyond_registers(one):
            return False
        for name in one.source.free:
            meaning = one.resolve(name)
            if isinstance(meaning, FunctionType) and meaning not in WORDS:
                waiting.append(one.callee(meaning))
    return True


def _sums_reach_beyond_registers(inside: Instance) -> bool:
    """Whether everything that is added to `state` in a function includes an offset beyond the registers.

    `state` itself may only be handed on.
    """
    for node in ast.walk(inside.source.tree):
        if isinstance(node, ast.BinOp) and isinstance(node.left, ast.Name) and node.left.id == "state":
            offset = fold(node.right, inside)
            if not isinstance(node.op, ast.Add) or offset is None or offset < CONTROLS:
                return False
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and inside.resolve(node.func.id) in WRITES | READS:
            if isinstance(node.args[1], ast.Name) and node.args[1].id == "state":
                return False
    return True
