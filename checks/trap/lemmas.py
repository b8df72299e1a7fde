"""What the theorems about instructions take for granted, and the proof of it.

- `trap.translation.C`, `.E`: what decides on a page fault is the same in both runs, and on the bare machine.
- `trap.views.NAME`: two states that look the same to the guest agree on the part of a variable that the runs share, so
  that sharing its symbols leaves out no pair of states.
"""

from __future__ import annotations

from collections.abc import Iterator

from checks.theorem import Goal
from checks.trap.ownership import Ownership
from checks.trap.runs import Settings
from checks.trap.translation import SIDES, TRANSLATION, translation_goals
from checks.trap.views import VIEWS, divided, view_goal
from grammar import ir


def lemma_ids(program: ir.Program, family: str) -> dict[str, tuple[str, ...]]:
    """The ids of all lemmas, by group."""
    views = tuple(f"{family}.{VIEWS}.{variable.name}" for variable in divided(program))
    return {
        f"{family}.{TRANSLATION}": tuple(f"{family}.{TRANSLATION}.{theorem}" for theorem in SIDES),
        f"{family}.{VIEWS}": views,
    }


def lemma_goals(subject: str, family: str, settings: Settings, ownership: Ownership) -> Iterator[Goal]:
    """The goals of one of the groups, none for any other subject."""
    if subject == TRANSLATION:
        yield from translation_goals(f"{family}.{TRANSLATION}", settings, ownership)
    elif subject == VIEWS:
        for variable in divided(settings.program):
            yield view_goal(f"{family}.{VIEWS}.{variable.name}", variable, settings)
