"""The decoder against iced-x86 on random bytes, and the rules of SDM 2A chapter 2 that random bytes seldom meet."""

from __future__ import annotations

import random

import iced_x86
import pytest

import refmodel
from refmodel.decoder import Decoded, NotModelled, Truncated
from refmodel.operands import Memory
from refmodel.registers import BY_NAME
from refmodel.syntax import template
from refmodel.text import text

MODEL = refmodel.load()
DECODER = MODEL.decoder
ADDRESS = 0x40_0000
CASES = 30_000
PREFIXES = (0x66, 0x67, 0xF2, 0xF3, 0x64, 0x65, 0x2E, 0x48, 0x41, 0x44, 0x4F, 0x40)
# Instructions of other vendors' processors, of extensions that this processor lacks, and of modes that it is not in.
ABSENT_FEATURES = (
    *(
        "D3NOW",
        "PADLOCK",
        "CYRIX",
        "CENTAUR",
        "XOP",
        "SSE4A",
        "SVM",
        "SKINIT",
        "SEV",
        "RMPQUERY",
        "MONITORX",
        "CLZERO",
    ),
    *(
        "RDPRU",
        "MCOMMIT",
        "INVLPGB",
        "RTM",
        "HLE",
        "TSXLDTRK",
        "SGX",
        "OSS",
        "PCONFIG",
        "TSE",
        "TDX",
        "SMM",
        "PKU",
    ),
    *(
        "CET_SS",
        "UINTR",
        "FRED",
        "LKGS",
        "MSRLIST",
        "WRMSRNS",
        "SERIALIZE",
        "CLWB",
        "PTWRITE",
        "RDPID",
        "HRESET",
    ),
)
ABSENT = {value for name, value in vars(iced_x86.CpuidFeature).items() if name.startswith(ABSENT_FEATURES)}


def decode(code: str) -> Decoded:
    return DECODER.decode(bytes.fromhex(code))


def random_code(numbers: random.Random) -> bytes:
    """Up to two prefixes, an opcode of one of the maps, and random bytes behind it."""
    prefixes = bytes(numbers.choices(PREFIXES, k=numbers.choice((0, 0, 1, 1, 2))))
    escape = numbers.choice((b"", b"", b"\x0f"))
    return (prefixes + escape + numbers.randbytes(15))[:15]


def test_lengths_and_mnemonics_agree_with_iced() -> None:
    numbers = random.Random(2)
    agreed = 0
    for _ in range(CASES):
        code = random_code(numbers)
        try:
            decoded = DECODER.decode(code)
        except NotModelled:
            continue
        if decoded.instruction is None:
            continue
        if "debug_register" in kinds(decoded) and decoded.prefixes.rex_r:
            continue  # DR8 to DR15: an instruction that raises #UD here, no instruction for iced
        if is_bad_segment_register(decoded):
            continue  # likewise
        expected = iced_x86.Decoder(64, code, ip=ADDRESS).decode()
        assert expected.code != iced_x86.Code.INVALID, (code.hex(), decoded.instruction.name)
        assert decoded.length == expected.len, (code.hex(), decoded.instruction.name)
        check_memory(decoded, expected)
        agreed += 1
    assert agreed > CASES // 4


def is_bad_segment_register(decoded: Decoded) -> bool:
    """MOV from a segment register above GS, or to such a one or CS."""
    numbers = [a.index for a in decoded.operands if getattr(a.written, "kind", None) == "segment"]
    return any(n > 5 or (n == 1 and decoded.instruction.name == "MOV_TO_SEGMENT") for n in numbers)


def kinds(decoded: Decoded) -> set[str]:
    return {code.kind for code in decoded.pattern.operands} if decoded.pattern else set()


def check_memory(decoded: Decoded, expected: iced_x86.Instruction) -> None:
    """Base, index, scale, displacement and segment of an explicit memory operand."""
    written = [a.written for a in decoded.operands if isinstance(a.written, Memory)]
    implied = kinds(decoded) & {"memory_at", "es_memory_at"}
    if (
        implied
        or not written
        or iced_x86.OpKind.MEMORY not in [expected.op_kind(i) for i in range(expected.op_count)]
    ):
        return
    memory = written[0]
    if memory.relative:
        following = ADDRESS + decoded.length
        assert (following + memory.displacement) % (1 << memory.address_width) == expected.memory_displacement
        return
    names = {value: name.lower() for name, value in vars(iced_x86.Register).items() if isinstance(value, int)}
    for number, register in ((memory.base, expected.memory_base), (memory.index, expected.memory_index)):
        if register == iced_x86.Register.NONE:
            assert number is None
        else:
            assert BY_NAME[names[register]].number == number
    assert memory.displacement % (1 << memory.address_width) == expected.memory_displacement
    if memory.index is not None:
        assert memory.scale == expected.memory_index_scale


