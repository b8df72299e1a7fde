"""What is computed, against Robin and Irvine's list: each difference has a reason, and each reason is checked."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checks.vmx_off.facts import OffRow

LIST = Path(__file__).with_name("robin_irvine.toml")


@dataclass(frozen=True, slots=True)
class Theirs:
    """Their list, and what is said of where ours differs.  The file says what each part means."""

    theirs: Mapping[str, Sequence[str]]
    traps: Mapping[str, str]
    more: Mapping[str, Mapping[str, Any]]
    like: Mapping[str, Mapping[str, Any]]
    privileged_by: Mapping[str, Sequence[str]]
    removed: frozenset[str]

    @classmethod
    def load(cls, path: Path = LIST) -> Theirs:
        """The list that is kept beside this module."""
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        removed = frozenset(data.pop("removed")["names"])
        return cls(**data, removed=removed)

    @property
    def names(self) -> frozenset[str]:
        """The instructions on their list."""
        return frozenset(name for names in self.theirs.values() for name in names)

    def reason(self, name: str) -> str:
        """Why an instruction is on one of the lists only; empty if it is not."""
        one = self.more.get(name) or self.like.get(name) or {}
        return self.traps.get(name) or str(one.get("reason", ""))


def broken(theirs: Theirs, rows: Mapping[str, OffRow]) -> list[str]:
    """What is said of instructions and is not so; `rows` may be of some instructions only."""
    return [problem for row in rows.values() for problem in _broken(theirs, row, rows)]


def _broken(theirs: Theirs, row: OffRow, rows: Mapping[str, OffRow]) -> Iterator[str]:
    name = row.instruction
    if name in theirs.traps:
        if not row.always_traps:
            yield f"{name} does not always trap"
    elif row.is_sensitive != (name in theirs.names or name in theirs.more or name in theirs.like):
        yield f"{name} is {'' if row.is_sensitive else 'not '}sensitive, and nothing says why the lists differ"
    if name in theirs.more and list(row.when_open) != theirs.more[name]["differs"]:
        yield f"{name} differs in {', '.join(row.when_open)}"
    if name in theirs.like:
        yield from _unlike(theirs.like[name], row, rows)
    features = tuple(bit for bit, names in theirs.privileged_by.items() if name in names)
    if row.is_sensitive and row.privileged_by != features:
        yield f"{name} is made privileged by {', '.join(row.privileged_by) or 'nothing'}"
    if row.is_sensitive and row.is_removed != (name in theirs.removed):
        yield f"{name} is {'not ' if row.is_removed else ''}an instruction of 64-bit mode"


def _unlike(said: Mapping[str, Any], row: OffRow, rows: Mapping[str, OffRow]) -> Iterator[str]:
    """What differs in the instruction and in none of those that it is said to be like."""
    if not all(other in rows for other in said["as"]):
        return
    known = {one for other in said["as"] for one in rows[other].when_open} | set(said.get("besides", ()))
    unlike = [one for one in row.when_open if one not in known]
    if unlike:
        yield f"{row.instruction} differs in {', '.join(unlike)}, unlike {' and '.join(said['as'])}"
