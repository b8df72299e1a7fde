"""A specification as a running machine: generates the module, loads it, and makes machines of it."""

from __future__ import annotations

import hashlib
import linecache
import marshal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from grammar.cachedir import cache_directory, keep, kept, write_atomically
from grammar.ir import Enum, Program
from grammar.widths import CODE_SIZES
from refmodel.decoder import Decoder, NotModelled, opcode_rows
from refmodel.memory import PhysicalMemory

DEFAULT_MEMORY = 1 << 26  # bytes of host-physical memory

# The abort, if there is one, that says that the specification has nothing for the machine's state.
UNSPECIFIED = "Unspecified"

Function = Callable[..., Any]


@dataclass
class Model:
    """The generated module of a program, and what is made from it.

    `namespace` is the module's; `functions` are the functions by their IR names and, where they have no width
    parameters, by the names of the specification (`#UD`).
    """

    program: Program
    text: str
    path: str
    namespace: dict[str, Any] = field(repr=False)

    @cached_property
    def functions(self) -> Mapping[str, Function]:
        """Every function of the specification, and its rules, policies and views (`view_CR0`)."""
        plain = {name: value for name, value in self.namespace.items() if callable(value)}
        return {**plain, **self.namespace["FUNCTIONS"]}

    @cached_property
    def instructions(self) -> Mapping[str, Function]:
        """The bodies of instructions, by their names in the IR."""
        bodies: dict[str, Function] = self.namespace["INSTRUCTIONS"]
        return bodies

    @property
    def decoder(self) -> Decoder:
        """The decoder of code in 64-bit mode."""
        return self.decoders[64]

    @cached_property
    def decoders(self) -> Mapping[int, Decoder]:
        """The decoders of the program's encodings, by the size of the code."""
        rows = opcode_rows(self.program)
        return {size: Decoder(rows, self.functions, self.instructions, size) for size in CODE_SIZES}

    @cached_property
    def outside(self) -> tuple[type[Exception], ...]:
        """What a machine raises where the specification says nothing: unknown bytes, or a mode left out."""
        unspecified = self.namespace.get(f"{UNSPECIFIED}Abort")
        return (NotModelled, unspecified) if unspecified is not None else (NotModelled,)

    def what_is_outside(self, error: Exception) -> str:
        """What one of the exceptions of `outside` is about."""
        if isinstance(error, NotModelled):
            return str(error)
        kind = self.program.aborts[UNSPECIFIED].type.fields[0][1]
        names = {value: name for name, value in kind.members} if isinstance(kind, Enum) else {}
        value = getattr(error, "value", (0,))[0]
        return f"not in the specification: {names.get(value, str(value)).lower().replace('_', ' ')}"

    def redefine(self, program: Program, part: Program) -> None:
        """Puts the functions, predicates and instructions of a part of another program in place of this one's.

        The functions stay the same objects with other code, so whoever knows them calls the new ones.
        """
        from refmodel.generate.module import definitions

        text = definitions(program, part)
        made = dict(self.namespace)
        exec(compile(text, "<redefined>", "exec"), made)  # the text comes from our own generator
        for name, new in made.items():
            old = self.namespace.get(name)
            if isinstance(old, FunctionType) and old is not new:
                old.__code__ = new.__code__
            elif old is None:
                self.namespace[name] = new
        self.program = program

    def broken_rules(self, machine: Any) -> list[str]:
        """The VM-entry checks that the machine's current VMCS does not pass, as `group.rule`."""
        rules = [(group.name, rule.name) for group in self.program.rules.values() for rule in group.rules]
        return [
            f"{group}.{rule}" for group, rule in rules if not self.functions[f"rule_{group}_{rule}"](machine)
        ]

    def machine(self, memory: PhysicalMemory | int = DEFAULT_MEMORY, kind: type | None = None) -> Any:
        """A machine in its reset state, with this memory or with so many bytes of it.

        `kind` is a subclass of the generated class `Machine`, or that itself.
        """
        physical = PhysicalMemory(memory) if isinstance(memory, int) else memory
        frame = (self.functions[name] for name in ("code_size", "fetch_translate"))
        return (kind or self.namespace["Machine"])(physical, self.decoders, *frame)


def build(program: Program, key: str | None = None, *, covered: bool = False) -> Model:
    """The model of a program.

    `key` identifies the program's content; with it the generated text is kept in the cache directory, so that
    the next run loads it and a debugger finds it. Without one, everything stays in memory. `covered` gives the
    variant that notes which clauses it reaches (refmodel/generate/clauses.py); it is slower.
    """
    directory = cache_directory() if key is not None else None
    path = directory / f"reference-{_full_key(key, covered)}.py" if directory is not None else None
    text, code = _load(path) if path is not None else (None, None)
    if text is None or code is None:
        from refmodel.generate.module import generate  # with a cached text it is not needed

        text = generate(program, covered=covered)
        name = (
            str(path) if path is not None else f"<reference {hashlib.sha256(text.encode()).hexdigest()[:12]}>"
        )
        code = compile(text, name, "exec")
        if path is not None:
            write_atomically(path, text.encode())
            keep(_compiled(path), marshal.dumps(code))
    filename = code.co_filename
    if path is None:  # otherwise a debugger finds the file
        linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    namespace: dict[str, Any] = {"__name__": "refmodel.generated", "__file__": filename}
    exec(code, namespace)  # the text comes from our own generator, or from a file that it wrote
    return Model(program, text, filename, namespace)


def _full_key(key: str | None, covered: bool) -> str:
    """The program's key together with the generator's sources and the Python version."""
    return hashlib.sha256(
        f"{key} {covered} {_GENERATOR} {sys.implementation.cache_tag}".encode()
    ).hexdigest()[:32]


def _digest_of_generator() -> str:
    digest = hashlib.sha256()
    for source in sorted((Path(__file__).parent / "generate").glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


# Taken when the generator is imported: its files may change while a long run has the old ones in memory.
_GENERATOR = _digest_of_generator()


def _compiled(path: Path) -> Path:
    return path.with_suffix(".code")


def _load(path: Path) -> tuple[str | None, CodeType | None]:
    """The text and code of an earlier run, None where there is none or it cannot be read."""
    content = kept(_compiled(path))
    try:
        return path.read_text(), None if content is None else marshal.loads(content)
    except (OSError, ValueError):
        return None, None
