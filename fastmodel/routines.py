"""What of the texts is run: a routine for each handler, those for special places, and the loop's entries."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import cast

from fastmodel import cases, loop
from fastmodel.compiler import primitives
from fastmodel.compiler.convention import Convention
from fastmodel.compiler.llvm import module_text
from fastmodel.compiler.program import Instance, Meaning, instance
from fastmodel.decoded import END_OF_TRACE, REFUSE
from fastmodel.handlers import HANDLERS
from fastmodel.handlers.branches import jump_if
from fastmodel.handlers.registry import BRANCH, CONDITIONAL, JUMP, REPEAT, STEP, Handler

ROUTINES = {
    STEP: loop.step,
    BRANCH: loop.branch,
    CONDITIONAL: loop.branch,
    REPEAT: loop.branch,
    JUMP: loop.jump,
}
ENTRIES: dict[str, Callable[..., int]] = {
    "run": loop.run,
    "run_cases": cases.run_cases,
    "run_registers": cases.run_registers,
}


def routines(bindings: dict[str, Meaning]) -> dict[str, Instance]:
    """The routines by name: that of the handler, or REFUSE and END_OF_TRACE."""
    found = {REFUSE: instance(loop.refuse, bindings), END_OF_TRACE: instance(loop.end_of_trace, bindings)}
    for handler in HANDLERS:
        found[handler.name] = instance(ROUTINES[handler.flow], _with_handler(bindings, handler))
    return found


def variants(bindings: dict[str, Meaning]) -> dict[str, tuple[Handler, Instance]]:
    """The routines for special places, by name, each with the handler in whose place it stands."""
    found = {}
    for handler in HANDLERS:
        bound = _with_handler(bindings, handler)
        if handler.has_unseen:
            found[handler.unseen_name] = handler, instance(loop.unseen_step, bound)
        for condition in handler.fused:
            both = {**bound, "CONDITION": condition, "FUSED": 1, "BEFORE": bound["HANDLER"]}
            both["HANDLER"] = cast("FunctionType", jump_if)
            found[handler.fused_name(condition)] = handler, instance(loop.branch, both)
    return found


def _with_handler(bindings: dict[str, Meaning], handler: Handler) -> dict[str, Meaning]:
    return {**bindings, **dict(handler.bindings), "HANDLER": cast("FunctionType", handler.function)}


def loop_bindings(*, threaded: bool) -> dict[str, Meaning]:
    """What the run loop is specialised by."""
    go_on = primitives.proceed if threaded else loop.hand_over
    return {"THREADED": int(threaded), "GO_ON": cast("FunctionType", go_on), "FUSED": 0}


def native_text(convention: Convention) -> tuple[str, str]:
    """The LLVM IR of all routines and entries; and the names of the routines, each on a line, in their order."""
    bindings = loop_bindings(threaded=convention.threaded)
    entries = {name: instance(function, bindings) for name, function in ENTRIES.items()}
    others = {name: routine for name, (_, routine) in variants(bindings).items()}
    found = routines(bindings) | others
    return module_text(found, entries, convention), "\n".join(found)
