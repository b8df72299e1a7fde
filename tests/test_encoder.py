"""The encoder against iced-x86, which decodes our bytes: same length, same instruction, same operands.

Every form of every instruction is tried with operands that reach all of ModR/M, SIB, REX and the immediates'
sizes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import iced_x86
import pytest

import grammar
from grammar.widths import CODE_SIZES
from refmodel.encoder import Encoder
from refmodel.encoding import encoded_bits
from refmodel.fields import address_width
from refmodel.forms import Form, forms, implied
from refmodel.operands import Immediate, Memory, Operand
from refmodel.registers import BY_NAME, CONTROL, DEBUG, GENERAL, HIGH_BYTE, SEGMENT, Register

ADDRESS = 0x40_0000

PROGRAM = grammar.load()
ENCODERS = {size: Encoder(PROGRAM, size) for size in CODE_SIZES}
FORMS = [form for size in CODE_SIZES for form in forms(PROGRAM, size)]

MEMORY = (
    Memory(base=3),
    Memory(base=5),
    Memory(base=4, displacement=8),
    Memory(base=12),
    Memory(base=13, displacement=-0x80),
    Memory(base=0, index=1, scale=4, displacement=0x80),
    Memory(base=8, index=15, scale=8),
    Memory(index=9, scale=2, displacement=-1),
    Memory(displacement=0x1234),
    Memory(displacement=ADDRESS + 0x1000, relative=True),
    Memory(base=0, segment=4),
    Memory(base=2, displacement=4, address_width=32),
    Memory(base=4, index=5, scale=4, displacement=-1, address_width=32),
    Memory(base=5, displacement=0x1234, address_width=16),
    Memory(base=3, index=6, segment=4, address_width=16),
)


def registers(kinds: tuple[str, ...], width: int | None) -> list[Register]:
    return [r for r in BY_NAME.values() if r.kind in kinds and width in (None, r.width)]


def written(form: Form, index: int) -> Iterator[Operand]:
    """The operands to try in one place of a form."""
    code, width = form.pattern.operands[index], form.widths()[index]
    match code.kind:
        case "rm" | "rm_memory" | "rm_register" | "rm_as_register":
            if code.kind != "rm_memory":
                yield from registers((GENERAL, HIGH_BYTE), width)
            if code.kind in ("rm", "rm_memory"):
                yield from (Memory(**{**fields(m), "width": width}) for m in MEMORY)
        case "reg" | "opcode_register":
            yield from registers((GENERAL, HIGH_BYTE), width)
        case "register":
            yield from (r for r in registers((GENERAL,), width) if r.number == code.register)
        case "segment_register":
            is_loaded = form.instruction.name == "MOV_TO_SEGMENT"
            yield from (r for r in registers((SEGMENT,), None) if not (is_loaded and r.number == 1))
        case "control_register":
            yield from (r for r in registers((CONTROL,), None) if r.number in (0, 2, 3, 4, 8))
        case "debug_register":
            yield from (r for r in registers((DEBUG,), None) if r.number < 8)
        case "memory_at" | "es_memory_at":
            memory = implied(code, form.size)
            assert isinstance(memory, Memory)
            yield memory
            yield replace(memory, address_width=32)
            if code.kind == "memory_at":
                yield replace(memory, segment=4)
        case "one":
            yield Immediate(1)
        case "offset":
            yield Memory(displacement=0x1122334455667788 % (1 << form.code_size), width=width)
        case "relative":
            far = 0x7000 if form.size == 16 else 0x10000
            yield from (Immediate(ADDRESS + d) for d in (-100, 0, 100, -far, far))
        case _:
            bits = encoded_bits(code, form.size)
            yield from (Immediate(v) for v in (0, 1, -1, (1 << bits - 1) - 1, -(1 << bits - 1)))


def fields(memory: Memory) -> dict[str, int | bool | None]:
    return {name: getattr(memory, name) for name in Memory.__slots__}


def cases(form: Form) -> Iterator[dict[str, Operand]]:
    """Each place through all its operands while the others keep their first, then some at the same time."""
    choices = [list(written(form, index)) for index in range(len(form.pattern.operands))]
    first = [choice[0] for choice in choices]
    seen = set()
    for index, choice in enumerate(choices):
        for operand in choice:
            seen.add((*first[:index], operand, *first[index + 1 :]))
    seen |= set(itertools.islice(itertools.product(*(choice[::5] for choice in choices)), 40))
    seen.add(tuple(first))
    return (dict(zip(form.instruction.operands, operands, strict=True)) for operands in sorted(seen, key=str))


def decode(code: bytes, code_size: int) -> iced_x86.Instruction:
    decoder = iced_x86.Decoder(code_size, code, ip=ADDRESS)
    return decoder.decode()


NEAR = (iced_x86.OpKind.NEAR_BRANCH16, iced_x86.OpKind.NEAR_BRANCH32, iced_x86.OpKind.NEAR_BRANCH64)
MNEMONICS = {value: name.lower() for name, value in vars(iced_x86.Mnemonic).items() if isinstance(value, int)}

# iced-x86 has other names for forms of 16 bits and with REX.W, the second encoding of SHL, and NOPs to which
# extensions give a meaning.
OTHER_NAMES = {
    "cwd": "cdq",
    "cbw": "cwde",
    **{name: f"{name}w" for name in ("pushf", "popf", "pusha", "popa", "iret")},
    **dict.fromkeys(("jcxz", "jecxz"), "jrcxz"),
    "sal": "shl",
    **dict.fromkeys(("endbr64", "cldemote", "prefetch", "prefetchwt1", "prefetchreserved"), "nop"),
    **dict.fromkeys(("prefetchit0", "prefetchit1", "rdsspd", "rdsspq", "reservednop"), "nop"),
    "getsecq": "getsec",
    **{f"{name}64": name for name in ("xsave", "xsaveopt", "xsavec", "xsaves", "xrstor", "xrstors")},
}

# iced-x86 shows the whole register of an operand of which the instruction uses the low part, whatever the size.
LOW_PARTS = {"LMSW", "LAR", "LSL", "VERR", "VERW", "LLDT", "LTR", "MOV_TO_SEGMENT", "ARPL"}
LOW_PARTS |= {"UMONITOR", "UMWAIT", "TPAUSE"}

# iced-x86 shows a 16-bit register for BSWAP with prefix 66.
UNCOMPARED = {("BSWAP", 16)}


@pytest.mark.parametrize("name", list(PROGRAM.instructions))
def test_iced_decodes_what_was_encoded(name: str) -> None:
    tried = 0
    for form in (f for f in FORMS if f.instruction.name == name):
        for operands in cases(form):
            code = ENCODERS[form.code_size].encode_form(form, operands, ADDRESS)
            if code is None:
                continue
            tried += 1
            instruction = decode(code, form.code_size)
            told = f"{form.row.operands} size {form.size}: {operands} -> {code.hex(' ')} -> {instruction}"
            assert instruction.code != iced_x86.Code.INVALID, told
            assert instruction.len == len(code), told
            check_operands(form, operands, instruction, told)
    assert tried, "no operands could be encoded"


def check_operands(
    form: Form, operands: dict[str, Operand], decoded: iced_x86.Instruction, told: str
) -> None:
    """The mnemonic and every operand that the syntax shows, in iced-x86's own view of the instruction."""
    mnemonic = MNEMONICS[decoded.mnemonic]
    far = (decoded.is_call_far, decoded.is_jmp_far, decoded.is_call_far_indirect, decoded.is_jmp_far_indirect)
    if any(far):
        mnemonic = f"l{mnemonic}"
    assert OTHER_NAMES.get(mnemonic, mnemonic) in form.template.mnemonics, told
    shown = [p if not isinstance(p, str) else operands[p] for p in form.template.operands]
    if (form.instruction.name, form.size) in UNCOMPARED or not shown:
        return
    if decoded.op0_kind in (iced_x86.OpKind.FAR_BRANCH16, iced_x86.OpKind.FAR_BRANCH32):
        target = decoded.far_branch16 if form.size == 16 else decoded.far_branch32
        found = (decoded.far_branch_selector, target)
        selector, offset = operands["selector"], operands["offset"]
        assert isinstance(selector, Immediate)
        assert isinstance(offset, Immediate)
        assert found == (selector.value % (1 << 16), offset.value % (1 << form.size)), told
        return
    assert decoded.op_count == len(shown) or mnemonic == "reservednop", told  # with reg
    if mnemonic == "xchg" and decoded.op0_kind == decoded.op1_kind == iced_x86.OpKind.REGISTER:
        shown.sort(key=lambda o: isinstance(o, Register) and iced_register(o) != decoded.op0_register)
    for index, operand in enumerate(shown):
        if form.instruction.name in LOW_PARTS and isinstance(operand, Register):
            assert iced_x86.RegisterExt.number(decoded.op_register(index)) == operand.number, told
        else:
            check_operand(decoded, index, operand, form, told)


