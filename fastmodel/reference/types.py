"""The types of the specification as LLVM types: vectors are integers of their width, structs are structs."""

from __future__ import annotations

from grammar import ir
from refmodel.generate.bounds import width_of

WORD = 64  # bits


def llvm_type(type_: ir.Type | None) -> str:
    """`i64` and the like, `{ i64, i1 }` for a struct, `void` for nothing."""
    if type_ is None or type_ == ir.NOTHING:
        return "void"
    if isinstance(type_, ir.Struct):
        return "{ " + ", ".join(llvm_type(field) for _, field in type_.fields) + " }"
    return f"i{width_of(type_)}"


def stored_bits(type_: ir.Type | None) -> int:
    """The width in memory: whole bytes, since what lies beside other widths is not specified."""
    return (width_of(type_) + 7) // 8 * 8


def is_word(type_: ir.Type | None) -> bool:
    """Whether a value fits into one 64-bit word."""
    return not isinstance(type_, ir.Struct) and words_of(type_) == 1


def words_of(type_: ir.Type | None) -> int:
    """How many 64-bit words a value occupies in the state block."""
    return (width_of(type_) + WORD - 1) // WORD


def field_index(struct: ir.Struct, name: str) -> int:
    """The position of a field."""
    return next(n for n, (field, _) in enumerate(struct.fields) if field == name)
