"""What is computed of one instruction without VMX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from checks.trap.family import Prepared
from checks.trap.forms import Form
from checks.vmx_off.decide import completes, differences, group
from checks.vmx_off.machines import ALONE, CLOSED, OPEN, Features
from checks.vmx_off.text import ProgramTexts
from grammar import ir


@dataclass(frozen=True, slots=True)
class OffRow:
    """One instruction: what does not commute with the map, with the features open and closed.

    `privileged_by` names the features each of which by itself makes it trap. `is_removed` says that 64-bit mode does
    not have it.
    """

    instruction: str
    when_open: tuple[str, ...]
    when_closed: tuple[str, ...]
    privileged_by: tuple[str, ...] = ()
    is_removed: bool = False
    always_traps: bool = False

    @property
    def is_sensitive(self) -> bool:
        """Something does not commute, and no trap tells the VMM."""
        return bool(self.when_open or self.when_closed)


def off_rows(program: ir.Program, names: Sequence[str]) -> list[OffRow]:
    """What is known of instructions.  Raises UndecidedError."""
    kept = {name: program.instructions[name] for name in names}
    prepared = Prepared(replace(program, instructions=kept))
    texts = ProgramTexts(program)
    every: dict[str, list[Form]] = {name: [] for name in names}
    for form in (one for some in prepared.groups.values() for one in some):
        every[form.instruction.name].append(form)
    forms = {n: [f for f in some if not texts.is_harmless(f.body.body)] for n, some in every.items()}
    found, closed = (_differing(prepared, forms, features) for features in (OPEN, CLOSED))
    closable = {name: forms[name] for name in names if found[name] and not closed[name]}
    alone = {bit: _differing(prepared, closable, features) for bit, features in ALONE.items() if closable}
    return [
        OffRow(
            name,
            found[name],
            closed[name],
            tuple(bit for bit in alone if name in closable and not alone[bit][name]),
            not any(64 in form.encoded for form in every[name]),
            not found[name] and not _completes(prepared, every[name]),
        )
        for name in names
    ]


def _differing(
    prepared: Prepared, forms: Mapping[str, Sequence[Form]], features: Features
) -> dict[str, tuple[str, ...]]:
    """What does not commute, by instruction."""
    settings, asker = group(prepared.ownership, features)
    return {
        name: tuple(sorted({one for form in some for one in differences(form, settings, asker)}))
        for name, some in forms.items()
    }


def _completes(prepared: Prepared, forms: Sequence[Form]) -> bool:
    """Whether a form can complete on the processor."""
    settings, asker = group(prepared.ownership, OPEN)
    return any(completes(form, settings, asker) for form in forms)
