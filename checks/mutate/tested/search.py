"""Which tests notice the mutants that theorems do not: those listed for the item or, if asked to, any that calls it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from checks.errors import UsageError
from checks.mutate.places import Mutant, mutated
from checks.mutate.tested.parts import changed_part, names_of
from checks.mutate.tested.pool import Pool
from checks.mutate.tested.questions import Noticed, Surveyed, Try
from grammar import ir

MOST_SECONDS = 6.0
"""The tests that are tried on a mutant take together no longer, where they pass."""


@dataclass(slots=True)
class Search:
    """The mutants of a program, by number, and the tests that are `listed` by item, which `among_all` adds to."""

    program: ir.Program
    mutants: Mapping[int, Mutant]
    listed: dict[str, list[str]]
    pool: Pool
    _surveyed: Mapping[str, Surveyed] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = {test for tests in self.listed.values() for test in tests}.difference(self.pool.tests)
        if unknown:
            raise UsageError(f"mutate: there is no test {min(unknown)}; it is listed in checks/mutate/tested")

    def all(self, numbers: Iterable[int], *, finds_more: bool) -> Iterator[tuple[int, Noticed | None]]:
        """For each mutant, as they come, the test that notices it, if any; `finds_more`: not only listed ones."""
        left = []
        for number, found in self.among_listed(numbers):
            if found is None and finds_more:
                left.append(number)
            else:
                yield number, found
        if left:
            yield from self.among_all(left)

    def among_listed(self, numbers: Iterable[int]) -> Iterator[tuple[int, Noticed | None]]:
        """For each mutant the listed test that notices it, if any."""
        known = {number: self.listed.get(self.mutants[number].name, []) for number in numbers}
        self._check_that_pass(sorted({test for tests in known.values() for test in tests}))
        yield from ((number, None) for number, tests in known.items() if not tests)
        yield from self.pool.noticed(
            (number, Try(self.mutants[number], tests)) for number, tests in known.items() if tests
        )

    def _check_that_pass(self, tests: Sequence[str]) -> None:
        """Raises UsageError for a test that fails without a mutant: that it fails with one says nothing."""
        for test, found in self.pool.survey(tests).items():
            if not found.passes:
                raise UsageError(f"mutate: {test} fails without a mutant; run it with pytest, and mend it")

    def among_all(self, numbers: Iterable[int]) -> Iterator[tuple[int, Noticed | None]]:
        """The same of any test that calls what the mutant changes; those found are listed from then on."""
        self._surveyed = self._surveyed or self.pool.survey(self.pool.tests)
        questions = ((number, Try(self.mutants[number], self._any(number))) for number in numbers)
        for number, found in self.pool.noticed(questions):
            known = self.listed.setdefault(self.mutants[number].name, []) if found is not None else []
            if found is not None and found.test not in known:
                known.append(found.test)
            yield number, found

    def _any(self, number: int) -> list[str]:
        """First the listed tests, so that the list stays short; then the quick ones of those that call it."""
        mutant = self.mutants[number]
        names = names_of(changed_part(self.program, mutated(self.program, mutant)))
        calling = [t for t, one in self._surveyed.items() if one.passes and not names.isdisjoint(one.reached)]
        calling.sort(key=lambda test: self._surveyed[test].seconds)
        seconds = accumulate(self._surveyed[test].seconds for test in calling)
        quick = [test for test, total in zip(calling, seconds, strict=True) if total < MOST_SECONDS]
        return list(dict.fromkeys([*self.listed.get(mutant.name, ()), *quick]))
