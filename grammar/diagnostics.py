"""Errors in specification files, and how they are shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from grammar.source import Span, shown_file


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One error.  `notes` are other places that explain it (where the expectation came from); `hint` what to do."""

    code: str
    message: str
    span: Span
    notes: tuple[tuple[Span, str], ...] = ()
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.span}: error[{self.code}]: {self.message}"


def located(
    diagnostics: Iterable[Diagnostic], sources: Mapping[str, str], directory: Path | None
) -> tuple[list[Diagnostic], dict[str, str]]:
    """Errors, and the texts they quote, with the paths that their files have under `directory` (`shown_file`)."""

    def moved(span: Span) -> Span:
        where = shown_file(span.file, directory)
        return Span(where, span.line, span.column, span.end_line, span.end_column)

    errors = [
        replace(
            error, span=moved(error.span), notes=tuple((moved(place), text) for place, text in error.notes)
        )
        for error in diagnostics
    ]
    return errors, {shown_file(file, directory): text for file, text in sources.items()}


class SpecificationError(Exception):
    """The specification has errors: `diagnostics`, in the order of files and lines, and the `sources` they quote."""

    def __init__(self, diagnostics: Iterable[Diagnostic], sources: Mapping[str, str]) -> None:
        self.diagnostics = tuple(diagnostics)
        self.sources = dict(sources)
        super().__init__(f"{len(self.diagnostics)} error(s) in the specification")

    def render(self) -> str:
        """All errors as text: place, message, source line with carets, notes and hint."""
        return "\n".join(render(d, self.sources) for d in self.diagnostics)


def render(diagnostic: Diagnostic, sources: Mapping[str, str]) -> str:
    """`file:line:column: error[CODE]: text`, the source line, carets, then notes and the hint."""
    lines = [str(diagnostic), *_quote(diagnostic.span, sources)]
    for span, text in diagnostic.notes:
        lines += [f"{span}: note: {text}", *_quote(span, sources)]
    if diagnostic.hint:
        lines.append(f"  hint: {diagnostic.hint}")
    return "\n".join(lines) + "\n"


def _quote(span: Span, sources: Mapping[str, str]) -> list[str]:
    lines = sources.get(span.file, "").splitlines()
    if not 1 <= span.line <= len(lines):
        return []
    text = lines[span.line - 1]
    end = span.end_column if span.end_line == span.line else len(text) + 1
    carets = "^" * max(1, min(end, len(text) + 1) - span.column)
    shown = text if len(text) <= 160 else text[:157] + "..."
    return [f"  {span.line:4} | {shown}", f"       | {' ' * min(span.column - 1, 160)}{carets[:160]}"]
