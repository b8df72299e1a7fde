"""Where a specification is, and places in its files."""

from __future__ import annotations

from pathlib import Path

from grammar.record import Record

MAIN = "main.isa"


def default_directory() -> Path:
    """The specification that is part of the project."""
    return Path(__file__).resolve().parent.parent / "spec"


def shown_file(file: str, directory: Path | None) -> str:
    """The file of a span as it can be opened: below the specification that was asked for, None for the project's."""
    return file if directory is None else str(directory / file.partition("/")[2])


class Span(Record):
    """A range of a file: lines and columns from 1, the end column exclusive."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"
