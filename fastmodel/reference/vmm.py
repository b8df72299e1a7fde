"""What is added where the VMM runs too: its handlers, and what the run loop looks at (guests.ll)."""

from __future__ import annotations

from collections.abc import Iterator

from fastmodel import controls
from fastmodel.reference.contents import Contents
from fastmodel.reference.statements import StatementWriter


def functions(module: Contents) -> Iterator[str]:
    """The lines of all of it."""
    yield from _handlers(module)
    yield from _times_forgotten(module)
    offsets = ", ".join(f"i64 {module.layout.element(name, index)}" for name, index in controls.DECIDING)
    yield f"@deciding = internal constant [{len(controls.DECIDING)} x i64] [{offsets}]"


def _handlers(module: Contents) -> Iterator[str]:
    """The handlers of VM exits, and the choice among them."""
    handlers = module.reach.handlers.values()
    other = next((handler.name for handler in handlers if handler.value is None), "none")
    cases = " ".join(f"i64 {h.value}, label %{h.name}" for h in handlers if h.value is not None)
    for handler in handlers:
        yield f"define internal void @handle_{handler.name}(ptr %state) {{"
        yield from StatementWriter(module, "void").finish(handler.body)
        yield "}"
    yield "define internal void @dispatch(ptr %state, i64 %reason) {"
    yield f"  switch i64 %reason, label %{other} [ {cases} ]"
    for handler in handlers:
        yield f"{handler.name}:"
        yield f"  call void @handle_{handler.name}(ptr %state)"
        yield "  ret void"
    yield "none:"
    yield "  ret void"
    yield "}"


def _times_forgotten(module: Contents) -> Iterator[str]:
    """How often a cached function was forgotten."""
    yield "define internal i64 @times_forgotten(ptr %state) {"
    yield "  %sum.0 = add i64 0, 0"
    for number, name in enumerate(module.layout.caches):
        yield f"  %times.{number} = call i64 @generation_{name}(ptr %state)"
        yield f"  %sum.{number + 1} = add i64 %sum.{number}, %times.{number}"
    yield f"  ret i64 %sum.{len(module.layout.caches)}"
    yield "}"
