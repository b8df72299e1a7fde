"""The known differences of emulators: each is still there, and has a case."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

import grammar
from checks.case import read_case
from checks.errors import UsageError
from checks.fuzz import engines
from checks.fuzz.compare import Comparison
from checks.fuzz.known import DIRECTORY, Known, known_faults
from refmodel.model import Model

EMULATORS = ("unicorn", "bochs")
KNOWN = {engine: known_faults(engine, grammar.load()) for engine in EMULATORS}


@pytest.fixture(scope="module")
def compared(model: Model) -> Callable[[str], Comparison]:
    """The comparison with an emulator."""

    @cache
    def comparison(engine: str) -> Comparison:
        try:
            return Comparison(model, engines.tested_engine(engine))
        except (ModuleNotFoundError, UsageError) as error:
            pytest.skip(str(error))

    return comparison


@pytest.mark.parametrize(
    ("engine", "fault"),
    [
        pytest.param(engine, fault, id=f"{engine}-{fault.id}")
        for engine in EMULATORS
        for fault in KNOWN[engine]
    ],
)
def test_it_is_still_there(compared: Callable[[str], Comparison], engine: str, fault: Known) -> None:
    """One that has gone is to be taken out of the list."""
    divergence = compared(engine).examine(read_case(fault.case_file(engine)))
    assert divergence is not None
    assert divergence.known == fault.id


@pytest.mark.parametrize("engine", EMULATORS)
def test_nothing_is_kept_that_is_not_listed(engine: str) -> None:
    files = {path.stem for path in (DIRECTORY / engine).glob("*.json")}
    assert files == {fault.id for fault in KNOWN[engine]}
