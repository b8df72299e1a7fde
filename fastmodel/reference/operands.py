"""Accesses to operands, once for each width: what an operand is, its record says when the instruction runs."""

from __future__ import annotations

from fastmodel.reference import records
from fastmodel.reference.contents import Contents
from fastmodel.reference.statements import StatementWriter


def operand_function(module: Contents, access: str, width: int) -> list[str]:
    """The function that reads (`read`, `modify`) or writes (`write`) an operand of that width."""
    writer = OperandWriter(module, access, width)
    parameters = ["ptr %state", "ptr %operand"]
    if writer.writes:
        parameters.append(f"i{width} %value")
    return [
        f"define internal {writer.result} @operand_{access}_{width}({', '.join(parameters)}) {{",
        *writer.function(),
        "}",
    ]


class OperandWriter(StatementWriter):
    """Writes one access to an operand, kind by kind."""

    def __init__(self, module: Contents, access: str, width: int) -> None:
        self.writes = access == "write"
        self.result = "void" if self.writes else f"i{width}"
        super().__init__(module, self.result)
        self._access = access
        self._width = width

    def function(self) -> list[str]:
        """The lines of the function."""
        kinds = {records.REGISTER: self._register, records.MEMORY: self._memory}
        if self._width == 8:
            kinds[records.HIGH] = self._high_byte
        if not self.writes:
            kinds |= {records.CONSTANT: self._constant, records.RELATIVE: self._relative}
        cases = " ".join(f"i64 {kind}, label %kind.{kind}" for kind in kinds)
        self.end(f"switch i64 {self.value('load i64, ptr %operand')}, label %other [ {cases} ]")
        for kind, write in kinds.items():
            self.begin(f"kind.{kind}")
            write()
        self.begin("other")
        self._none()
        return self.finish(())

    def _register(self) -> None:
        self._through(self.module.instance(self._plain("register"), self._width), [self._number("INDEX", 4)])

    def _high_byte(self) -> None:
        self._through(self.module.instance(self._plain("high_byte")), [self._number("INDEX", 4)])

    def _memory(self) -> None:
        address = self.value("call i64 @operand_address(ptr %state, ptr %operand)")
        function = self.module.instance(f"{self._access}_memory_operand", self._width)
        self._through(function, [self._number("SEGMENT", 3), f"i64 {address}"])

    def _constant(self) -> None:
        self.end(f"ret {self.result} {self.resized(self._word('VALUE'), 64, self._width)}")

    def _relative(self) -> None:
        target = self.value(f"add i64 {self.read_variable('NEXT_RIP', [])}, {self._word('VALUE')}")
        self.end(f"ret {self.result} {self.resized(target, 64, self._width)}")

    def _none(self) -> None:
        """There is no such operand of this width: never reached."""
        self.store_header("OUTSIDE", "1")
        self.leave()

    def _plain(self, place: str) -> str:
        """The specification's accessor; a register is read the same whether it will be written or not."""
        return f"{'write' if self.writes else 'read'}_{place}"

    def _word(self, name: str) -> str:
        offset = records.offsets()[f"OPERAND_{name}"]
        return self.value(f"load i64, ptr {self.address('%operand', offset)}")

    def _number(self, name: str, width: int) -> str:
        return f"i{width} {self.resized(self._word(name), 64, width)}"

    def _through(self, function: str | None, arguments: list[str]) -> None:
        """Returns what an accessor of the specification does, if it has one for this width."""
        if function is None:
            self._none()
            return
        value = [f"i{self._width} %value"] if self.writes else []
        call = f'call {self.result} @"{function}"({", ".join(["ptr %state", *arguments, *value])})'
        if self.writes:
            self.emit(call)
            self.end("ret void")
        else:
            self.end(f"ret {self.result} {self.value(call)}")
