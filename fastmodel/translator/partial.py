"""Partial evaluation: the routines of a region as one LLVM function.

The place of a routine is known, so that what `field` reads of a decoded instruction is a number. The guest's registers
are loaded where the region is entered and written back where it is left; between, LLVM keeps them in registers of the
processor. Going on at a place of the region is a jump.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import replace

from fastmodel import state as layout
from fastmodel.compiler import primitives
from fastmodel.compiler.convention import Convention
from fastmodel.compiler.llvm import PREAMBLE
from fastmodel.compiler.program import Instance
from fastmodel.decoded import ADDRESS, DECODED_SIZE, LINK
from fastmodel.loop import known_trace
from fastmodel.translator.frames import CONTROLS, STATE_BLOCK, Frame, FrameWriter, Untranslatable
from fastmodel.translator.slow import leaves_registers_alone

REGION = "region"
REGISTERS = tuple(offset for offset in range(0, CONTROLS, 8) if offset != layout.ZERO)


class RegionWriter(FrameWriter):
    """Writes the function of a region.  `slow_address` gives the addresses of slow functions, 0 if it has none."""

    def __init__(self, routines: Mapping[int, Instance], slow_address: Callable[[str], int]) -> None:
        super().__init__(next(iter(routines.values())), Convention(threaded=True, pinned=layout.PINNED))
        self.routines = routines
        self.slow_address = slow_address
        self.entries: list[int] = []
        self.returns: list[int] = []
        self.left_alone: set[int] = set()  # places whose routines cannot be translated

    # --- the function ---

    def region(self, entries: list[int], returns: list[int]) -> str:
        """The module: one routine, which may be entered at each of these places; some of them are returned to."""
        self.entries, self.returns = entries, list(dict.fromkeys(returns))
        for place in self.routines:
            self.place(place)
        self.leave()
        pinned = "".join(f", i64 %r{offset}.given" for offset in layout.PINNED)
        arguments = f"i64 %state, i64 %u, i64 %spare{pinned}"
        head = f"define {self.convention.routine} i64 @{REGION}({arguments}) nounwind {{"
        return "\n".join([PREAMBLE, head, *self.prologue(), *self.lines, "}", ""])

    def prologue(self) -> list[str]:
        """Loads the registers, and goes to the place where the region is entered."""
        lines = ["  %place.slot = alloca i64", "  %spare.slot = alloca i64", *self.allocated]
        for offset in REGISTERS:
            lines += [
                f"  %r{offset} = alloca i64",
                f"  %r{offset}.address = add i64 %state, {offset}",
                f"  %r{offset}.pointer = inttoptr i64 %r{offset}.address to ptr",
                f"  %r{offset}.first = load i64, ptr %r{offset}.pointer, !tbaa !{STATE_BLOCK}",
                f"  store i64 %r{offset}.{'given' if offset in layout.PINNED else 'first'}, ptr %r{offset}",
            ]
        cases = " ".join(f"i64 {place}, label %u{place}" for place in self.entries[1:])
        lines.append("  store i64 %spare, ptr %spare.slot")
        lines.append(f"  switch i64 %u, label %u{self.entries[0]} [ {cases} ]")
        return lines

    def leave(self) -> None:
        """Writes the registers back, and goes on at a place outside, or ends."""
        for label in ("leave", "exit"):
            self.lines.append(f"{label}:")
            self.ended = False
            for offset in sorted(self.written | set(layout.PINNED)):
                value = self.value(f"load i64, ptr %r{offset}")
                self.emit(f"store i64 {value}, ptr %r{offset}.pointer, !tbaa !{STATE_BLOCK}")
            if label == "leave":
                place, spare = (self.value(f"load i64, ptr %{name}.slot") for name in ("place", "spare"))
                result = self.invoked("musttail call", ["%state", place, spare])
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
        state, u, spare = routine.source.parameters
        slot = self.allocate("i64")
        self.frame = Frame(routine, {u: place}, {state: 0}, slots={spare: slot})
        try:
            self.emit(f"store i64 {self.value('load i64, ptr %spare.slot')}, ptr {slot}")
            with self.inside_of(self.frame):
                self.body(self.source.tree.body)
        except Untranslatable:
            del self.lines[before:]
            self.ended = False
            self.left_alone.add(place)
            self.go_on_at(str(place))
        self.frame = outer

    def handed_on(self) -> list[str]:
        """The pinned words, which every routine is given."""
        return [self.value(f"load i64, ptr %r{offset}") for offset in layout.PINNED]

    # --- going on ---

    def go_on(self, node: ast.Call) -> None:
        """`return proceed(state, place, spare)`."""
        _, target, spare = node.args
        self.emit(f"store i64 {self.integer(spare)}, ptr %spare.slot")
        known = self.known(target)
        if known in self.routines:
            self.jump(f"u{known}")
        else:
            self.go_on_at(self.integer(target), is_known=known is not None)

    def go_on_at(self, place: str, *, is_known: bool = True) -> None:
        """Leaves the region for a place, unless it turns out to be one that is returned to."""
        self.emit(f"store i64 {place}, ptr %place.slot")
        if is_known:
            self.jump("leave")
        else:
            cases = " ".join(f"i64 {entry}, label %u{entry}" for entry in self.returns)
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

    # --- calls of some functions, and decoded instructions ---

    def body(self, statements: list[ast.stmt]) -> None:
        """Statements; those behind `place = known_trace(…)` once for each place that calls of the region return to."""
        for n, statement in enumerate(statements):
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call() as call) if self.looks_up(call):
                    self.each_return(name, call, statements[n + 1 :])
            if self.ended:
                return
            self.statement(statement)

    def looks_up(self, call: ast.Call) -> bool:
        """Whether a call is one of `known_trace`."""
        return bool(self.returns) and self.word(call) is known_trace

    def each_return(self, name: str, call: ast.Call, rest: list[ast.stmt]) -> None:
        """Compares RIP with each place that is returned to, and goes on knowing which it is."""
        rip, outer = self.integer(call.args[1]), self.frame
        for place in self.returns:
            is_it = self.value(f"icmp eq i64 {rip}, {primitives.field(64, place + ADDRESS)}")
            here, others = self.label(), self.label()
            self.branch(is_it, here, others)
            self.begin(here)
            self.frame = replace(outer, numbers={**outer.numbers, name: place})
            self.body(rest)
            self.begin(others)
        self.frame = outer

    def slow_call(self, callee: Instance, node: ast.Call) -> str:
        """A call of a slow function where it lies; it must not look at the guest's registers."""
        address = self.slow_address(callee.function.__name__) if callee.is_exported else 0
        if address == 0 or not leaves_registers_alone(callee):
            raise Untranslatable
        arguments = ", ".join(f"i64 {self.integer(a)}" for a in node.args)
        kind = "i1" if callee.source.returns_bool else "i64"
        convention = self.convention.of(callee.source)
        return self.value(f"call {convention} {kind} inttoptr (i64 {address} to ptr)({arguments})")

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
