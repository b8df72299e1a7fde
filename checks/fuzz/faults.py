"""Whether fuzzing finds the known faults of the fast model (checks/fast/faults.toml): `nonroot fuzz --faults`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from checks.errors import UsageError
from checks.fast.faults import Fault, faulty, run_module

_SHRINK = 0.1  # seconds: that the fault is found is enough


@dataclass(frozen=True, slots=True)
class Finding:
    """What a campaign with a fault came to: whether it was found, and by which instruction.

    `until_found` and `seconds` are CPU seconds of the process, until the first difference and until its end.
    """

    fault: Fault
    is_found: bool
    until_found: float
    seconds: float
    instruction: str

    def document(self) -> dict[str, object]:
        """For JSON; the seconds until it was found are None if it was not."""
        return {
            "id": self.fault.id,
            "found": self.is_found,
            "cpu_seconds_until_found": round(self.until_found, 1) if self.is_found else None,
            "instruction": self.instruction,
        }


def find_all(chosen: Sequence[Fault], seconds: float) -> Iterator[Finding]:
    """Fuzzes the fast model with each fault in turn, for so many CPU seconds at most."""
    for fault in chosen:
        yield find(fault, seconds)


def find(fault: Fault, seconds: float) -> Finding:
    """Runs `nonroot fuzz --mode ci` in a process that has the fault, with a cache of its own."""
    with faulty(fault) as environment, TemporaryDirectory(prefix="nonroot-corpus-") as directory:
        report = Path(directory) / "report.json"
        options = [
            "--mode",
            "ci",
            "--seconds",
            f"{seconds:g}",
            "--cpu-time",
            "--shrink",
            f"{_SHRINK:g}",
            "--corpus",
            directory,
            "--json",
            str(report),
        ]
        done, spent = run_module(environment, "checks", "fuzz", *options)
        if done.returncode not in (0, 1):
            raise UsageError(
                f"fault {fault.id}: the fuzzer ended with status {done.returncode}: {done.stderr}"
            )
        document = json.loads(report.read_text(encoding="utf-8"))
    found = document["divergences"]
    instruction = str(found[0]["instruction"] or "a program") if found else ""
    return Finding(fault, bool(found), document["cpu_seconds_until_first"] or 0.0, spent, instruction)
