"""LLVM IR → object code → functions of this process, through llvmlite; objects are kept in the cache directory."""

from __future__ import annotations

import ctypes
import hashlib
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm

from fastmodel.compiler.convention import Convention
from grammar.cachedir import cache_directory, keep, kept

_LENGTH = 8  # bytes


@dataclass(frozen=True)
class Effort:
    """How much is done for fast code: the level of code generation, and the passes before; none are those of -O2."""

    level: int
    passes: tuple[str, ...] = ()


THOROUGH = Effort(2)
# Routines are short and have no loops: this gives about what -O2 does, in half the time. What is inlined into many is
# made small before.
ROUTINES = Effort(
    2,
    (
        *("sroa", "always_inliner", "global_dead_code_eliminate", "sroa", "simplify_cfg"),
        *("instruction_combine", "jump_threading", "new_gvn", "instruction_combine", "simplify_cfg"),
    ),
)
# Registers for local variables, no more: for a lot of text that need not run as fast.
QUICK = Effort(0, ("global_dead_code_eliminate", "sroa", "simplify_cfg"))


@dataclass(frozen=True)
class Target:
    """What code is made for: the processor it runs on, and how routines call each other."""

    triple: str
    cpu: str
    features: str
    convention: Convention
    effort: Effort = THOROUGH

    @staticmethod
    def host(
        *, threaded: bool | None = None, pinned: tuple[int, ...] = (), effort: Effort = THOROUGH
    ) -> Target:
        """This machine.  Threaded code is chosen where its calling conventions are known to work.

        `pinned` are the words of the state block that threaded code keeps in registers.
        """
        if threaded is None:
            threaded = sys.platform == "linux" and platform.machine() == "x86_64"
        features = llvm.get_host_cpu_features().flatten()
        convention = Convention(threaded, pinned if threaded else ())
        return Target(llvm.get_process_triple(), llvm.get_host_cpu_name(), features, convention, effort)

    def machine(self) -> Any:
        """The code generator."""
        return llvm.Target.from_triple(self.triple).create_target_machine(
            cpu=self.cpu,
            features=self.features,
            opt=self.effort.level,
            reloc="pic",
            codemodel="small",
            jit=True,
        )

    def key(self, content: bytes) -> str:
        """Identifies the object that a build from this content gives: of source files, or a text itself."""
        parts = [
            llvmlite.__version__,
            self.triple,
            self.cpu,
            self.features,
            str(self.convention),
            str(self.effort),
        ]
        return hashlib.sha256("\0".join(parts).encode() + content).hexdigest()[:32]


class NativeCode:
    """Object code loaded into this process.  `note` is what is to be known of it without making it again."""

    def __init__(self, target: Target, data: bytes, note: str = "") -> None:
        self.note = note
        empty = llvm.parse_assembly(f'target triple = "{target.triple}"\n')
        self._engine = llvm.create_mcjit_compiler(empty, target.machine())
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(data))
        self._engine.finalize_object()

    def address(self, name: str) -> int:
        """The address of an exported function or table."""
        address: int = self._engine.get_function_address(name) or self._engine.get_global_value_address(name)
        return address

    def function(self, name: str, arguments: int) -> Callable[..., int]:
        """An exported function of 64-bit integers."""
        prototype = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * arguments)
        function: Any = prototype(self.address(name))
        function.owner = self  # the code lives as long as its functions
        checked: Callable[..., int] = function
        return checked


def load(target: Target, name: str, content: bytes, make: Callable[[], tuple[str, str]]) -> NativeCode:
    """The code of the module `name`: from the cache, or built from what `make` gives, its IR and a note on it.

    These depend on `content` alone: a digest of the files that they are made from, or the text itself.
    """
    initialize()
    directory = cache_directory()
    path = directory / f"{name}-{target.key(content)}.o" if directory else None
    kept = _read(path) if path else None
    if kept is not None:
        return NativeCode(target, *kept)
    text, note = make()
    data = compile_ir(target, text)
    if path:
        _write(path, data, note)
    return NativeCode(target, data, note)


def initialize() -> None:
    """Readies LLVM for this machine."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def _read(path: Path) -> tuple[bytes, str] | None:
    """An object from the cache with its note, None if it is missing or damaged."""
    content = kept(path)
    if content is None:
        return None
    end = _LENGTH + int.from_bytes(content[:_LENGTH], "little")
    return content[end:], content[_LENGTH:end].decode()


def _write(path: Path, data: bytes, note: str) -> None:
    """Puts an object into the cache: the length of the note, the note, the object."""
    encoded = note.encode()
    keep(path, len(encoded).to_bytes(_LENGTH, "little") + encoded + data)


def compile_ir(target: Target, text: str) -> bytes:
    """Optimises a module and generates its object code."""
    module = llvm.parse_assembly(f'target triple = "{target.triple}"\n{text}')
    machine = target.machine()
    options = llvm.create_pipeline_tuning_options(speed_level=target.effort.level)
    options.loop_vectorization = False
    options.slp_vectorization = False
    builder = llvm.create_pass_builder(machine, options)
    if target.effort.passes:
        passes = llvm.create_new_module_pass_manager()
        for name in target.effort.passes:
            getattr(passes, f"add_{name}_pass")()
    else:
        passes = builder.getModulePassManager()
    passes.run(module, builder)
    data: bytes = machine.emit_object(module)
    return data
