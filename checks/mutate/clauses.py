"""Shows that a fault in whose a variable is makes no difference under the VMM's policy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import z3

from checks.mutate.equivalence import SAME_UNDER_POLICY, Numbered, in_which
from checks.mutate.weave import Weaver
from checks.symbolic.evaluate import Evaluator
from checks.symbolic.terms import AbstractTerms, Truth
from checks.symbolic.values import equal, fresh
from checks.trap.ownership import Ownership
from checks.trap.runs import Settings
from grammar import ir


def reasons(program: ir.Program, weaver: Weaver, name: str, some: Numbered) -> dict[int, str]:
    """Of some mutants of one variable, those in which owner, view and host's part are the same in every guest."""
    settings = Settings.create(Ownership(program), AbstractTerms(z3.Context()))
    versions = program.state[name], weaver.woven(some).state[name]
    same = list(_same_clauses(settings, *versions))
    promised = [condition for _, condition in settings.promises()]
    return dict.fromkeys(in_which(settings.terms, promised, same, frozenset(some)), SAME_UNDER_POLICY)


def _same_clauses(settings: Settings, old: ir.StateVariable, new: ir.StateVariable) -> Iterator[Truth]:
    terms, evaluator = settings.terms, Evaluator(settings.program, settings.terms)
    at = {p.name: fresh(terms, f"{old.name}.{p.name}", p.type) for p in old.indices}
    for before, after in ((old.owner, new.owner), (old.view, new.view), (old.host, new.host)):
        if before is not None:
            left, right = (
                evaluator.pure(cast(ir.Expr, one), settings.first, **at) for one in (before, after)
            )
            yield equal(terms, left, right, before.type)