def check_operand(decoded: iced_x86.Instruction, index: int, operand: Operand, form: Form, told: str) -> None:
    kind = decoded.op_kind(index)
    if isinstance(operand, Register):
        assert kind == iced_x86.OpKind.REGISTER, told
        assert decoded.op_register(index) == iced_register(operand), told
    elif isinstance(operand, Memory):
        assert kind == iced_x86.OpKind.MEMORY, told
        check_memory(decoded, operand, address_width(operand, form.code_size), told)
    elif kind in NEAR:
        assert decoded.near_branch_target == operand.value % 2**form.size, told
    else:
        assert (decoded.immediate(index) - operand.value) % (1 << immediate_bits(kind)) == 0, told


def immediate_bits(kind: int) -> int:
    kinds = iced_x86.OpKind
    narrow: dict[int, int] = {
        kinds.IMMEDIATE8_2ND: 8,
        kinds.IMMEDIATE8: 8,
        kinds.IMMEDIATE16: 16,
        kinds.IMMEDIATE32: 32,
    }
    return narrow.get(kind, 8 if kind == kinds.IMMEDIATE8TO16 else 16)


def iced_register(register: Register) -> int:
    name = {"r8b": "r8l"}.get(str(register), str(register))
    if register.kind == GENERAL and register.width == 8 and register.number > 7:
        name = f"r{register.number}l"
    return int(getattr(iced_x86.Register, name.upper()))


