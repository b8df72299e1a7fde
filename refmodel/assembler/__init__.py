"""The assembler for guests: Intel syntax as NASM reads it, encoded by the specification's own opcode tables.

Labels, local labels (`.loop`), `name equ expression`, `org`, `align`, `db dw dd dq`, `zero`, `times`, `lock`, `bits`,
`include "file"`; `[rel name]` is relative to RIP. There are no macros and no sections: the result is a flat
image.
"""

from refmodel.assembler.layout import Assembled, Listing, assemble, assemble_file
from refmodel.assembler.source import AssemblyError, AssemblyErrors

__all__ = ["Assembled", "AssemblyError", "AssemblyErrors", "Listing", "assemble", "assemble_file"]
