"""The outcome of a campaign as JUnit XML: a test case for each instruction that is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from checks.fuzz.campaign import Outcome
from checks.fuzz.difference import Divergence
from checks.output import write_xml


def write_junit(path: Path, name: str, instructions: Sequence[str], outcome: Outcome) -> None:
    """Writes the file.  `name` names the suite.  Raises OSError."""
    failures: dict[str, list[tuple[Divergence, Path]]] = {}
    for divergence, file in outcome.divergences:
        failures.setdefault(divergence.case.instruction or "undefined bytes", []).append((divergence, file))
    names = list(dict.fromkeys([*instructions, *failures]))
    suite = ET.Element(
        "testsuite",
        name=name,
        tests=str(len(names)),
        failures=str(len(failures)),
        errors="0",
        time=f"{outcome.seconds:.3f}",
    )
    for instruction in names:
        test = ET.SubElement(suite, "testcase", classname=name, name=instruction)
        for divergence, file in failures.get(instruction, []):
            failure = ET.SubElement(test, "failure", message=divergence.case.text, type="divergence")
            failure.text = f"nonroot replay {file}\n" + "\n".join(
                f"{d.item}: reference {d.reference:#x}, tested {d.tested:#x}" for d in divergence.differences
            )
    write_xml(path, suite)
