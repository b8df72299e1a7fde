"""Sends random states through both back ends and says where they differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass, field
from random import Random
from typing import Any

from checks.agreement.forms import PROBE, End, FormTerms, form_terms
from checks.agreement.reference import COMPLETES, Reference
from checks.agreement.start import Bytes, Start, Starts, random_value
from checks.symbolic.expressions import UnsupportedError
from checks.symbolic.values import leaves, width_of
from checks.trap.contract import FAULT, LINEAR, contract_functions
from checks.trap.forms import Form, Place, forms_by_instruction
from checks.trap.unknown import zero
from grammar import ir
from refmodel.model import Model


@dataclass(slots=True)
class Agreement:
    """What was found about one form: how often each end was reached, and the first difference, if there is one.

    `missing` says why a form could not be compared.
    """

    name: str
    ends: Counter[str] = field(default_factory=Counter)
    difference: str = ""
    missing: str = ""


class Comparison:
    """Compares forms of one program; `model` is its reference, which the comparison takes for itself."""

    def __init__(self, model: Model, seed: int = 0) -> None:
        self.program, self._seed = model.program, seed
        self._reference, self._starts = Reference(model), Starts(model)
        self._widths = _widths(model.program)
        self._indexed = {v.name: v for v in model.program.state.values() if v.indices}

    def with_terms_of(self, program: ir.Program) -> Comparison:
        """Compares the terms of another program with the same reference."""
        other = copy(self)
        other.program = program
        return other

    def forms(self) -> list[Form]:
        """All forms of all instructions."""
        return [form for forms in forms_by_instruction(self.program).values() for form in forms]

    def compare(self, form: Form, states: int) -> Agreement:
        """Evaluates so many states; stops at the first that differs."""
        found = Agreement(form.name)
        try:
            terms = form_terms(self.program, form)
        except UnsupportedError as error:
            found.missing = str(error)
            return found
        chance = Random(f"{self._seed} {form.name}")
        for _ in range(states):
            end, differences = self._once(terms, chance)
            found.ends[end] += 1
            found.difference = "; ".join(differences)
            if differences:
                break
        return found

    def _once(self, terms: FormTerms, chance: Random) -> tuple[str, list[str]]:
        start = self._starts.choose(chance, self._widths)
        operands = _operands(terms.form, chance)
        kind, carried, machine = self._reference.run(terms.form, start, operands)
        after = _After(self, kind, carried, machine, start)
        probes = {name: after.probe(name, chance) for end in terms.ends for name in end.elements}
        constants = {**start.scalars, **operands}
        for name, point in probes.items():
            constants |= {f"{PROBE}{name}.{i}": value for i, value in enumerate(point)}
        values = terms.evaluate(constants, _Functions(start))
        reached = [end for end in terms.ends if values[end.condition]]
        if [end.kind for end in reached] != [kind]:
            said = " and ".join(end.kind for end in reached) or "nothing"
            return kind, [f"ends with {said}, on the reference with {kind}"]
        return kind, list(after.differences(reached[0], values, probes))

    def memory(self, name: str, machine: Any) -> Bytes:
        """A memory after a run."""
        return self._reference.linear() if name == LINEAR else machine.PHYSICAL

    def indexed(self) -> Iterator[ir.StateVariable]:
        """The variables with indices that a machine has."""
        return (v for v in self._indexed.values() if v.space != "ghost")


class _Functions(dict[str, Callable[..., int]]):
    """The uninterpreted functions of a start state, by name."""

    def __init__(self, start: Start) -> None:
        super().__init__()
        self._start = start

    def __missing__(self, name: str) -> Callable[..., int]:
        element = self._start.element
        self[name] = function = lambda *point: element(name, tuple(int(index) for index in point))
        return function


@dataclass(slots=True)
class _After:
    """The reference after a run."""

    comparison: Comparison
    kind: str
    carried: Any
    machine: Any
    start: Start

    def probe(self, name: str, chance: Random) -> tuple[int, ...]:
        """A point of indexed state to compare: one that the reference has written, if there is one."""
        written = sorted(self._written(name))
        if written:
            point = chance.choice(written)
            return point if isinstance(point, tuple) else (point,)
        variable = self.comparison.program.state.get(name)
        widths = [width_of(p.type) for p in variable.indices] if variable is not None else [64]
        return tuple(random_value(chance, width) for width in widths)

    def _written(self, name: str) -> list[Any]:
        if name not in self.comparison.program.state:
            return list(self.comparison.memory(name, self.machine).written)
        elements = self._get(self.comparison.program.state[name])
        return list(elements) if isinstance(elements, dict) else list(range(len(elements)))

    def _get(self, variable: ir.StateVariable) -> Any:
        return getattr(self.machine.vmcs if variable.space == "vmcs" else self.machine, variable.name)

    def _element(self, name: str, point: tuple[int, ...]) -> int:
        variable = self.comparison.program.state.get(name)
        if variable is None:
            return self.comparison.memory(name, self.machine).read(point[0], 1)
        return int(self._get(variable)[point if len(point) > 1 else point[0]])

    def differences(
        self, end: End, values: tuple[int, ...], probes: dict[str, tuple[int, ...]]
    ) -> Iterator[str]:
        """Everything that is not the same."""
        for mine, (name, theirs) in zip(end.carried, self._carried(), strict=True):
            yield from _difference(name, values[mine], theirs)
        for name, before in self.start.scalars.items():
            variable = self.comparison.program.state[name]
            if variable.space != "ghost":
                value = values[end.scalars[name]] if name in end.scalars else before
                yield from _difference(name, value, self._get(variable))
        for name, place in end.elements.items():
            yield from _difference(
                f"{name}{list(probes[name])}", values[place], self._element(name, probes[name])
            )
        yield from self._untouched(end)

    def _carried(self) -> list[tuple[str, int]]:
        if self.kind == COMPLETES:
            return []
        type_ = self.comparison.program.aborts[self.kind].type
        names = [name for name, _, _ in leaves(zero(type_), type_)]
        return list(zip(names, _flat(self.carried), strict=True))

    def _untouched(self, end: End) -> Iterator[str]:
        """What the symbolic run leaves as it was, and the reference does not."""
        for variable in self.comparison.indexed():
            if variable.name in end.elements or isinstance(variable.type, ir.Struct):
                continue
            for index in self._written(variable.name):
                point = index if isinstance(index, tuple) else (index,)
                before = self.start.element(variable.name, point)
                yield from _difference(
                    f"{variable.name}{list(point)}", before, self._element(variable.name, point)
                )
        for name in {LINEAR, *self.comparison.program.memories} - set(end.elements):
            for address in self._written(name):
                before = self.start.element(name, (address,))
                yield from _difference(f"{name}[{address:#x}]", before, self._element(name, (address,)))


def _difference(name: str, mine: int, theirs: int) -> Iterator[str]:
    if int(mine) != int(theirs):
        yield f"{name} is {int(mine):#x}, on the reference {int(theirs):#x}"


def _flat(value: Any) -> Iterator[int]:
    for part in value:
        if isinstance(part, tuple):
            yield from _flat(part)
        else:
            yield int(part)


def _operands(form: Form, chance: Random) -> dict[str, int]:
    """Random values for the symbols of `OperandSymbols`."""
    flags = ("rex", "address_size", "word", "quadword", "repeat", "repne")
    values = {f"operands.{name}": int(chance.randrange(4) == 0) for name in flags}
    values["operands.length"] = chance.randrange(1, 16)
    for name, kind in zip(form.instruction.operands, form.kinds, strict=True):
        if kind.place in (Place.REGISTER, Place.NUMBER):
            values[f"{name}.index"] = chance.randrange(kind.limit)
        elif kind.place is Place.MEMORY:
            values[f"{name}.segment"] = chance.randrange(kind.limit)
            # Most addresses are canonical, or little but faults would be seen.
            values[f"{name}.address"] = random_value(chance, chance.choice((47, 47, 47, 64)))
            values[f"{name}.displacement"] = random_value(chance, 64)
            values[f"{name}.addressing"] = random_value(chance, 12)
        elif kind.width is not None:
            values[f"{name}.value"] = random_value(chance, kind.width)
    return values


def _widths(program: ir.Program) -> dict[str, int]:
    """The widths of all that is chosen at random, by name."""
    widths = {v.name: width_of(v.type) for v in program.state.values() if not isinstance(v.type, ir.Struct)}
    widths |= dict.fromkeys([LINEAR, *program.memories], 8)
    fault = program.aborts[FAULT].type
    bits = 1 + sum(width_of(t) for _, _, t in leaves(zero(fault), fault))
    for function in contract_functions(program):
        widths |= {f"{function.name}.fault": bits, f"{function.name}.exits": 1}
    return widths
