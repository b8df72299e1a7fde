"""What goes into the module: what of the program is used, where its state lies, and how functions are called."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fastmodel.reference.layout import Layout, instruction_bodies
from fastmodel.reference.purpose import CASES, Purpose
from fastmodel.reference.reach import Reach, reach
from fastmodel.reference.types import is_word, llvm_type
from grammar import ir

ROOTS = ("code_size", "fetch_translate", "#UD", "#GP")
"""What runs from outside besides the purpose's own: fetching, and what undefined and overlong bytes raise."""

ACCESSORS = ("read_register", "write_register", "read_high_byte", "write_high_byte")
MEMORY_ACCESSORS = ("read_memory_operand", "modify_memory_operand", "write_memory_operand")


class Contents:
    """What of a program goes into its module for a purpose, and what functions of it are called there."""

    def __init__(self, program: ir.Program, purpose: Purpose = CASES) -> None:
        self.program = program
        self.purpose = purpose
        self.reach: Reach = reach(program, self._roots())
        cached = [f.name for f in self.reach.functions.values() if f.cached and is_word(f.result)]
        self.used = list(self.reach.variables), cached
        self.layout = Layout.of(program, *self.used, purpose.list_length)
        self.memory_widths: set[int] = {64}
        self.operands: dict[tuple[str, int], str] = {}
        self._aborts = {name: number for number, name in enumerate(program.aborts, 1)}
        self.bodies = instruction_bodies(program)

    def _roots(self) -> list[str]:
        sources = {self.purpose.root, *ROOTS, *ACCESSORS, *MEMORY_ACCESSORS}
        return [f.name for f in self.program.functions.values() if f.source in sources]

    def function(self, name: str) -> str:
        """How a function is called."""
        return f'@"{name}"'

    def instance(self, source: str, width: int | None = None) -> str | None:
        """The name of a function's instance for a width, None if the program does not have it."""
        widths = (width,) if width is not None else ()
        found = (
            f
            for f in self.program.functions.values()
            if f.source == source and tuple(value for _, value in f.widths) == widths
        )
        return next((f.name for f in found), None)

    def cached_instances(self, source: str) -> list[str]:
        """The instances of a cached function; none if its results are not kept here."""
        return [name for name in self.layout.caches if self.program.functions[name].source == source]

    def abort_number(self, kind: str) -> int:
        """The number of an abort, from 1 on."""
        return self._aborts[kind]

    def operand_access(self, access: str, width: int) -> str:
        """The function that reads, modifies or writes an operand of that width."""
        return self.operands.setdefault((access, width), f"@operand_{access}_{width}")

    @staticmethod
    def definition(
        name: str, result: ir.Type | None, parameters: Iterable[ir.Parameter], body: list[str]
    ) -> Iterator[str]:
        """A function with its body."""
        typed = [f"{llvm_type(p.type)} %argument.{n}" for n, p in enumerate(parameters)]
        yield f'define internal {llvm_type(result)} @"{name}"({", ".join(["ptr %state", *typed])}) {{'
        yield from body
        yield "}"
