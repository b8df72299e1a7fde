"""Replays counterexamples to the lemmas of `trap` on the reference: two states that look the same to the guest.

The reference is asked for what a lemma takes for granted, that the states look the same and, for translation, keep the
policies; and for what it says: what decides on page faults in each, or which part of a variable the runs share.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, cast

from checks.case import Case, get_item
from checks.outcome import EXCLUDED
from checks.trap.concrete import item, show
from checks.trap.initial import masked_part
from checks.trap.lemma_case import SAME_LOOKS, THOUGH_DIFFERENT
from checks.trap.ownership import Ownership
from checks.trap.replay import Player, print_rows
from checks.trap.translation import TRANSLATION, input_bits, input_text
from grammar import ir
from refmodel.model import Model
from refmodel.vectors import CaseError

_ITEM = re.compile(r"(\w+)(?:\[([\d,]+)\])?")
_OF_THE_BARE_MACHINE = ".E"
"""Ends the id of the lemma about it."""

Row = tuple[str, str, str]


def replay(case: Case, model: Model) -> int:
    """Compares the two states: 0 if they break the lemma, 1 if they do not.  Raises CaseError."""
    found = _Compared(case, model)
    print_rows(case, found.rows)
    print(
        f"CONFIRMED: {case.text}" if found.is_wrong else "not confirmed: the reference keeps the lemma here"
    )
    return 0 if found.is_wrong else 1


def outcome(case: Case, model: Model) -> str:
    """That the states look the same, if the lemma holds.  Raises CaseError."""
    found = _Compared(case, model)
    if not found.is_possible:
        return "they look different, or break a policy"
    if found.is_wrong:
        return EXCLUDED
    return THOUGH_DIFFERENT if found.player.others() else SAME_LOOKS


class _Compared:
    """Two machines in the states of a case; `rows` are the parts in which they differ and should not."""

    def __init__(self, case: Case, model: Model) -> None:
        self.case, self.model = case, model
        self.player = Player(case, model)
        self.is_bare = case.id.endswith(_OF_THE_BARE_MACHINE)
        self.left = self.player.machine({})
        self.right = self.player.bare() if self.is_bare else self.player.machine(self.player.others())
        is_translation = case.instruction == TRANSLATION
        self.rows = list(self._inputs() if is_translation else self._shared())
        self.is_possible = self._looks_same() and (not is_translation or self._keep_policies())

    @property
    def is_wrong(self) -> bool:
        """The lemma is broken."""
        return self.is_possible and bool(self.rows)

    def _looks_same(self) -> bool:
        """Whether the guest sees the same of what the other state has of its own; the bare machine has what it sees."""
        names = () if self.is_bare else self.player.others()
        return all(self._view(name, self.left) == self._view(name, self.right) for name in names)

    def _view(self, name: str, machine: Any) -> int:
        """What the guest sees of an item; 0 if it sees nothing of it."""
        variable, point = self._item(name)
        view = self.model.functions.get(f"view_{variable.name}")
        return int(view(machine, *point)) if view is not None else 0

    def _keep_policies(self) -> bool:
        guests = (self.left,) if self.is_bare else (self.left, self.right)
        plain = [p.name for p in self.model.program.policies.values() if not p.parameters]
        return all(self.model.functions[f"policy_{name}"](machine) for name in plain for machine in guests)

    def _inputs(self) -> Iterable[Row]:
        """What decides on page faults, where it differs."""
        for one in dict.fromkeys(Ownership(self.model.program).all_inputs()):
            read, high, low = input_bits(one)
            name = item(read.name, tuple(cast(ir.Literal, index).value for index in read.indices))
            values = (get_item(machine, self.model.program, name) for machine in (self.left, self.right))
            a, b = (value >> low & (1 << high - low + 1) - 1 for value in values)
            if a != b:
                yield f"{input_text(one)} counts as", show(a, one.type), show(b, one.type)

    def _shared(self) -> Iterable[Row]:
        """The part of a variable that the runs share, if it differs."""
        variable, _ = self._item(self.case.instruction)
        a, b = (self._part(machine) for machine in (self.left, self.right))
        if a != b:
            yield f"{self.case.instruction}, shared", show(a, variable.type), show(b, variable.type)

    def _part(self, machine: Any) -> int:
        """The bits that the mask leaves to the guest, or all if the guest owns the variable."""
        variable, point = self._item(self.case.instruction)
        value = get_item(machine, self.model.program, self.case.instruction)
        if masked_part(variable) is not None:
            return value & ~int(self.model.functions[f"host_{variable.name}"](machine, *point))
        return value if self.model.functions[f"owner_{variable.name}"](machine, *point) else 0

    def _item(self, name: str) -> tuple[ir.StateVariable, tuple[int, ...]]:
        """The variable of an item, and its indices."""
        match = _ITEM.fullmatch(name)
        variable = self.model.program.state.get(match[1]) if match is not None else None
        if match is None or variable is None:
            raise CaseError(f"the specification has no state '{name}'")
        return variable, tuple(int(n) for n in (match[2] or "").split(",") if n)
