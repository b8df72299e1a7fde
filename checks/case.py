"""One case as a file: a start state, an instruction, and what was found to differ.  Proofs and the fuzzer write them.

`state` maps items of the specification (`RIP`, `GPR[3]`, `GUEST_CR3`) to values and `memory` host-physical addresses
to bytes; both change the machine that `base` names (the reset state if it is empty).
"""

from __future__ import annotations

import importlib
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from checks.output import write_document
from grammar.ir import Bool, Program, Struct, Type
from refmodel.model import Model
from refmodel.vectors import CaseError

FORMAT = "nonroot-case"
VERSION = 1

# Who replays which kind: a module with `replay(case, model) -> int`, 0 if the case is confirmed and 1 if it is not.
REPLAYERS = {
    "fuzz": "checks.fuzz.replay",
    "program": "checks.fuzz.replay",
    "text": "checks.fast.text_replay",
    "trap": "checks.trap.replay",
    "lemma": "checks.trap.lemma_replay",
    "sensitivity": "checks.sensitivity.replay",
    "isolation": "checks.isolation.replay",
    "translation": "checks.isolation.open_translation_replay",
    "emulation": "checks.emulation.replay",
    "host_state": "checks.host_state.replay",
    "totality": "checks.totality.replay",
    "function": "checks.function_case",
}

_ITEM = re.compile(r"(\w+)(?:\[(\d+(?:,\d+)*)\])?")
_MOST_STEPS = 10_000


@dataclass(frozen=True)
class Case:
    """A case.  `code` stands at RIP; `expected` holds values of the other side, named by the second of `columns`."""

    kind: str
    id: str
    code: bytes
    instruction: str = ""
    base: str = ""
    steps: int = 1
    state: Mapping[str, int] = field(default_factory=dict)
    memory: tuple[tuple[int, bytes], ...] = ()
    expected: Mapping[str, int] = field(default_factory=dict)
    columns: tuple[str, str] = ("reference", "other")
    text: str = ""

    def document(self) -> dict[str, object]:
        """The JSON document."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "kind": self.kind,
            "id": self.id,
            "instruction": self.instruction,
            "code": self.code.hex(),
            "base": self.base,
            "steps": self.steps,
            "state": dict(self.state),
            "memory": [[address, data.hex()] for address, data in self.memory],
            "expected": dict(self.expected),
            "columns": list(self.columns),
            "text": self.text,
        }


def parse_case(document: Any) -> Case:
    """The case that a JSON document describes.  Raises CaseError for anything else."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise CaseError(f"not a case: no format '{FORMAT}'")
    if document.get("version") != VERSION:
        raise CaseError(f"version {document.get('version')} of the format is not known")
    try:
        first, second = document.get("columns", ("reference", "other"))
        case = Case(
            kind=str(document["kind"]),
            id=str(document["id"]),
            code=bytes.fromhex(document["code"]),
            instruction=str(document.get("instruction", "")),
            base=str(document.get("base", "")),
            steps=int(document.get("steps", 1)),
            state={str(name): int(value) for name, value in document.get("state", {}).items()},
            memory=tuple((int(a), bytes.fromhex(data)) for a, data in document.get("memory", [])),
            expected={str(name): int(value) for name, value in document.get("expected", {}).items()},
            columns=(str(first), str(second)),
            text=str(document.get("text", "")),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CaseError(f"not a case: {type(error).__name__}: {error}") from None
    if case.kind not in REPLAYERS or not 1 <= case.steps <= _MOST_STEPS:
        raise CaseError("not a case: its kind or the number of its steps is not known")
    return case


def read_case(path: Path) -> Case:
    """Reads a case from a file.  Raises CaseError, with the file's name."""
    try:
        return parse_case(json.loads(path.read_text(encoding="utf-8")))
    except json.JSONDecodeError as error:
        raise CaseError(f"{path}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:  # UTF-8 that is none is a ValueError
        raise CaseError(f"{path}: {error}") from None
    except CaseError as error:
        raise CaseError(f"{path}: {error}") from None


def write_case(path: Path, case: Case) -> None:
    """Writes a case to a file, whole or not at all.  Raises OSError."""
    write_document(path, case.document())


def replay_case(path: Path, spec: Path | None) -> int:
    """Replays the case in a file: 0 if it is confirmed, 1 if not.  Raises CaseError."""
    import refmodel

    case = read_case(path)
    status: int = importlib.import_module(REPLAYERS[case.kind]).replay(case, refmodel.load(spec))
    return status


@dataclass(frozen=True, slots=True)
class Place:
    """Where an item of the specification's state is kept in a machine; `width` in bits."""

    name: str
    attribute: str
    index: Any
    width: int
    in_vmcs: bool

    def get(self, machine: Any) -> int:
        """The item's value."""
        value = getattr(machine.vmcs if self.in_vmcs else machine, self.attribute)
        return int(value if self.index is None else value[self.index])

    def set(self, machine: Any, value: int) -> None:
        """Gives the item a value.  Raises CaseError if it does not fit."""
        if not 0 <= value < 1 << self.width:
            raise CaseError(f"{self.name} has {self.width} bits; {value:#x} does not fit")
        holder = machine.vmcs if self.in_vmcs else machine
        if self.index is not None:
            getattr(holder, self.attribute)[self.index] = value
        else:
            is_bool = self.width == 1 and isinstance(getattr(holder, self.attribute), bool)
            setattr(holder, self.attribute, bool(value) if is_bool else value)


def place_of(program: Program, name: str) -> Place:
    """The place of an item.  Raises CaseError if the specification has no such state."""
    match = _ITEM.fullmatch(name)
    variable = program.state.get(match[1]) if match else None
    if match is None or variable is None or variable.space == "ghost":
        raise CaseError(f"the specification has no state '{name}'")
    numbers = tuple(int(n) for n in match[2].split(",")) if match[2] else ()
    widths = [getattr(parameter.type, "width", 1) for parameter in variable.indices]
    if len(numbers) != len(widths) or any(n >> w for n, w in zip(numbers, widths, strict=False)):
        raise CaseError(f"'{name}': {variable.name} has {len(widths)} indices of {widths} bits")
    index = (numbers[0] if len(numbers) == 1 else numbers) if numbers else None
    return Place(name, variable.name, index, getattr(variable.type, "width", 1), variable.space == "vmcs")


def set_item(machine: Any, program: Program, name: str, value: int) -> None:
    """Gives an item of the machine, or of its current VMCS, a value."""
    place_of(program, name).set(machine, value)


def get_item(machine: Any, program: Program, name: str) -> int:
    """The value of an item of the machine, or of its current VMCS."""
    return place_of(program, name).get(machine)


def apply(case: Case, machine: Any, model: Model) -> None:
    """Makes the case's changes to a machine."""
    for name, value in case.state.items():
        set_item(machine, model.program, name, value)
    for address, data in case.memory:
        machine.PHYSICAL.write_bytes(address, data)


def value_of(case: Case, model: Model, name: str, type_: Type) -> Any:
    """A value that a case gives by the names of its leaves; zero where it gives none."""
    if isinstance(type_, Struct):
        fields = (value_of(case, model, f"{name}.{field}", t) for field, t in type_.fields)
        return model.namespace[type_.name](*fields)
    value = case.expected.get(name, 0)
    return bool(value) if isinstance(type_, Bool) else value


def replay_command(path: Path, spec: Path | None) -> str:
    """The command that replays a case on the specification under `spec` (None: the project's)."""
    return shlex.join(["nonroot", "replay", str(path), *(["--spec", str(spec)] if spec is not None else [])])
