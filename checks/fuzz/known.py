"""Faults of emulators that are known: what differs because of them is counted under their name, not reported anew."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from checks.fuzz.difference import Difference
from grammar.ir import Program

DIRECTORY = Path(__file__).parent / "known"  # ENGINE.toml, and ENGINE/ID.json: a case that shows it

UNDEFINED = "-"  # stands for the instruction where the bytes are undefined


@dataclass(frozen=True)
class Known:
    """A known fault.

    It explains a difference if the instruction is one of `instructions` (empty: any; `-`: undefined bytes), its bytes
    (in hexadecimal) match `code`, one difference matches `cause`, and every other one `items`. Differences are
    matched as `item reference tested`, numbers in hexadecimal. `whose` says who is wrong: the emulator, or nobody
    where processors may differ; `reason` why, with the manual's place.
    """

    id: str
    instructions: frozenset[str]
    code: re.Pattern[str]
    cause: re.Pattern[str]
    items: re.Pattern[str]
    whose: str
    reason: str

    def explains(self, instruction: str, code: bytes, differences: Sequence[Difference]) -> bool:
        """Whether these differences come from it."""
        texts = [f"{d.item} {d.reference:#x} {d.tested:#x}" for d in differences]
        return (
            (not self.instructions or (instruction or UNDEFINED) in self.instructions)
            and self.code.fullmatch(code.hex()) is not None
            and any(self.cause.fullmatch(text) for text in texts)
            and all(self.items.fullmatch(text) or self.cause.fullmatch(text) for text in texts)
        )

    def case_file(self, engine: str) -> Path:
        """A case that shows it."""
        return DIRECTORY / engine / f"{self.id}.json"


def known_faults(engine: str, program: Program) -> tuple[Known, ...]:
    """The known faults of an engine; those of instructions that the specification does not have are left out."""
    there = {UNDEFINED, *program.instructions}
    return tuple(known for known in _read(engine) if not known.instructions or known.instructions & there)


@cache
def _read(engine: str) -> tuple[Known, ...]:
    path = DIRECTORY / f"{engine}.toml"
    if not path.exists():
        return ()
    entries: list[dict[str, Any]] = tomllib.loads(path.read_text(encoding="utf-8"))["fault"]
    return tuple(
        Known(
            id=entry["id"],
            instructions=frozenset(entry.get("instructions", "").split()),
            code=re.compile(entry.get("code", ".*")),
            cause=re.compile(entry["cause"]),
            items=re.compile(entry.get("items", entry["cause"])),
            whose=entry["whose"],
            reason=" ".join(entry["reason"].split()),
        )
        for entry in entries
    )
