"""Which parts of the state belong to whom, prepared once for a program."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from checks.trap.contract import contract_functions, translation_inputs
from checks.walk import state_read
from grammar import ir


@dataclass(slots=True)
class Ownership:
    """What views and host's parts depend on.

    `seen_through[name]` are the variables whose view reads the state `name`, `hosted_through[name]` those whose host's
    part does. `inputs` are what translation depends on, by replaced function.
    """

    program: ir.Program
    seen_through: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    hosted_through: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    _inputs: dict[str, tuple[ir.Expr, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for variable in self.program.state.values():
            for part, through in ((variable.view, self.seen_through), (variable.host, self.hosted_through)):
                if part is not None:
                    for name in state_read(self.program, part) | {variable.name}:
                        through[name].append(variable.name)

    def seen(self, changed: set[str]) -> list[ir.StateVariable]:
        """The variables that may look different to the guest once the state in `changed` has changed."""
        return self._affected(self.seen_through, changed)

    def hosted(self, changed: set[str]) -> list[ir.StateVariable]:
        """The variables whose host's part may differ once the state in `changed` has changed."""
        return self._affected(self.hosted_through, changed)

    def _affected(self, through: dict[str, list[str]], changed: set[str]) -> list[ir.StateVariable]:
        names = dict.fromkeys(name for one in sorted(changed) for name in through.get(one, ()))
        return [self.program.state[name] for name in names]

    def inputs(self, function: ir.Function) -> tuple[ir.Expr, ...]:
        """What the translation of a replaced function depends on."""
        if function.name not in self._inputs:
            self._inputs[function.name] = translation_inputs(self.program, function)
        return self._inputs[function.name]

    def all_inputs(self) -> list[ir.Expr]:
        """What translation depends on in any replaced function."""
        functions = contract_functions(self.program)
        return list(dict.fromkeys(one for function in functions for one in self.inputs(function)))