def test_nothing_valid_is_called_undefined() -> None:
    numbers = random.Random(3)
    for _ in range(CASES):
        code = random_code(numbers)
        try:
            decoded = DECODER.decode(code)
        except NotModelled:
            continue
        if decoded.instruction is None and not decoded.lock:
            expected = iced_x86.Decoder(64, code, ip=ADDRESS).decode()
            if ABSENT.intersection(expected.cpuid_features()):
                continue
            undefined = (iced_x86.Mnemonic.UD0, iced_x86.Mnemonic.UD1, iced_x86.Mnemonic.UD2)
            assert expected.code == iced_x86.Code.INVALID or expected.mnemonic in undefined, code.hex()


@pytest.mark.parametrize(
    ("code", "written"),
    [
        ("488b4308", "mov rax, qword [rbx + 0x8]"),
        ("8b0425 78563412", "mov eax, dword [0x12345678]"),
        ("678b03", "mov eax, dword [ebx]"),
        ("64488b00", "mov rax, qword [fs:rax]"),
        ("88e0", "mov al, ah"),
        ("4088e0", "mov al, spl"),
        ("90", "nop"),
        ("4190", "xchg eax, r8d"),
        ("f390", "pause"),
        ("eb02", "jmp 0x400004"),
        ("f0480103", "lock add qword [rbx], rax"),
        ("0f22d8", "mov cr3, rax"),
    ],
)
def test_text(code: str, written: str) -> None:
    decoded = decode(code)
    assert text(decoded, ADDRESS) == written


def test_lock_needs_an_instruction_that_allows_it_and_memory() -> None:
    # SDM 2A "LOCK": #UD for a register destination, and for MOV.
    assert decode("f04801c3").instruction is None
    assert decode("f0488903").instruction is None
    assert decode("f0480103").instruction is not None


def test_rex_counts_only_right_before_the_opcode() -> None:
    # SDM 2A 2.2.1: REX.W before 66 is ignored, so this is a 16-bit MOV.
    assert decode("486689c3").size == 16
    assert decode("664889c3").size == 64


def test_fifteen_bytes_are_the_limit() -> None:
    longest = "66" * 14 + "90"
    assert decode(longest).length == 15
    machine = MODEL.machine(0x1000)
    with pytest.raises(MODEL.namespace["FaultAbort"]) as raised:
        decode("66" + longest).run(machine)
    assert (raised.value.value.vector, raised.value.value.error) == (13, 0)


def test_bytes_that_end_too_early() -> None:
    for length in range(7):
        with pytest.raises(Truncated):
            DECODER.decode(bytes.fromhex("488b8424785634")[:length])


def test_high_bytes_and_immediates() -> None:
    machine = MODEL.machine(0x1000)
    machine.GPR[0] = 0x1234
    machine.GPR[4] = 0x5678
    assert decode("88e0").operands[1].read(machine) == 0x12
    assert decode("4088e0").operands[1].read(machine) == 0x78
    assert decode("4883c0ff").operands[1].read(machine) == (1 << 64) - 1
    assert decode("48b8" + "ff" * 8).operands[1].read(machine) == (1 << 64) - 1


def test_addresses() -> None:
    machine = MODEL.machine(0x1000)
    machine.GPR[3], machine.GPR[1], machine.NEXT_RIP = (1 << 64) - 8, 3, 0x1000
    assert decode("8b448b10").operands[1].address(machine) == 0x14  # [rbx + rcx*4 + 16] wraps
    assert decode("67 8b448b10").operands[1].address(machine) == 0x14
    assert decode("8b05f0ffffff").operands[1].address(machine) == 0xFF0
    assert decode("8b03").operands[1].segment == 3
    assert decode("8b0424").operands[1].segment == 2
    assert decode("648b0424").operands[1].segment == 4


def test_mnemonics_of_the_templates() -> None:
    assert {template(i, i.bodies[0].widths).mnemonics[0] for i in MODEL.program.instructions.values()} >= {
        "mov",
        "add",
        "cpuid",
        "hlt",
    }
