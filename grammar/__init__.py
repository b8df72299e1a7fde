"""The specification language: text to tree to typed IR.  Knows no machine.

`load` gives the checked `Program`; `check_files` the errors of files; `ir` is what back ends consume.
"""

from grammar.diagnostics import Diagnostic, SpecificationError, render
from grammar.format import format_text
from grammar.ir import Program
from grammar.load import check_directory, check_files, default_directory, load
from grammar.source import Span

__all__ = [
    "Diagnostic",
    "Program",
    "Span",
    "SpecificationError",
    "check_directory",
    "check_files",
    "default_directory",
    "format_text",
    "load",
    "render",
]
