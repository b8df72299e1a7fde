"""Decodes an instruction, by a table that is made from the specification's opcode rows.

What has no handler, or is encoded in an unusual way (address-size and FS/GS prefixes), becomes a decoded instruction
whose routine refuses it. LOCK means nothing more, since nothing happens between an instruction's accesses.  SDM 2A 2
"""

from __future__ import annotations

from fastmodel.compiler.primitives import field, get, load, put, set_field, signed
from fastmodel.decoded import (
    ADDRESS,
    BASE,
    CODE,
    DECODED_SIZE,
    DISPLACEMENT,
    EXTRA,
    FIRST,
    IMMEDIATE,
    INDEX,
    NEXT,
    REPEAT,
    SCALE,
    SECOND,
    UNSEEN,
)
from fastmodel.state import (
    BAD_TARGET,
    DECODE_TABLE,
    INSTRUCTION,
    MEMORY,
    MEMORY_SIZE,
    NO_HANDLER,
    PAGE_CROSSING,
    REFUSE_CODE,
    ZERO,
)

# What is known of the instruction that is being decoded, in the state block.
CURSOR = INSTRUCTION  # address in this process of the next byte
OPERAND_SIZE = INSTRUCTION + 8  # 1 after a prefix 66
REX = INSTRUCTION + 16  # the REX byte, 0 if there is none
OPCODE = INSTRUCTION + 24  # the last byte of the opcode
MODRM = INSTRUCTION + 32
RELATIVE_TO_RIP = INSTRUCTION + 40  # 1 if the memory operand is
DESCRIPTOR = INSTRUCTION + 48  # from the table, 0 if the instruction is refused
LOCK = INSTRUCTION + 56  # 1 after a prefix F0
REPEAT_PREFIX = INSTRUCTION + 64  # the last prefix F2 or F3, 0 if there is none
FUSED_BEFORE = INSTRUCTION + 72  # ENTRY_FUSED of the instruction before it, 0 if it begins a trace

MAX_PREFIXES = 4
MAX_LENGTH = 15  # bytes
READ_AHEAD = 32  # bytes that may be read from where an instruction begins

# --- the table: 512 words, one for each opcode byte without and with 0F; 0, or the address of a group and flags ---

HAS_MODRM = 1
REFUSES_REX_RB = 2  # REX.R or REX.B would choose another row
GROUP_FLAGS = 7
# A group has an entry for each operand size (16, 32, 64), memory or register operand, and ModR/M reg field.
ENTRY_SIZE = 32
ENTRY_CODE = 0  # the routine, 0 if there is none
ENTRY_DESCRIPTOR = 8
ENTRY_UNSEEN = 16  # the routine that leaves the flags alone, 0 if there is none
ENTRY_FUSED = 24  # address of the routines that do a Jcc too, by its condition, 0 if there are none
REGISTER_ENTRIES = 8
SIZE_ENTRIES = 16

# --- the descriptor: a byte each ---

FIRST_SOURCE = 0  # where the register operands come from
SECOND_SOURCE = 8
BYTE_REGISTERS = 16  # bit 0: the first is a byte register; bit 1: the second
IMMEDIATE_FORM = 24
EXTRA_BYTE = 32
FLOW = 40
PREFIXES = 48
FLAGS = 56  # what the handler does with them: a number of handlers/registry.py, and IS_JCC

FROM_REG = 1
FROM_RM = 2
FROM_OPCODE = 3
FIXED_REGISTER = 16  # plus its number

IMMEDIATE_BYTES = 15
IMMEDIATE_SIGNED = 16
IMMEDIATE_RELATIVE = 32
IMMEDIATE_ONE = 64
IMMEDIATE_OFFSET = 128  # the address of a memory operand

FALLS_THROUGH = 0
MAY_FALL_THROUGH = 1  # a conditional branch, or an instruction that repeats itself
ENDS_TRACE = 2

LOCKABLE = 1
TAKES_REPEAT = 2  # F2 and F3 do not choose another row
REPEATS = 4  # it may branch to itself

FLAGS_EFFECT = 3
IS_JCC = 4


