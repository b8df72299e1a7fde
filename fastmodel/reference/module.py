"""A program as the text of one LLVM module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from string import Template

from fastmodel import controls, rows
from fastmodel import state as block
from fastmodel.reference import records, vmm
from fastmodel.reference.accesses import memory_functions
from fastmodel.reference.caches import cache_functions
from fastmodel.reference.contents import Contents
from fastmodel.reference.layout import (
    CONTROL_WORDS,
    DECODED_BITS,
    LEFT_TO_PYTHON,
    MOST_OUTPUTS,
    MOST_VMCS,
    OFFSET,
    OUTPUT_WORDS,
)
from fastmodel.reference.lists import list_functions
from fastmodel.reference.operands import operand_function
from fastmodel.reference.statements import StatementWriter
from fastmodel.reference.types import llvm_type
from grammar import ir


class Module(Contents):
    """The module of a program for a purpose."""

    def text(self) -> str:
        """The whole module."""
        lines = [
            *(line for f in self.reach.functions.values() for line in self._function(f)),
            *(line for group in self.reach.rules.values() for line in self._rules(group)),
            *(vmm.functions(self) if self.purpose.outputs else ()),
            *(
                line
                for i in self.program.instructions.values()
                for b in i.bodies
                for line in self._body(i, b)
            ),
            *self._faults(),
            *(line for (access, width) in self.operands for line in operand_function(self, access, width)),
            *(
                list_functions(place, noted=self.purpose.outputs)
                for place in self.layout.places.values()
                if place.keys
            ),
            *(line for width in sorted(self.memory_widths) for line in memory_functions(width)),
            *self._tables(),
        ]
        runtime = "\n".join(
            Path(__file__).with_name(name).read_text("utf-8") for name in ("runtime.ll", self.purpose.text)
        )
        return "\n".join([Template(runtime).substitute(self._names()), *lines, ""])

    def _names(self) -> dict[str, int]:
        """What `$NAME` stands for in the runtime's text."""
        layout = self.layout
        row = {
            name: 8 * getattr(rows, name)
            for name in (
                "ROW_RIP",
                "ROW_RFLAGS",
                "ROW_STEPS",
                "ROW_REASON",
                "ROW_COUNT",
                "ROW_OTHER",
                "ROW_LIST",
            )
        }
        return {
            **OFFSET,
            **{name: place.offset for name, place in layout.places.items()},
            **records.offsets(),
            **row,
            "ROW_BYTES": 8 * rows.ROW_WORDS,
            "MOST_WORDS": rows.MOST_WORDS,
            "STATE_BYTES": layout.size,
            "OTHER": layout.other,
            "VMCS": layout.vmcs,
            "VMCS_BYTES": layout.lists - layout.vmcs,
            "VMCS_SLOT": 8 + layout.lists - layout.vmcs,
            "MOST_VMCS": MOST_VMCS,
            "LISTS": layout.lists,
            "OUTPUT_WORDS": OUTPUT_WORDS,
            "MOST_OUTPUTS": MOST_OUTPUTS,
            "SEEN": block.SEEN,
            "STALE": block.STALE,
            "UNTIL_SAMPLE": block.UNTIL_SAMPLE,
            "CONTROL_WORDS": CONTROL_WORDS,
            "CONTROL_BYTES": 8 * (CONTROL_WORDS + len(controls.DECIDING)),
            "DECIDING": len(controls.DECIDING),
            "DECODED_SHIFT": 64 - DECODED_BITS,
            "LEFT_TO_PYTHON": LEFT_TO_PYTHON,
        }

    def _function(self, function: ir.Function) -> Iterator[str]:
        writer = StatementWriter(self, llvm_type(function.result))
        if function.cached and function.name not in self.layout.caches:
            writer.leave_to_python()
            body = writer.finish(())
            yield from self.definition(function.name, function.result, function.parameters, body)
            return
        writer.take(function.parameters)
        name = f"{function.name}.uncached" if function.cached else function.name
        body = writer.finish(function.body)
        yield from self.definition(name, function.result, function.parameters, body)
        if function.cached:
            yield from cache_functions(self, function)

    def _rules(self, group: ir.Rules) -> Iterator[str]:
        writer = StatementWriter(self, "i1")
        holds = "1"
        for rule in group.rules:
            holds = writer.value(f"and i1 {holds}, {writer.of(rule.condition)}")
        writer.end(f"ret i1 {holds}")
        yield from self.definition(f"holds_{group.name}", ir.BOOL, (), writer.finish(()))

    def _body(self, instruction: ir.Instruction, body: ir.InstructionBody) -> Iterator[str]:
        updated = frozenset(use.name for use in body.operands if use.reads and use.writes)
        writer = StatementWriter(self, "void", instruction.operands, updated)
        yield f"define internal void @body_{body.name}(ptr %state, ptr %record) {{"
        yield from writer.finish(body.body)
        yield "}"

    def _faults(self) -> Iterator[str]:
        """Stand-ins for a body where the bytes are undefined, or too long."""
        for source in ("#UD", "#GP"):
            function = self.program.functions[self.instance(source) or ""]
            types = "".join(f", {llvm_type(p.type)} 0" for p in function.parameters)
            yield f'define internal void @"body_{source}"(ptr %state, ptr %record) {{'
            yield f'  call void @"{function.name}"(ptr %state{types})'
            yield "  ret void"
            yield "}"

    def _tables(self) -> Iterator[str]:
        names = [f"ptr @body_{body.name}" for body in self.bodies]
        names += ['ptr @"body_#UD"', 'ptr @"body_#GP"']
        yield f"@bodies = internal constant [{len(names)} x ptr] [{', '.join(names)}]"
        yield "define internal void @forget_everything(ptr %state) {"
        yield from (f"  call void @forget_{name}(ptr %state)" for name in self.layout.caches)
        yield "  ret void"
        yield "}"
