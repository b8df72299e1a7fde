"""The rows of the matrix: what is known of an instruction, from what is known of its forms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import z3

import grammar
from checks.matrix.decide import INNOCUOUS, Exits, Facts, decide
from checks.matrix.needs import minimal_core
from checks.sensitivity.questions import Question
from checks.sensitivity.text import Texts
from checks.symbolic.terms import AbstractTerms
from checks.trap.compare import Comparer
from checks.trap.contract import LOADS, STORES, VM_EXIT
from checks.trap.events import event_functions, event_goals
from checks.trap.family import Prepared
from checks.trap.lemmas import lemma_goals
from checks.trap.runs import Settings
from checks.trap.subject import Subject
from checks.trap.theorems import Theorem
from checks.trap.translation import TRANSLATION
from checks.walk import nodes, reachable_functions
from grammar import ir

STAYS, EXITS = "stays", "exits"


@dataclass(frozen=True, slots=True)
class Row:
    """One instruction.  `reasons` are the exit reasons that its text names; `under_policy` is what it can do under the
    policies, besides faulting; for the rest see `checks.matrix.decide.Facts`.
    """

    instruction: str
    exits: Exits
    reasons: tuple[str, ...]
    controls: tuple[str, ...]
    virtualized: tuple[str, ...]
    sensitive: tuple[Question, ...]
    under_policy: tuple[str, ...]
    needs: tuple[tuple[Theorem, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """`rows` of all instructions that are not innocuous by their text, whose names are `plain`.

    `lemmas` are the policies that what all instructions rest on needs, `unused` those that nothing needs.
    """

    rows: tuple[Row, ...]
    plain: tuple[str, ...]
    lemmas: tuple[tuple[str, tuple[str, ...]], ...]
    unused: tuple[str, ...]


def blocks(program: ir.Program, names: Sequence[str] = ()) -> dict[str, list[str]]:
    """The instructions that have a row, by block of the specification; of `names` only, if there are any."""
    texts = Texts(program)
    found: dict[str, list[str]] = {}
    for name, instruction in program.instructions.items():
        is_plain = all(texts.is_plain(body.body) for body in instruction.bodies)
        if not is_plain and (not names or name in names):
            found.setdefault(instruction.family or name, []).append(name)
    return found


def rows_of(program: ir.Program, names: Sequence[str]) -> list[Row]:
    """The rows of instructions, in one context.  Raises UndecidedError."""
    kept = {name: program.instructions[name] for name in names}
    prepared = Prepared(replace(program, instructions=kept))
    settings = Settings.create(prepared.ownership, AbstractTerms(z3.Context()))
    comparer, texts = Comparer(prepared.ownership, settings.terms), Texts(program)
    known: dict[str, list[Facts]] = {name: [] for name in names}
    for form in (one for forms in prepared.groups.values() for one in forms):
        subject = Subject(form, settings, comparer, prepared)
        is_plain = texts.is_plain(form.body.body)
        known[form.instruction.name].append(INNOCUOUS if is_plain else decide(subject))
    return [_row(program, program.instructions[name], facts) for name, facts in known.items()]


def _row(program: ir.Program, instruction: ir.Instruction, forms: Sequence[Facts]) -> Row:
    exits = {one.exits for one in forms}
    asked = {question for one in forms for question in one.sensitive}
    return Row(
        instruction.name,
        exits.pop() if len(exits) == 1 else Exits.SOMETIMES,
        tuple(dict.fromkeys(_reasons(program, instruction))),
        _united(one.controls for one in forms),
        _united(one.virtualized for one in forms),
        tuple(question for question in Question if question in asked),
        tuple(_under_policy(forms)),
        tuple((t, _united(n for one in forms for k, n in one.needs if k is t)) for t in Theorem),
    )


def _under_policy(forms: Sequence[Facts]) -> Iterator[str]:
    if any(one.completes_under_policy for one in forms):
        yield STAYS
    if any(one.exits_under_policy for one in forms):
        yield EXITS


def _united(parts: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for part in parts for name in part))


def _reasons(program: ir.Program, instruction: ir.Instruction) -> Iterator[str]:
    """The exit reasons in the instruction's text, apart from those of accesses to memory."""
    bodies: list[object] = [body.body for body in instruction.bodies]
    bodies += [f.body for f in reachable_functions(program, bodies, frozenset({*LOADS, *STORES}))]
    for node in (node for body in bodies for node in nodes(body)):
        if isinstance(node, ir.Raise) and node.kind == VM_EXIT and isinstance(node.value, ir.MakeStruct):
            reason = node.value.values[0]
            if isinstance(reason, ir.Literal) and isinstance(reason.type, ir.Enum):
                yield from (name for name, value in reason.type.members if value == reason.value)


def lemma_needs(program: ir.Program) -> list[tuple[str, tuple[str, ...]]]:
    """The policies that the lemmas need, which all theorems about instructions rest on."""
    prepared = Prepared(replace(program, instructions={}))
    settings = Settings.create(prepared.ownership, AbstractTerms(z3.Context()))
    comparer = Comparer(prepared.ownership, settings.terms)
    goals = list(lemma_goals(TRANSLATION, "trap", settings, prepared.ownership))
    for function in event_functions(program):
        goals += event_goals(f"trap.{function.name}", function, settings, comparer)
    policies = [(name, settings.terms.truth(condition)) for name, condition in settings.promises()]
    return [(goal.id, minimal_core(goal.conclusion, goal.hypotheses, policies) or ()) for goal in goals]


def compute(directory: Path | None, names: Sequence[str], jobs: int) -> Iterator[list[Row]]:
    """The rows block by block, as they come, from up to `jobs` processes."""
    program = grammar.load(directory)
    wanted = sorted(blocks(program, names).values(), key=len, reverse=True)
    with ProcessPoolExecutor(jobs, get_context("spawn"), _load, (directory,)) as pool:
        for future in as_completed([pool.submit(_rows, block) for block in wanted]):
            yield future.result()


def matrix(program: ir.Program, rows: Iterable[Row]) -> Matrix:
    """The whole matrix from the rows of all instructions, in the order of the specification."""
    by_name = {row.instruction: row for row in rows}
    lemmas = lemma_needs(program)
    needed = {name for row in by_name.values() for _, names in row.needs for name in names}
    needed |= {name for _, names in lemmas for name in names}
    return Matrix(
        tuple(by_name[name] for name in program.instructions if name in by_name),
        tuple(name for name in program.instructions if name not in by_name),
        tuple(lemmas),
        tuple(name for name in program.policies if name not in needed),
    )


_program: ir.Program | None = None
"""The specification of a worker process."""


def _load(directory: Path | None) -> None:
    global _program  # noqa: PLW0603  the initializer of a pool has no other place
    _program = grammar.load(directory)


def _rows(names: Sequence[str]) -> list[Row]:
    assert _program is not None
    return rows_of(_program, names)
