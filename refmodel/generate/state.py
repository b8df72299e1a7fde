"""The classes of the generated module: structs, aborts, the VMCS and the machine."""

from __future__ import annotations

from collections.abc import Iterable

from grammar import ir
from refmodel.generate import names
from refmodel.generate.code import comment, docstring, indented, number

_LIST_WIDTH = 8  # registers with an index of at most this many bits are lists


def structs(program: ir.Program, identifiers: names.Names) -> list[str]:
    """A NamedTuple for every struct, the ones it contains first."""
    lines: list[str] = []
    for struct in _in_order(program):
        fields = [
            f"{identifiers.field(name)}: {names.annotation(type_)} = {_default(type_)}"
            for name, type_ in struct.fields
        ]
        lines += ["", "", f"class {struct.name}(NamedTuple):", *indented(fields or ["pass"])]
    return lines


def _in_order(program: ir.Program) -> Iterable[ir.Struct]:
    ordered: dict[str, ir.Struct] = {}

    def add(type_: ir.Type) -> None:
        if isinstance(type_, ir.Struct) and type_.name not in ordered:
            for _, field_type in type_.fields:
                add(field_type)
            ordered[type_.name] = type_

    for type_ in [*program.types.values(), *(a.type for a in program.aborts.values())]:
        add(type_)
    return ordered.values()


def _default(type_: ir.Type) -> str:
    if isinstance(type_, ir.Struct):
        return f"{type_.name}()"
    return "False" if isinstance(type_, ir.Bool) else "0"


def aborts(program: ir.Program) -> list[str]:
    """An exception for every abort."""
    lines: list[str] = []
    for abort in program.aborts.values():
        doc = docstring(abort.doc or f"Carries a {abort.type.name}.")
        lines += ["", "", f"class {names.abort_exception(abort.name)}(Abort):", *indented(doc)]
    return lines


def vmcs(program: ir.Program) -> list[str]:
    """The record of all VMCS fields."""
    fields = list(program.state_in("vmcs"))
    body = [
        '"""One virtual-machine control structure."""',
        "",
        *_slots(v.name for v in fields),
        "",
        "def __init__(self) -> None:",
        *indented(_resets(fields) or ["pass"]),
    ]
    return ["", "", "class Vmcs:", *indented(body)]


def machine(program: ir.Program) -> list[str]:
    """The machine: every register and variable of the VMM, and the cached functions' results."""
    variables = [*program.state_in("register"), *program.state_in("state")]
    caches = [names.cache_attribute(f.name) for f in program.functions.values() if f.cached]
    body = [
        '"""A logical processor in its machine, with the VMM that runs on it."""',
        "",
        *_slots([*(v.name for v in variables), *caches]),
        "",
        "def new_vmcs(self) -> Vmcs:",
        "    return Vmcs()",
        "",
        "def reset(self) -> None:",
        "    super().reset()",
        *indented(_resets(variables)),
        *(f"    self.{cache} = Remembered()" for cache in caches),
    ]
    return ["", "", "class Machine(Processor):", *indented(body)]


def _slots(slots: Iterable[str]) -> list[str]:
    return ["__slots__ = (", *(f'    "{slot}",' for slot in slots), ")"]


def _resets(variables: Iterable[ir.StateVariable]) -> list[str]:
    """Assignments of the values at reset, under what the specification says of the variable."""
    lines: list[str] = []
    for variable in variables:
        lines += comment(variable.doc)
        encoding = f"  # {variable.encoding:#06x}" if variable.encoding is not None else ""
        lines.append(f"self.{variable.name} = {_initial(variable)}{encoding}")
    return lines


def _initial(variable: ir.StateVariable) -> str:
    reset = str(bool(variable.reset)) if isinstance(variable.type, ir.Bool) else number(variable.reset).text
    if not variable.indices:
        return reset
    index = variable.indices[0].type
    is_register = variable.space == "register" and len(variable.indices) == 1
    if is_register and not isinstance(index, ir.Bool | ir.Struct) and index.width <= _LIST_WIDTH:
        return f"[{reset}] * {1 << index.width}"
    return f"IndexedState({reset})"
