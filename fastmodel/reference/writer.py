"""The text of one LLVM function, instruction by instruction."""

from __future__ import annotations


class FunctionWriter:
    """Collects the instructions of a function, block by block."""

    def __init__(self) -> None:
        self._slots: dict[tuple[str, str], str] = {}
        self._lines: list[str] = []
        self._count = 0
        self.ended = False  # whether the current block has its terminator

    def emit(self, line: str) -> None:
        """Adds an instruction to the current block, unless that has ended."""
        if not self.ended:
            self._lines.append(f"  {line}")

    def value(self, operation: str) -> str:
        """Adds an operation; returns the name of its result."""
        self._count += 1
        self.emit(f"%.{self._count} = {operation}")
        return f"%.{self._count}"

    def end(self, terminator: str) -> None:
        """Ends the current block."""
        self.emit(terminator)
        self.ended = True

    def label(self) -> str:
        """A fresh name for a block."""
        self._count += 1
        return f"b{self._count}"

    def begin(self, label: str) -> None:
        """Starts a block; the one before runs into it unless it has ended."""
        self.end(f"br label %{label}")
        self._lines.append(f"{label}:")
        self.ended = False

    def branch(self, condition: str, then: str, otherwise: str) -> None:
        """Ends the block with a choice."""
        self.end(f"br i1 {condition}, label %{then}, label %{otherwise}")

    def slot(self, name: str, type_: str) -> str:
        """Where a local variable is kept; LLVM makes registers of these."""
        return self._slots.setdefault((name, type_), f"%slot.{len(self._slots)}")

    def address(self, base: str, offset: int | str) -> str:
        """A pointer `offset` bytes behind another."""
        return self.value(f"getelementptr i8, ptr {base}, i64 {offset}")

    def body(self) -> list[str]:
        """All lines, the slots first."""
        slots = [f"  {slot} = alloca {type_}" for (_, type_), slot in self._slots.items()]
        return [*slots, *self._lines]
