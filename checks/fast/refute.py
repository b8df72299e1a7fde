"""Whether proofs refute the known faults of the fast model (faults.toml): `nonroot prove --faults`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from checks.fast.faults import Fault, faulty, run_command

REFUTED = "REFUTED"


@dataclass(frozen=True, slots=True)
class Refutation:
    """What came of the theorem that a fault refutes: its verdict, whether the case replays, and CPU seconds of all."""

    fault: Fault
    verdict: str
    replays: bool
    seconds: float

    @property
    def is_whole(self) -> bool:
        """Refuted, with a case that shows it."""
        return self.verdict == REFUTED and self.replays


def refute_all(chosen: Sequence[Fault]) -> Iterator[Refutation]:
    """Tries the theorem of each fault in turn."""
    for fault in chosen:
        yield refute(fault)


def refute(fault: Fault) -> Refutation:
    """Proves the fault's theorem in a process that has the fault, and replays the counterexample in another."""
    with faulty(fault) as environment, TemporaryDirectory(prefix="nonroot-cases-") as directory:
        report = Path(directory) / "report.json"
        options = ["--no-cache", "-j", "1", "--json", str(report), "--cases", directory]
        _, seconds = run_command(environment, "prove", *options, fault.goal)
        results = json.loads(report.read_text("utf-8"))["results"] if report.exists() else []
        verdict = next((str(one["status"]) for one in results if one["id"] == fault.goal), "ERROR")
        cases = [path for path in Path(directory).glob("*.json") if path != report]
        replays = bool(cases)
        for case in cases:
            done, more = run_command(environment, "replay", str(case))
            replays &= done.returncode == 0
            seconds += more
    return Refutation(fault, verdict, replays, seconds)