def decode_instruction(state: int, u: int, host: int, page_end: int) -> int:
    """Decodes an instruction and returns how it goes on; sets NEXT."""
    if host + READ_AHEAD > get(64, state + MEMORY) + get(64, state + MEMORY_SIZE):
        return refused(state, u, PAGE_CROSSING)
    put(64, state + CURSOR, host)
    read_prefixes(state)
    group = read_opcode(state)
    if group == 0:
        return refused(state, u, NO_HANDLER)
    entry = find_entry(state, u, group)
    code = field(64, entry + ENTRY_CODE)
    if code == 0:
        return refused(state, u, NO_HANDLER)
    descriptor = field(64, entry + ENTRY_DESCRIPTOR)
    put(64, state + DESCRIPTOR, descriptor)
    if not takes_prefixes(state, u, (descriptor >> PREFIXES) & 255):
        return refused(state, u, NO_HANDLER)
    if not read_immediate(state, u, (descriptor >> IMMEDIATE_FORM) & 255, host):
        return refused(state, u, BAD_TARGET)
    length = get(64, state + CURSOR) - host
    if length > MAX_LENGTH:
        return refused(state, u, NO_HANDLER)
    if host + length > page_end:
        return refused(state, u, PAGE_CROSSING)
    set_field(
        8,
        u + FIRST,
        register_operand(state, (descriptor >> FIRST_SOURCE) & 255, (descriptor >> BYTE_REGISTERS) & 1),
    )
    set_field(
        8,
        u + SECOND,
        register_operand(state, (descriptor >> SECOND_SOURCE) & 255, (descriptor >> BYTE_REGISTERS) & 2),
    )
    set_field(8, u + EXTRA, descriptor >> EXTRA_BYTE)
    set_field(64, u + CODE, code)
    set_field(64, u + UNSEEN, field(64, entry + ENTRY_UNSEEN))
    if (descriptor >> FLAGS) & IS_JCC != 0:
        fuse(state, u)
    put(64, state + FUSED_BEFORE, field(64, entry + ENTRY_FUSED))
    return (descriptor >> FLOW) & 255


def fuse(state: int, u: int) -> int:
    """Lets the instruction before a Jcc do both, if there is a routine for that."""
    if get(64, state + FUSED_BEFORE) != 0:
        code = field(64, get(64, state + FUSED_BEFORE) + field(8, u + EXTRA) * 8)
        if code != 0:
            set_field(64, u - DECODED_SIZE + CODE, code)
    return 0


def refused(state: int, u: int, reason: int) -> int:
    """Makes a decoded instruction that is left to the reference."""
    set_field(64, u + CODE, get(64, state + REFUSE_CODE))
    set_field(64, u + IMMEDIATE, reason)
    set_field(64, u + NEXT, field(64, u + ADDRESS))
    put(64, state + DESCRIPTOR, 0)
    return ENDS_TRACE


def take(state: int, count: int) -> int:
    """The next 1, 2, 4 or 8 bytes as an unsigned number."""
    cursor = get(64, state + CURSOR)
    put(64, state + CURSOR, cursor + count)
    if count == 1:
        return load(8, cursor)
    if count == 2:
        return load(16, cursor)
    if count == 4:
        return load(32, cursor)
    return load(64, cursor)


def read_prefixes(state: int) -> int:
    """Reads the prefixes, then REX; those for address size, FS and GS are taken for an opcode, which has no handler."""
    put(64, state + OPERAND_SIZE, 0)
    put(64, state + REX, 0)
    put(64, state + LOCK, 0)
    put(64, state + REPEAT_PREFIX, 0)
    count = 0
    while count < MAX_PREFIXES:
        byte = load(8, get(64, state + CURSOR))
        if byte == 0x66:
            put(64, state + OPERAND_SIZE, 1)
        elif byte == 0xF0:
            put(64, state + LOCK, 1)
        elif byte & 0xFE == 0xF2:
            put(64, state + REPEAT_PREFIX, byte)
        elif byte & 0xE7 != 0x26:  # 26, 2E, 36, 3E
            break
        take(state, 1)
        count = count + 1
    if load(8, get(64, state + CURSOR)) & 0xF0 == 0x40:
        put(64, state + REX, take(state, 1))
    return 0


def takes_prefixes(state: int, u: int, allowed: int) -> bool:
    """Whether an instruction may have the prefixes F0, F2 and F3 that it has."""
    set_field(8, u + REPEAT, get(64, state + REPEAT_PREFIX))
    if get(64, state + LOCK) != 0 and allowed & LOCKABLE == 0:
        return False
    return get(64, state + REPEAT_PREFIX) == 0 or allowed & TAKES_REPEAT != 0


