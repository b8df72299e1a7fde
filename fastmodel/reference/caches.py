"""Cached functions: a table of what they returned, by a hash of their keys, until it is forgotten.

Results have one word; functions with others are left to Python.

The table is its generation, then for each place the generation that it is of, the keys, and the value: forgetting is
to begin a new generation.
"""

from __future__ import annotations

from collections.abc import Iterator
from string import Template

from fastmodel.reference.contents import Contents
from fastmodel.reference.layout import CACHE_BITS, OFFSET, cache_stride
from fastmodel.reference.lists import compared, keys, stored_keys
from fastmodel.reference.statements import StatementWriter
from fastmodel.reference.types import llvm_type
from grammar import ir

TRIES = 8  # keys are in one of so many places from the first on

_TEXT = Template("""
define internal i64 @generation_$name(ptr %state) {
  %table.at = getelementptr i8, ptr %state, i64 $pointer
  %table = load ptr, ptr %table.at
  %generation = load i64, ptr %table
  ret i64 %generation
}

define internal void @forget_$name(ptr %state) {
  %table.at = getelementptr i8, ptr %state, i64 $pointer
  %table = load ptr, ptr %table.at
  %generation = load i64, ptr %table
  %next = add i64 %generation, 1
  store i64 %next, ptr %table
  ret void
}

; The place of these keys, or one that is free.  If there is none, the last one tried is given up, and the run is left
; to the Python model: what is remembered counts.
define internal ptr @find_$name(ptr %state, $keys) {
entry:
  %table.at = getelementptr i8, ptr %state, i64 $pointer
  %table = load ptr, ptr %table.at
  %generation = load i64, ptr %table
  %first = getelementptr i8, ptr %table, i64 8
  %mixed.0 = add i64 0, 0
$mix
  %hash = lshr i64 %mixed.$count, $shift
  br label %try
try:
  %tries = phi i64 [ 0, %entry ], [ %next, %further ]
  %moved = add i64 %hash, %tries
  %number = and i64 %moved, $last
  %offset = mul i64 %number, $stride
  %place = getelementptr i8, ptr %first, i64 %offset
  %known = load i64, ptr %place
  %present = icmp eq i64 %known, %generation
  br i1 %present, label %compare, label %end
compare:
$compare
  br i1 %same, label %end, label %further
further:
  %next = add i64 %tries, 1
  %again = icmp ult i64 %next, $tries
  br i1 %again, label %try, label %full
full:
  %outside.at = getelementptr i8, ptr %state, i64 $outside
  store i64 1, ptr %outside.at
  store i64 0, ptr %place
  br label %end
end:
  ret ptr %place
}

define internal void @keep_$name(ptr %state, ptr %place, $keys, i64 %value) {
  %generation = call i64 @generation_$name(ptr %state)
  store i64 %generation, ptr %place
$store
  %value.at = getelementptr i8, ptr %place, i64 $value_offset
  store i64 %value, ptr %value.at
  ret void
}""")


def cache_functions(module: Contents, function: ir.Function) -> Iterator[str]:
    """The function that looks the keys up first, and the table's own."""
    count = len(function.keys)
    yield _TEXT.substitute(
        name=function.name,
        keys=keys(count),
        count=count,
        pointer=module.layout.caches[function.name],
        mix="\n".join(_mixed(count)),
        shift=64 - CACHE_BITS,
        last=(1 << CACHE_BITS) - 1,
        tries=TRIES,
        stride=cache_stride(count),
        value_offset=8 * (count + 1),
        compare="\n".join(compared(count, 8)),
        store="\n".join(stored_keys(count, 8)),
        outside=OFFSET["OUTSIDE"],
    )
    yield from _lookup(module, function)


def _mixed(count: int) -> Iterator[str]:
    """A hash of the keys."""
    for n in range(count):
        yield f"  %turned.{n} = call i64 @llvm.fshl.i64(i64 %mixed.{n}, i64 %mixed.{n}, i64 23)"
        yield f"  %sum.{n} = xor i64 %turned.{n}, %key.{n}"
        yield f"  %mixed.{n + 1} = mul i64 %sum.{n}, -7046029254386353131"


def _lookup(module: Contents, function: ir.Function) -> Iterator[str]:
    name, result = function.name, llvm_type(function.result)
    writer = StatementWriter(module, result)
    writer.take(function.parameters)
    found = ", ".join(f"i64 {writer.widened(writer.typed(key))}" for key in function.keys)
    place = writer.value(f"call ptr @find_{name}(ptr %state, {found})")
    generation = writer.value(f"call i64 @generation_{name}(ptr %state)")
    known = writer.value(f"load i64, ptr {place}")
    hit, miss = writer.label(), writer.label()
    writer.branch(writer.value(f"icmp eq i64 {known}, {generation}"), hit, miss)
    writer.begin(hit)
    value_at = writer.address(place, 8 * (len(function.keys) + 1))
    writer.end(f"ret {result} {writer.load_value(value_at, function.result)}")
    writer.begin(miss)
    arguments = "".join(f", {llvm_type(p.type)} %argument.{n}" for n, p in enumerate(function.parameters))
    value = writer.value(f'call {result} @"{name}.uncached"(ptr %state{arguments})')
    writer.leave_if_aborted()
    word = writer.widened(f"{result} {value}")
    writer.emit(f"call void @keep_{name}(ptr %state, ptr {place}, {found}, i64 {word})")
    writer.end(f"ret {result} {value}")
    yield from module.definition(name, function.result, function.parameters, writer.finish(()))
