"""The list of tests that notice what no theorem does, by item of the specification (tests.toml)."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from checks.mutate.fates import Verdict
from checks.mutate.places import Mutant

TESTS = Path(__file__).with_name("tests.toml")
FOLDER = Path(__file__).resolve().parents[3] / "tests"
"""Where the project's tests are, if it is not installed without them."""

_HEAD = """\
# By item of the specification, tests of which one fails in each mutant that counts as noticed by a test. They are run
# on the mutants; `nonroot mutate --find-tests` looks for more among all tests, and adds them.

[tests]
"""


def listed_tests(path: Path = TESTS) -> dict[str, list[str]]:
    """The list that is kept with the operators."""
    found: dict[str, list[str]] = tomllib.loads(path.read_text(encoding="utf-8"))["tests"]
    return found


def write_tests(tests: Mapping[str, Sequence[str]], path: Path = TESTS) -> None:
    """Writes it, in the order of the items.  Raises OSError."""
    entries = (
        f"{json.dumps(item)} = [\n" + "".join(f"    {json.dumps(test)},\n" for test in some) + "]\n"
        for item, some in sorted(tests.items())
    )
    path.write_text(_HEAD + "".join(entries), encoding="utf-8")


def unneeded_tests(
    listed: Mapping[str, Sequence[str]], mutants: Collection[Mutant], verdicts: Iterable[Verdict]
) -> list[tuple[str, str]]:
    """(item, test) for those that notice no mutant, although all of the item were judged."""
    fates = {verdict.mutant: verdict for verdict in verdicts}
    judged = {mutant.name for mutant in mutants}
    judged -= {mutant.name for mutant in mutants if mutant not in fates}
    needed = {(mutant.name, verdict.by) for mutant, verdict in fates.items()}
    pairs = ((item, test) for item, tests in listed.items() if item in judged for test in tests)
    return [pair for pair in pairs if pair not in needed]
