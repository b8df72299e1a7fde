"""The lemmas about tables of translations are refuted by faults in the tables, and counterexamples replay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import pytest
import wrong_handlers as wrong
import z3
from broken_specification import refuted_case

from checks.fast import text_replay, translations
from checks.fast.translations import READS, WIDE_READS, WRITES, Lemmas, direct, empty, entered, miss, stale
from checks.solve import GroupRunner, Limits
from checks.symbolic.terms import Terms, Truth
from checks.theorem import Group, Status
from fastmodel import memory
from fastmodel import state as layout

Lemma = Callable[[Lemmas], Iterator[Truth]]


NAME = "tried"
SLOTS = [f"slots of other pages, {table}" for table in ("reads", "writes", "wide")]


def is_refuted(lemma: Lemma) -> bool:
    """Whether a claim of a lemma has a counterexample under its hypotheses; if so, it has to replay."""
    lemmas = Lemmas(Terms(z3.Context()))
    goal = lemmas.goal(f"fast.tlb.{NAME}", lemma)
    result = GroupRunner(Group("fast.tlb", lemmas.terms.context, (goal,)), Limits()).prove(goal)
    if result.status is Status.PROVED:
        return False
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(translations.LEMMAS, NAME, lemma)
        assert text_replay.replay(refuted_case(result), None) == 0
    return True


@pytest.mark.parametrize(
    ("lemma", "name", "fault"),
    [
        (partial(entered, table=direct(layout.READ_TLB, wrong.read_address_by_first_byte)), "", None),
        (partial(entered, table=replace(READS, entries=128)), "", None),
        (partial(entered, table=replace(WRITES, entries=128)), "", None),
        (partial(entered, table=replace(WIDE_READS, entries=128)), "", None),
        (stale, "known_widely", wrong.known_of_any_generation),
        (miss, "write_address_slowly", wrong.write_address_entering_code),
    ],
    ids=["operand in two pages", *SLOTS, "entry of an earlier generation", "page with code"],
)
def test_faults_of_tables_are_refuted(
    lemma: Lemma, name: str, fault: Callable[..., int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault is not None:
        monkeypatch.setattr(memory, name, fault)
    assert is_refuted(lemma)


def test_an_entry_of_zeros_is_not_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translations, "READS", replace(READS, empty=0))
    assert is_refuted(empty)


def test_the_lemmas_hold() -> None:
    assert not any(is_refuted(lemma) for lemma in (empty, miss, stale))
