"""Variables with too many elements for an array: a list of those that were written, each with its indices."""

from __future__ import annotations

from string import Template

from fastmodel.reference.layout import OFFSET, Place
from fastmodel.reference.types import llvm_type, stored_bits

_TEXT = Template("""
; The entry with these indices, or the first free one, or null if all are taken or the list is left to Python.
define internal ptr @find_$name(ptr %state, $keys) {
entry:
  %list = getelementptr i8, ptr %state, i64 $offset
  %count = load i64, ptr %list
  %first = getelementptr i8, ptr %list, i64 8
  %left = icmp ugt i64 %count, $length
  br i1 %left, label %absent, label %test
absent:
  %outside.at = getelementptr i8, ptr %state, i64 $outside
  store i64 1, ptr %outside.at
  ret ptr null
test:
  %number = phi i64 [ 0, %entry ], [ %next, %compare ]
  %offset = mul i64 %number, $stride
  %place = getelementptr i8, ptr %first, i64 %offset
  %more = icmp ult i64 %number, %count
  br i1 %more, label %compare, label %new
compare:
$compare
  %next = add i64 %number, 1
  br i1 %same, label %end, label %test
new:
  %full = icmp uge i64 %number, $length
  %free = select i1 %full, ptr null, ptr %place
  ret ptr %free
end:
  ret ptr %place
}

define internal i1 @is_new_$name(ptr %state, ptr %place) {
  %list = getelementptr i8, ptr %state, i64 $offset
  %count = load i64, ptr %list
  %bytes = mul i64 %count, $stride
  %first = getelementptr i8, ptr %list, i64 8
  %behind = getelementptr i8, ptr %first, i64 %bytes
  %is = icmp eq ptr %place, %behind
  ret i1 %is
}

define internal $type @read_$name(ptr %state, $keys) {
  %place = call ptr @find_$name(ptr %state, $keys)
  %null = icmp eq ptr %place, null
  %new = call i1 @is_new_$name(ptr %state, ptr %place)
  %absent = or i1 %null, %new
  br i1 %absent, label %reset, label %read
reset:
  ret $type $reset
read:
  %value.at = getelementptr i8, ptr %place, i64 $value_offset
  %stored = load i$stored, ptr %value.at, align 8
  %value = $narrow i$stored %stored to $type
  ret $type %value
}

define internal void @write_$name(ptr %state, $keys, $type %value) {
  %place = call ptr @find_$name(ptr %state, $keys)
  %null = icmp eq ptr %place, null
  br i1 %null, label %full, label %found
full:
  %outside.at = getelementptr i8, ptr %state, i64 $outside
  store i64 1, ptr %outside.at
  ret void
found:
  %new = call i1 @is_new_$name(ptr %state, ptr %place)
  %list = getelementptr i8, ptr %state, i64 $offset
  %count = load i64, ptr %list
  %added = zext i1 %new to i64
  %counted = add i64 %count, %added
$note
  store i64 %counted, ptr %list
$store
  %value.at = getelementptr i8, ptr %place, i64 $value_offset
  %stored = $widen $type %value to i$stored
  store i$stored %stored, ptr %value.at, align 8
  ret void
}""")


def list_functions(place: Place, *, noted: bool) -> str:
    """The functions that read and write a variable that is a list; `noted`: in the journal, too."""
    type_, stored = llvm_type(place.variable.type), stored_bits(place.variable.type)
    is_whole = type_ == f"i{stored}"
    return _TEXT.substitute(
        name=place.variable.name,
        keys=keys(place.keys),
        type=type_,
        stored=stored,
        widen="bitcast" if is_whole else "zext",
        narrow="bitcast" if is_whole else "trunc",
        reset=place.variable.reset,
        offset=place.offset,
        stride=place.stride,
        value_offset=8 * place.keys,
        length=place.length,
        outside=OFFSET["OUTSIDE"],
        compare="\n".join(compared(place.keys, 0)),
        store="\n".join(stored_keys(place.keys, 0)),
        note="\n".join(_notes(place)) if noted else "",
    )


def _notes(place: Place) -> list[str]:
    return [
        "  call void @note_own(ptr %state, ptr %list, i64 8)",
        f"  call void @note_own(ptr %state, ptr %place, i64 {place.stride})",
    ]


def keys(count: int) -> str:
    """The parameters of so many keys."""
    return ", ".join(f"i64 %key.{n}" for n in range(count))


def compared(count: int, offset: int) -> list[str]:
    """Sets %same if the keys stand `offset` bytes behind %place."""
    lines = ["  %same.0 = or i1 true, false"]
    for n in range(count):
        result = "%same" if n == count - 1 else f"%same.{n + 1}"
        lines += [
            f"  %at.{n} = getelementptr i8, ptr %place, i64 {offset + 8 * n}",
            f"  %found.{n} = load i64, ptr %at.{n}",
            f"  %is.{n} = icmp eq i64 %found.{n}, %key.{n}",
            f"  {result} = and i1 %same.{n}, %is.{n}",
        ]
    return lines


def stored_keys(count: int, offset: int) -> list[str]:
    """Writes the keys `offset` bytes behind %place."""
    lines = []
    for n in range(count):
        lines += [
            f"  %to.{n} = getelementptr i8, ptr %place, i64 {offset + 8 * n}",
            f"  store i64 %key.{n}, ptr %to.{n}",
        ]
    return lines
