"""The assembler: layout, names and numbers, and errors that say where.  The bytes are those of GNU as."""

from __future__ import annotations

from pathlib import Path

import pytest

import grammar
from refmodel.assembler import AssemblyErrors, assemble
from refmodel.encoder import Encoder

ENCODER = Encoder(grammar.load())


def code(text: str) -> str:
    return assemble(text, ENCODER).code.hex(" ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("add al, 1", "04 01"),
        ("add eax, 1", "83 c0 01"),
        ("add eax, 0x12345678", "05 78 56 34 12"),
        ("add rax, -0x80", "48 83 c0 80"),
        ("add rax, 0xffffffffffffff80", "48 83 c0 80"),
        ("mov rax, 0x1122334455667788", "48 b8 88 77 66 55 44 33 22 11"),
        ("mov rax, -1", "48 c7 c0 ff ff ff ff"),
        ("mov eax, 0xffffffff", "b8 ff ff ff ff"),
        ("mov spl, al", "40 88 c4"),
        ("mov ah, al", "88 c4"),
        ("mov cr8, rbx", "44 0f 22 c3"),
        ("push 0x7f", "6a 7f"),
        ("push r12", "41 54"),
        ("xchg eax, eax", "87 c0"),
        ("xchg rax, r8", "49 90"),
        ("nop", "90"),
        ("pause", "f3 90"),
        ("lock add dword [rbx], 1", "f0 83 03 01"),
        ("mov rax, [fs:0x28]", "64 48 8b 04 25 28 00 00 00"),
        ("lea rax, [rbp]", "48 8d 45 00"),
        ("lea rax, [r13 + r12*4 - 1]", "4b 8d 44 a5 ff"),
        ("jz $", "74 fe"),
        ("shl eax, 1", "d1 e0"),
        ("shl eax, cl", "d3 e0"),
        ("cqo", "48 99"),
        ("iretq", "48 cf"),
    ],
)
def test_instruction(text: str, expected: str) -> None:
    assert code(text) == expected


def test_data_names_and_layout() -> None:
    text = """
        org 0x1000
    begin:
        db 1, 'ab', "c", -1
        align 8
    .local: dw 0x1234, size
        dd $
        dq begin, .local, begin.local
    size equ $ - begin
        zero 2
        times 3 db 0xCC
    """
    assembled = assemble(text, ENCODER)
    expected = (
        bytes([1, *b"abc", 0xFF, 0, 0, 0])
        + (0x1234).to_bytes(2, "little")
        + (40).to_bytes(2, "little")
        + (0x100C).to_bytes(4, "little")
        + b"".join(address.to_bytes(8, "little") for address in (0x1000, 0x1008, 0x1008))
        + bytes(2)
        + b"\xcc" * 3
    )
    assert assembled.code == expected
    assert assembled.origin == 0x1000
    assert assembled.symbols == {"begin": 0x1000, "begin.local": 0x1008, "size": 40}


def test_a_branch_is_short_exactly_where_it_reaches() -> None:
    assert code("jmp x\ntimes 127 nop\nx:").startswith("eb 7f")
    assert code("jmp x\ntimes 128 nop\nx:").startswith("e9 80 00 00 00")
    assert code("x: times 126 nop\njmp x").endswith("eb 80")
    assert code("x: times 127 nop\njmp x").endswith("e9 7c ff ff ff")


def test_branches_that_lengthen_each_other_settle() -> None:
    """Each of the jumps over the others is short only as long as the others are."""
    count = 60
    lines = [f"l{i}: jmp m{i}" for i in range(count)] + [f"m{i}: nop" for i in range(count)]
    assembled = assemble("\n".join(lines), ENCODER)
    position = 0
    for i in range(count):
        assert assembled.symbols[f"l{i}"] == position
        opcode = assembled.code[position]
        length = 2 if opcode == 0xEB else 5
        distance = int.from_bytes(assembled.code[position + 1 : position + length], "little", signed=True)
        position += length
        assert position + distance == assembled.symbols[f"m{i}"]


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("mov rax, ebx", 1, "no form of 'mov' takes these operands"),
        ("frob rax", 1, "unknown instruction 'frob'"),
        ("inc [rax]", 1, "the size of the memory operand is not known: write byte or word or dword or qword"),
        ("push rax, rbx", 1, "'push' takes 1 operand, not 2"),
        ("add al, 256", 1, "the number does not fit any form of 'add'"),
        ("lock add eax, 1", 1, "cannot be locked"),
        ("mov rax, there", 10, "unknown name 'there'"),
        ("mov rax, [rax + ebx]", 11, "an address is made of 64-bit registers, or of 32-bit ones"),
        ("mov rax, [rax*3]", 11, "an address has a base, and an index"),
        ("db 256", 4, "0x100 does not fit 8 bits"),
        ("mov rax, 1 / 0", 10, "division by zero"),
        ("mov rax, ", 9, "the line ends too early"),
        ("mov rax, ?", 10, "unexpected character '?'"),
        ("x: nop\nx: nop", 1, "'x' is already defined"),
        ("rax: nop", 1, "'rax' is a register"),
        ("times 1 << 60 nop", 7, "the count is"),
        ("zero -1", 6, "the count is -1"),
        ("align 3", 1, "not a power of two"),
        ("nop\norg 5", 1, "'org' must stand before anything else"),
        ('include "absent.inc"', 1, "cannot include 'absent.inc'"),
        ("jmp 1 << 70", 1, "the number does not fit any form of 'jmp'"),
    ],
)
def test_error(text: str, column: int, message: str) -> None:
    with pytest.raises(AssemblyErrors) as caught:
        assemble(text, ENCODER, "guest.asm")
    (error,) = caught.value.errors
    assert message in str(error)
    assert str(error).startswith(f"guest.asm:{text.count(chr(10)) + 1}:{column}: error: ")


def test_all_errors_are_reported() -> None:
    with pytest.raises(AssemblyErrors) as caught:
        assemble("nop\nfrob\nmov rax, there\nnop\nmov al, 300", ENCODER)
    assert [error.line for error in caught.value.errors] == [2, 3, 5]


@pytest.mark.parametrize("text", ["\0" * 100, "x" * 100_000, "é\nñ", "[" * 3000, "mov rax, " + "(" * 2000])
def test_garbage_is_an_error(text: str) -> None:
    with pytest.raises(AssemblyErrors):
        assemble(text, ENCODER)


def test_included_file(tmp_path: Path) -> None:
    (tmp_path / "part.inc").write_text("inside: ret\n frob\n")
    with pytest.raises(AssemblyErrors) as caught:
        assemble('call inside\n include "part.inc"', ENCODER, str(tmp_path / "main.asm"))
    assert str(caught.value).startswith(f"{tmp_path / 'part.inc'}:2:2: error: unknown instruction")


@pytest.mark.parametrize("path", sorted(Path("examples").glob("*.asm")), ids=lambda p: p.stem)
def test_example(path: Path) -> None:
    assembled = assemble(path.read_text(), ENCODER, str(path))
    assert assembled.origin == 0x10000
    assert assembled.code
