"""The gallery's data: TOML files beside this module, one for each area."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from grammar import SpecificationError, default_directory, ir
from grammar.files import check_directory

FOLDER = Path(__file__).parent
AREAS = ("controls", "memory", "devices", "handlers", "emulation", "switching")
OUT_OF_MODEL = "out_of_model"


class GalleryError(Exception):
    """A bug that does not fit the specification at hand."""


@dataclass(frozen=True, slots=True)
class Patch:
    """A text in a file of the specification, which occurs once, and what the bug makes of it."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Bug:
    """A historical bug. `story` is one line; `violates` the property it breaks; `source` where it is told.

    `goals` are patterns of the theorems that it refutes. `guests` are programs that run side by side: on the
    specification as it is they write what `right` says, with the bug something else: the harm. `adapted` says how the
    bug differs here from the one in history.
    """

    id: str
    product: str
    story: str
    violates: str
    source: str
    patches: tuple[Patch, ...]
    goals: tuple[str, ...] = ()
    guests: tuple[str, ...] = ()
    right: tuple[str, ...] = ()
    harm: str = ""
    adapted: str = ""
    tier: int = 1


@dataclass(frozen=True, slots=True)
class Inexpressible:
    """A historical bug that the specification has no place for, and what it lacks."""

    id: str
    lacks: str


def bugs() -> dict[str, Bug]:
    """All bugs that the specification can have, by id."""
    return {bug.id: bug for area in AREAS for bug in _area(area)}


def _area(name: str) -> Iterator[Bug]:
    for entry in _read(name)["bug"]:
        patches = tuple(Patch(**patch) for patch in entry.pop("patch"))
        goals, guests, right = (tuple(entry.pop(key, ())) for key in ("goals", "guests", "right"))
        yield Bug(patches=patches, goals=goals, guests=guests, right=right, **entry)


def out_of_model() -> list[Inexpressible]:
    """The bugs that the specification cannot have."""
    return [
        Inexpressible(one, entry["lacks"]) for entry in _read(OUT_OF_MODEL)["entry"] for one in entry["ids"]
    ]


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))


def with_bug(bug: Bug, directory: Path | None) -> ir.Program:
    """The program with the bug.  Raises GalleryError if a patch does not fit, or leaves no valid specification."""
    directory = directory or default_directory()
    with TemporaryDirectory() as temporary:
        copy = Path(temporary) / directory.name
        shutil.copytree(directory, copy)
        for patch in bug.patches:
            _apply(bug, patch, copy / patch.file)
        program, diagnostics, sources = check_directory(copy)
    if diagnostics:
        raise GalleryError(f"{bug.id}: {SpecificationError(diagnostics, sources).render()}")
    return program


def _apply(bug: Bug, patch: Patch, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if text.count(patch.old) != 1:
        raise GalleryError(f"{bug.id}: {patch.file} has this text {text.count(patch.old)} times: {patch.old}")
    path.write_text(text.replace(patch.old, patch.new), encoding="utf-8")
