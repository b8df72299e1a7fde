"""What is known of one instruction form: its exits, what virtualizes it, whether it is sensitive, what it needs."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import z3

from checks.matrix.asker import Asker, RefutedError, UndecidedError
from checks.matrix.influence import Effect, Field, deciding
from checks.matrix.needs import minimal_core
from checks.sensitivity.questions import YES, Question, facts, questions_of
from checks.solve import GroupRunner, Limits
from checks.symbolic.values import fresh, leaves, lifted, literal
from checks.theorem import Group, Status
from checks.trap.contract import LINEAR
from checks.trap.runs import LINEAR_WIDTH, Run, Settings
from checks.trap.subject import Subject
from checks.trap.theorems import Theorem
from grammar import ir

SECONDARY = "ACTIVATE_SECONDARY_CONTROLS"
"""Taken for set: a secondary control is named by itself."""


class Exits(enum.StrEnum):
    """When an instruction exits, apart from EPT, faults and events."""

    NEVER = "never"
    SOMETIMES = "sometimes"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class Facts:
    """Of one form: its exits with controls free, and the `controls` that decide on them; the VMCS fields that decide
    what it does if it stays; the questions whose answer is yes; what it can do under the policies besides a fault; and
    the policies that each theorem needs.
    """

    exits: Exits
    controls: tuple[str, ...] = ()
    virtualized: tuple[str, ...] = ()
    sensitive: frozenset[Question] = frozenset()
    completes_under_policy: bool = True
    exits_under_policy: bool = False
    needs: tuple[tuple[Theorem, tuple[str, ...]], ...] = ()


INNOCUOUS = Facts(Exits.NEVER)


def decide(subject: Subject) -> Facts:
    """Decides everything about a form.  Raises UndecidedError, RefutedError."""
    settings, proof = subject.settings, subject.proof
    run = proof.claims[0].left
    terms = settings.terms
    assumed = [terms.truth(one) for one in proof.assumed]
    known = facts(settings.program)
    possible = [terms.truth(c) for name, c in settings.promises() if name in known]
    free = Asker(terms.context, [*assumed, *possible, *_no_violation(run)])
    alike = Asker(terms.context, [*assumed, *possible, *_no_violation(run), *_own(settings)])
    fields = list(_fields(settings, run))
    exits, stays, *results = _activated(
        fields,
        [
            terms.truth(run.exits),
            z3.Or(terms.truth(run.completes), terms.truth(run.faults)),
            *_results(settings, run),
        ],
    )
    on_exit = Effect(z3.BoolVal(True, terms.context), [exits])
    on_stay = Effect(cast(z3.BoolRef, stays), results)
    promised = [*settings.promises(), *proof.instances]
    policies = [(name, terms.truth(condition)) for name, condition in promised]
    under_policy = Asker(terms.context, [*assumed, *(condition for _, condition in policies)])
    return Facts(
        exits=_exits(free, cast(z3.BoolRef, exits), terms.truth(run.completes)),
        controls=tuple(name for one in fields for name in deciding(free, on_exit, one)),
        virtualized=tuple(name for one in fields for name in deciding(alike, on_stay, one)),
        sensitive=_sensitive(subject),
        completes_under_policy=under_policy.can(terms.truth(run.completes)),
        exits_under_policy=under_policy.can(terms.truth(run.exits), *_no_violation(run)),
        needs=tuple(_needs(subject, policies)),
    )


def _exits(asker: Asker, exits: z3.BoolRef, completes: z3.BoolRef) -> Exits:
    if not asker.can(exits):
        return Exits.NEVER
    return Exits.SOMETIMES if asker.can(completes) else Exits.ALWAYS


def _sensitive(subject: Subject) -> frozenset[Question]:
    goals = tuple(questions_of(subject))
    found = set()
    for result in GroupRunner(Group("sensitive", subject.settings.terms.context, goals), Limits()).run():
        if result.status is not Status.PROVED:
            raise UndecidedError(f"{result.id}: {result.status} {result.detail}")
        if result.witness == YES:
            found.add(Question(result.id.rsplit(".", 1)[1]))
    return frozenset(found)


def _needs(
    subject: Subject, policies: list[tuple[str, z3.BoolRef]]
) -> Iterator[tuple[Theorem, tuple[str, ...]]]:
    terms = subject.settings.terms
    assumed = [terms.truth(one) for one in subject.proof.assumed]
    for claim in subject.proof.claims:
        core = minimal_core(terms.truth(claim.conclusion(terms)), assumed, policies)
        if core is None:
            raise RefutedError(f"trap.{subject.form.name}.{claim.theorem}")
        yield claim.theorem, core


# --- terms ---------------------------------------------------------------------------------------


def _no_violation(run: Run) -> Iterator[z3.BoolRef]:
    """No access of the run exits because of EPT: that can happen to every access, whoever makes it."""
    return (z3.Not(one) for one in run.violations if isinstance(one, z3.BoolRef))


def _activated(fields: Sequence[Field], values: Sequence[z3.ExprRef]) -> list[z3.ExprRef]:
    """The values where secondary controls count."""
    for one in fields:
        member = one.type.member(SECONDARY) if isinstance(one.type, ir.Bitfield) else None
        if member is not None:
            active = one.symbol | z3.BitVecVal(1 << member.low, one.symbol.size(), one.symbol.ctx)
            return [z3.substitute(value, (one.symbol, active)) for value in values]
    return list(values)


def _own(settings: Settings) -> Iterator[z3.BoolRef]:
    """What guest and VMM own of a register comes from one value, so that the mask alone changes none."""
    scalars = settings.symbols.scalars
    for name, (value, type_) in scalars.items():
        base, mark, _ = name.partition("!first")
        if mark and base in scalars:
            a, b = lifted(settings.terms, value, type_), lifted(settings.terms, scalars[base][0], type_)
            yield cast(z3.BoolRef, a == b)


def _fields(settings: Settings, run: Run) -> Iterator[Field]:
    """The VMCS fields that a run used."""
    for variable in settings.program.state_in("vmcs"):
        for name in (variable.name, f"{variable.name}!first"):
            known = settings.symbols.scalars.get(name)
            is_used = variable.name in run.evaluator.touched.names
            if is_used and known is not None and isinstance(known[0], z3.BitVecRef):
                yield Field(variable.name, variable.type, known[0])


def _results(settings: Settings, run: Run) -> Iterator[z3.ExprRef]:
    """What a run does that stays: whether it faults and how, and all that it changed."""
    terms, program = settings.terms, settings.program
    yield terms.truth(run.faults)
    if run.fault is not None:
        for _, value, type_ in leaves(run.fault, run.fault.type):
            yield z3.If(
                terms.truth(run.faults), lifted(terms, value, type_), lifted(terms, literal(type_, 0), type_)
            )
    for name in run.completed.changed:
        variable = program.state.get(name)
        if variable is None:
            width = LINEAR_WIDTH if name == LINEAR else program.memories[name].address.width
            byte = run.completed.elements(name).read((terms.symbol(f"{name}.address", width),))
            yield lifted(terms, byte, ir.Bits(8))
            continue
        point = tuple(fresh(terms, f"{name}.{p.name}", p.type) for p in variable.indices)
        value = run.completed.elements(name).read(point) if point else run.completed.get(name)
        for _, leaf, type_ in leaves(value, variable.type):
            yield lifted(terms, leaf, type_)
