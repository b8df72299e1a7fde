"""Parses and checks the files of a specification: all of them in the order of `main.isa`, or some named ones."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from grammar import ir
from grammar.check import SpecificationChecker
from grammar.diagnostics import Diagnostic
from grammar.garbage import reading
from grammar.parse import Item, ParsedFile, parse, read_source
from grammar.source import MAIN, Span, default_directory


@reading()
def check_directory(directory: Path) -> tuple[ir.Program, list[Diagnostic], dict[str, str]]:
    """Parses and checks the files that `main.isa` includes; the errors, and the texts they quote."""
    main = directory / MAIN
    name = f"{directory.name}/{MAIN}"
    text, errors = read_source(main, name)
    sources = {name: text}
    parsed = parse(text, name)
    files = [parsed]
    for item in parsed.items:
        if item.tree.data != "include":
            continue
        relative = str(item.tree.children[0]).strip('"')
        file = f"{directory.name}/{relative}"
        if file in sources:
            errors.append(Diagnostic("include", f"'{relative}' is included twice", item.span(item.tree)))
            continue
        if not (directory / relative).is_file():
            errors.append(
                Diagnostic(
                    "include",
                    f"there is no file '{relative}'",
                    item.span(item.tree.children[0]),
                    hint=f"paths start at {directory.name}/",
                )
            )
            continue
        text, problems = read_source(directory / relative, file)
        errors += problems
        sources[file] = text
        files.append(parse(text, file))
    order = {file: i for i, file in enumerate(sources)}
    if errors:
        # What is in files that cannot be read is unknown to the others: errors about that help nobody.
        return ir.Program(), _sorted([*errors, *(e for file in files for e in file.errors)], order), sources
    program, found = _check(files)
    return program, _sorted([*found, *_left_out(directory, sources)], order), sources


def _left_out(directory: Path, sources: Collection[str]) -> Iterator[Diagnostic]:
    """An error for each file that `main.isa` should include: what is in it would count for nothing."""
    for path in sorted(directory.rglob(f"*{Path(MAIN).suffix}")):
        relative = path.relative_to(directory).as_posix()
        file = f"{directory.name}/{relative}"
        if file not in sources:
            yield Diagnostic(
                "include",
                f"{MAIN} does not include this file",
                Span(file, 1, 1, 1, 2),
                hint=f'write include "{relative}" in {directory.name}/{MAIN}',
            )


@reading()
def check_files(
    paths: Sequence[Path], directory: Path | None = None
) -> tuple[ir.Program, list[Diagnostic], dict[str, str]]:
    """The errors of the named files, checked together with the rest of the specification under `directory`.

    The default is the specification that the first file lies in, else the project's. Another file is checked as if
    it were added to it.
    """
    directory = directory or next((d for p in paths if (d := _specification_of(p))), default_directory())
    named = {p.resolve(): str(p) for p in paths}
    base: list[Item] = []
    main_text, _ = read_source(directory / MAIN, MAIN)
    suspects: set[str] = set()
    for item in parse(main_text, MAIN).items:
        if item.tree.data == "include":
            path = directory / str(item.tree.children[0]).strip('"')
            if path.resolve() not in named and path.is_file():
                other = parse(
                    read_source(path, f"{directory.name}/{path.relative_to(directory)}")[0], str(path)
                )
                base += other.items
                suspects |= other.suspects
    errors: list[Diagnostic] = []
    sources: dict[str, str] = {}
    files: list[ParsedFile] = [ParsedFile(tuple(base), (), frozenset(suspects))]
    for path, shown in named.items():
        text, problems = read_source(path, shown)
        errors += problems
        sources[shown] = text
        files.append(parse(text, shown))
    program, found = _check(files)
    order = {shown: i for i, shown in enumerate(sources)}
    return program, _sorted([*errors, *(d for d in found if d.span.file in sources)], order), sources


def _specification_of(path: Path) -> Path | None:
    """The nearest folder above a file that has a `main.isa`."""
    return next((d for d in path.resolve().parents if (d / MAIN).is_file()), None)


def _check(files: Sequence[ParsedFile]) -> tuple[ir.Program, list[Diagnostic]]:
    checker = SpecificationChecker(
        (item for file in files for item in file.items), (name for file in files for name in file.suspects)
    )
    program = checker.run()
    misplaced = [
        Diagnostic("include", f"only {MAIN} includes files", item.span(item.tree))
        for file in files
        for item in file.items
        if item.tree.data == "include" and Path(item.file).name != MAIN
    ]
    return program, [*(e for file in files for e in file.errors), *misplaced, *checker.errors]


def _sorted(diagnostics: list[Diagnostic], order: dict[str, int]) -> list[Diagnostic]:
    return sorted(diagnostics, key=lambda d: (order.get(d.span.file, len(order)), d.span.line, d.span.column))
