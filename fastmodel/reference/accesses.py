"""Accesses to memory, once for each width: byte for byte where the bytes do not lie in it as a whole."""

from __future__ import annotations


def memory_functions(width: int) -> list[str]:
    """The functions that read and write `width` bits, little-endian."""
    return [_reading(width), _writing(width)]


def _reading(width: int) -> str:
    size = width // 8
    return f"""
define internal i{width} @read_memory_{width}(ptr %state, i64 %address) {{
entry:
  %there = call ptr @inside(ptr %state, i64 %address, i64 {size})
  %outside = icmp eq ptr %there, null
  br i1 %outside, label %byte, label %whole
whole:
  %value = load i{width}, ptr %there, align 1
  ret i{width} %value
byte:
  %number = phi i64 [ 0, %entry ], [ %next, %byte ]
  %sum = phi i{width} [ 0, %entry ], [ %more, %byte ]
  %one = call i8 @read_byte(ptr %state, i64 %address, i64 %number)
  %wide = {"bitcast i8 %one to i8" if width == 8 else f"zext i8 %one to i{width}"}
  %bits = shl i64 %number, 3
  %by = {resize("%bits", width)}
  %shifted = shl i{width} %wide, %by
  %more = or i{width} %sum, %shifted
  %next = add i64 %number, 1
  %again = icmp ult i64 %next, {size}
  br i1 %again, label %byte, label %end
end:
  ret i{width} %more
}}"""


def _writing(width: int) -> str:
    size = width // 8
    return f"""
define internal void @write_memory_{width}(ptr %state, i64 %address, i{width} %value) {{
entry:
  %there = call ptr @inside(ptr %state, i64 %address, i64 {size})
  %outside = icmp eq ptr %there, null
  br i1 %outside, label %byte, label %whole
whole:
  call void @note(ptr %state, i64 %address, i64 {size})
  store i{width} %value, ptr %there, align 1
  ret void
byte:
  %number = phi i64 [ 0, %entry ], [ %next, %byte ]
  %bits = shl i64 %number, 3
  %by = {resize("%bits", width)}
  %shifted = lshr i{width} %value, %by
  %one = {"bitcast i8 %shifted to i8" if width == 8 else f"trunc i{width} %shifted to i8"}
  call void @write_byte(ptr %state, i64 %address, i64 %number, i8 %one)
  %next = add i64 %number, 1
  %again = icmp ult i64 %next, {size}
  br i1 %again, label %byte, label %end
end:
  ret void
}}"""


def resize(word: str, width: int) -> str:
    """The operation that makes an integer of that width of a word."""
    if width == 64:
        return f"bitcast i64 {word} to i64"
    return f"{'zext' if width > 64 else 'trunc'} i64 {word} to i{width}"
