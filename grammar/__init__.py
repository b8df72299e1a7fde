"""The specification language: text to tree to typed IR.  Knows no machine.

`load` gives the checked `Program`, whose classes are in `grammar.ir`; `grammar.files` has the errors of files and
`grammar.format` their layout.  Those import the parser, `load` only when it must.
"""

from grammar.diagnostics import Diagnostic, SpecificationError, render
from grammar.ir import Program
from grammar.load import load
from grammar.source import Span, default_directory

__all__ = ["Diagnostic", "Program", "Span", "SpecificationError", "default_directory", "load", "render"]