def read_opcode(state: int) -> int:
    """The word of the opcode in the table, 0 if it has no handlers."""
    table = get(64, state + DECODE_TABLE)
    opcode = take(state, 1)
    if opcode == 0x0F:
        opcode = take(state, 1)
        table = table + 256 * 8
    put(64, state + OPCODE, opcode)
    group = field(64, table + opcode * 8)
    if group & REFUSES_REX_RB != 0 and get(64, state + REX) & 5 != 0:
        return 0
    return group


def find_entry(state: int, u: int, group: int) -> int:
    """The entry for this instruction in its group; reads ModR/M, SIB and displacement."""
    variant = SIZE_ENTRIES
    if get(64, state + REX) & 8 != 0:
        variant = 2 * SIZE_ENTRIES
    elif get(64, state + OPERAND_SIZE) != 0:
        variant = 0
    put(64, state + RELATIVE_TO_RIP, 0)
    if group & HAS_MODRM != 0:
        modrm = take(state, 1)
        put(64, state + MODRM, modrm)
        variant = variant + ((modrm >> 3) & 7)
        if modrm >= 0xC0:
            variant = variant + REGISTER_ENTRIES
        else:
            read_address_bytes(state, u, modrm)
    return (group & ~GROUP_FLAGS) + variant * ENTRY_SIZE


def read_address_bytes(state: int, u: int, modrm: int) -> int:
    """Reads the SIB byte and displacement of a memory operand.  SDM 2A 2.1.5"""
    mode = modrm >> 6
    base = modrm & 7
    rex = get(64, state + REX)
    set_field(8, u + INDEX, ZERO)
    set_field(8, u + SCALE, 0)
    if base == 4:
        sib = take(state, 1)
        base = sib & 7
        index = ((sib >> 3) & 7) | ((rex & 2) << 2)
        if index != 4:
            set_field(8, u + INDEX, index * 8)
            set_field(8, u + SCALE, sib >> 6)
    elif base == 5 and mode == 0:
        put(64, state + RELATIVE_TO_RIP, 1)
    set_field(8, u + BASE, (base | ((rex & 1) << 3)) * 8)
    displacement = 0
    if mode == 0 and base == 5:
        set_field(8, u + BASE, ZERO)
        displacement = signed(32, take(state, 4))
    elif mode == 1:
        displacement = signed(8, take(state, 1))
    elif mode == 2:
        displacement = signed(32, take(state, 4))
    set_field(64, u + DISPLACEMENT, displacement)
    return 0


def read_immediate(state: int, u: int, form: int, host: int) -> bool:
    """Reads what follows the operands' addresses, and sets NEXT; false if a branch target is not canonical."""
    count = form & IMMEDIATE_BYTES
    value = form >> 6  # IMMEDIATE_ONE is the number 1
    if count != 0:
        value = take(state, count)
        if form & IMMEDIATE_SIGNED != 0:
            value = sign_extended(value, count)
    next_address = field(64, u + ADDRESS) + get(64, state + CURSOR) - host
    set_field(64, u + NEXT, next_address)
    if get(64, state + RELATIVE_TO_RIP) != 0:
        set_field(64, u + DISPLACEMENT, field(64, u + DISPLACEMENT) + next_address)
    if form & IMMEDIATE_OFFSET != 0:
        set_field(64, u + DISPLACEMENT, value)
        set_field(8, u + BASE, ZERO)
        set_field(8, u + INDEX, ZERO)
    if form & IMMEDIATE_RELATIVE != 0:
        value = value + next_address
        if signed(48, value) != value:
            return False
    if (get(64, state + DESCRIPTOR) >> PREFIXES) & REPEATS != 0:
        value = field(64, u + ADDRESS)
    set_field(64, u + IMMEDIATE, value)
    return True


def sign_extended(value: int, count: int) -> int:
    """A number of 1, 2, 4 or 8 bytes sign-extended."""
    if count == 1:
        return signed(8, value)
    if count == 2:
        return signed(16, value)
    if count == 4:
        return signed(32, value)
    return value


def register_operand(state: int, source: int, is_byte: int) -> int:
    """The offset in the state block of a register operand, by where the table says that its number is."""
    modrm = get(64, state + MODRM)
    rex = get(64, state + REX)
    number = source & 15
    if source == FROM_REG:
        number = ((modrm >> 3) & 7) | ((rex & 4) << 1)
    elif source == FROM_RM:
        number = (modrm & 7) | ((rex & 1) << 3)
    elif source == FROM_OPCODE:
        number = (get(64, state + OPCODE) & 7) | ((rex & 1) << 3)
    if is_byte != 0 and rex == 0 and (number & ~3) == 4:
        return (number - 4) * 8 + 1
    return number * 8
