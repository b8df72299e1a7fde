"""The results of a comparison: in lines, and as JSON."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from checks.agreement.compare import Agreement

SCHEMA_VERSION = 1


@dataclass(slots=True)
class Results:
    """What was found about the forms until now."""

    seed: int
    found: list[Agreement] = field(default_factory=list)
    _instructions: set[str] = field(default_factory=set)
    _began: float = field(default_factory=time.process_time)

    def add(self, found: Agreement, instruction: str) -> None:
        """What was found about a form of an instruction."""
        self.found.append(found)
        self._instructions.add(instruction)

    def seconds(self) -> float:
        """The processor time since the beginning."""
        return time.process_time() - self._began

    @property
    def status(self) -> int:
        """The exit status: 1 if something differs, 3 if something could not be decided."""
        if any(one.difference for one in self.found):
            return 1
        return 3 if any(one.undecided or one.missing for one in self.found) else 0

    def ends(self) -> Counter[str]:
        """How many states reached each end."""
        return sum((one.ends for one in self.found), Counter())

    def lines(self) -> Iterator[str]:
        """What is to be printed at the end."""
        found, states = self.found, self.ends().total()
        kinds = Counter[str]()
        for end, count in self.ends().items():
            kinds[end.split()[0]] += count
        counted = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
        seconds = self.seconds()
        yield (
            f"{len(found):,} forms of {len(self._instructions)} instructions in {states:,} states ({counted}): "
            f"{seconds:.1f} s of processor time, {states / seconds:,.0f} states a second, seed {self.seed}"
        )
        paths, searched = sum(one.paths for one in found), sum(one.searched for one in found)
        unreachable, undecided = (
            sum(one.unreachable for one in found),
            sum(len(one.undecided) for one in found),
        )
        yield (
            f"{paths:,} paths to an end: {paths - searched - unreachable - undecided:,} taken by random states, "
            f"{searched:,} by states that the solver found, {unreachable:,} proved that no state takes them, "
            f"{undecided} undecided"
        )
        different, missing = (
            sum(bool(one.difference) for one in found),
            sum(bool(one.missing) for one in found),
        )
        yield f"{different} forms differ, {missing} not compared"

    def document(self) -> dict[str, object]:
        """All of it; `differences` are the forms that differ."""
        return {
            "schema_version": SCHEMA_VERSION,
            "seed": self.seed,
            "seconds": round(self.seconds(), 3),
            "states": self.ends().total(),
            "ends": dict(self.ends().most_common()),
            "differences": [one.name for one in self.found if one.difference],
            "forms": [_form(one) for one in self.found],
        }


def problems(found: Agreement) -> Sequence[str]:
    """Lines about what is not as it should be of a form."""
    said = [f"{found.name}: {found.difference}"] if found.difference else []
    said += [f"{found.name} cannot be compared: {found.missing}"] if found.missing else []
    return [*said, *(f"{found.name}: no state is known that ends with {path}" for path in found.undecided)]


def _form(one: Agreement) -> dict[str, object]:
    return {
        "name": one.name,
        "ends": dict(one.ends),
        "paths": one.paths,
        "searched": one.searched,
        "unreachable": one.unreachable,
        "undecided": one.undecided,
        "difference": one.difference,
        "missing": one.missing,
    }
