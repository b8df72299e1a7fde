"""Cases of theorems about one function of the specification, or one rule of VM entry: a state, its arguments, and what
the proof says it does.

In `expected` are the arguments (`is_canonical.address`), what the function returns (`result`, or `result.field`) or
`raises`, words of memory after it (`PHYSICAL[4096]`), and `right`, what it is to return, if that is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from checks.case import Case, apply, value_of
from checks.outcome import EXCLUDED
from grammar.ir import BOOL, Parameter, Type
from refmodel.memory import EndlessMemory
from refmodel.model import Model
from refmodel.runtime import Abort
from refmodel.vectors import CaseError

KIND = "function"
RESULT, RAISES, RIGHT, WORD = "result", "raises", "right", "PHYSICAL["
IT_RETURNS, IT_RAISES = "it returns", "it raises"
"""What witnesses of such theorems are called."""
_MEMORY = 1 << 20


def function_case(
    goal: str,
    function: str,
    state: Mapping[str, int],
    memory: Mapping[int, bytes],
    expected: Mapping[str, int],
    text: str,
) -> dict[str, object]:
    """The document of a case; `memory` by host-physical address."""
    case = Case(
        kind=KIND,
        id=goal,
        code=b"",
        instruction=function,
        state=state,
        memory=tuple(sorted(memory.items())),
        expected=expected,
        text=text,
    )
    return case.document()


def replay(case: Case, model: Model) -> int:
    """Calls the function: 0 if it does what the counterexample says, 1 if it does not.  Raises CaseError."""
    run = _Run.of(case, model)
    print(f"{case.id}: {case.instruction}: {run.text}")
    print(f"CONFIRMED: {case.text}" if run.is_wrong else "not confirmed: the reference does something else")
    return 0 if run.is_wrong else 1


def outcome(case: Case, model: Model) -> str:
    """That the function returns or raises, if that is what the proof says and it is right.  Raises CaseError."""
    run = _Run.of(case, model)
    if not run.is_predicted:
        return f"{run.text}, which the proof does not say"
    return EXCLUDED if RIGHT in case.expected and run.is_wrong else run.text


@dataclass(frozen=True, slots=True)
class _Run:
    """What the function did: whether the proof says so, whether that is wrong, and in words."""

    is_predicted: bool
    is_wrong: bool
    text: str

    @classmethod
    def of(cls, case: Case, model: Model) -> _Run:
        called = _Called.of(case.instruction, model)
        machine = model.machine(EndlessMemory(_MEMORY))
        apply(case, machine, model)
        names = ((f"{case.instruction}.{p.name}", p.type) for p in called.parameters)
        arguments = [value_of(case, model, name, type_) for name, type_ in names]
        try:
            result = model.functions[called.name](machine, *arguments)
        except Abort:
            is_predicted = bool(case.expected.get(RAISES))
            return cls(is_predicted, is_predicted, IT_RAISES)
        said = value_of(case, model, RESULT, called.result) if called.result is not None else None
        is_predicted = RAISES not in case.expected and result == said and all(_words_agree(case, machine))
        is_wrong = is_predicted and (RIGHT not in case.expected or result != case.expected[RIGHT])
        return cls(is_predicted, is_wrong, IT_RETURNS)


@dataclass(frozen=True, slots=True)
class _Called:
    """A function of the reference, by its name there."""

    name: str
    parameters: tuple[Parameter, ...]
    result: Type | None

    @classmethod
    def of(cls, name: str, model: Model) -> _Called:
        """The function of the specification with that name, or the rule (`control_rules.vpid`).  Raises CaseError."""
        function = model.program.functions.get(name)
        if function is not None:
            return cls(name, function.parameters, function.result)
        rule = f"rule_{name.replace('.', '_')}"
        if "." not in name or rule not in model.functions:
            raise CaseError(f"the specification has no function or rule '{name}'")
        return cls(rule, (), BOOL)


def _words_agree(case: Case, machine: Any) -> Iterator[bool]:
    for name, value in case.expected.items():
        if name.startswith(WORD):
            yield machine.PHYSICAL.read_64(int(name[len(WORD) : -1])) == value