def check_memory(decoded: iced_x86.Instruction, memory: Memory, width: int, told: str) -> None:
    if memory.relative:
        assert decoded.is_ip_rel_memory_operand, told
        assert decoded.memory_displacement == memory.displacement, told
        return
    names = {
        64: ("rax rcx rdx rbx rsp rbp rsi rdi", ""),
        32: ("eax ecx edx ebx esp ebp esi edi", "d"),
        16: ("ax cx dx bx sp bp si di", "w"),
    }
    low, suffix = names[width]
    registers_ = [*low.split(), *(f"r{n}{suffix}" for n in range(8, 16))]

    def number(register: int) -> int | None:
        if register == iced_x86.Register.NONE:
            return None
        return next(
            i for i, name in enumerate(registers_) if getattr(iced_x86.Register, name.upper()) == register
        )

    assert number(decoded.memory_base) == memory.base, told
    assert number(decoded.memory_index) == memory.index, told
    assert memory.index is None or decoded.memory_index_scale == memory.scale, told
    assert (decoded.memory_displacement - memory.displacement) % (1 << width) == 0, told
    prefix = decoded.segment_prefix
    assert (prefix == iced_x86.Register.FS) == (memory.segment == 4), told


@pytest.mark.parametrize(("source", "encoded"), [(64, b"\xa4"), (32, None)])
def test_the_addresses_of_a_string_instruction_have_one_size(source: int, encoded: bytes | None) -> None:
    form = next(f for f in FORMS if (f.instruction.name, f.size, f.code_size) == ("MOVS", 32, 64))
    operands: dict[str, Operand] = {
        "destination": Memory(base=7, segment=0),
        "source": Memory(base=6, address_width=source),
    }
    assert ENCODERS[64].encode_form(form, operands) == encoded
