"""What the decoder's table is made of: the opcode rows of a specification, and the handlers there are.

An instruction, operand size or form without a handler has no entry, and is left to the reference.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import product

from fastmodel import decoder
from fastmodel.handlers import HANDLERS, Handler
from fastmodel.handlers.registry import CONDITIONS, REPEAT, STEP
from grammar.ir import Enum, Instruction, OperandCode, Program
from refmodel.decoder import choose_row, opcode_rows
from refmodel.encoding import REP, REPNE, Pattern, Prefixes, encoded_bits

# The prefixes that give the operand sizes 16, 32 and 64 where nothing else does, in the order of a group's entries.
SIZE_PREFIXES = (Prefixes(operand_size=True), Prefixes(), Prefixes(rex=0x48))
BOTH_PREFIXES = Prefixes(operand_size=True, rex=0x48)
REPEATED = {
    prefixes: [replace(prefixes, repeat=repeat) for repeat in (REP, REPNE)] for prefixes in SIZE_PREFIXES
}
ESCAPES = (b"", b"\x0f")
OPCODES = 256 * len(ESCAPES)  # words before the groups
IMMEDIATE_KINDS = frozenset({"immediate", "signed_immediate", "relative", "one"})

Candidates = list[tuple[Pattern, Instruction | None]]


@dataclass(frozen=True)
class Entry:
    """One entry of a group: the handler, and how the decoder finds its operands."""

    handler: Handler
    descriptor: int


@dataclass(frozen=True)
class Group:
    """The entries of one opcode, by operand size × memory or register × ModR/M reg field; None where none is."""

    flags: int
    entries: list[Entry | None]


def handlers_by_key() -> dict[tuple[str, tuple[int | None, ...], str], Handler]:
    """The handlers as the decoder looks for them."""
    return {handler.key: handler for handler in HANDLERS}


def handled(program: Program) -> frozenset[str]:
    """The instructions of a specification that have a handler."""
    known = {handler.instruction for handler in HANDLERS}
    return frozenset(name for name, i in program.instructions.items() if name in known or i.family in known)


def groups(program: Program) -> dict[int, Group]:
    """The groups of a specification by opcode byte, plus 256 after 0F."""
    known = {handler.instruction for handler in HANDLERS}
    by_key = handlers_by_key()
    found: dict[int, Group] = {}
    for (escape, opcode), candidates in opcode_rows(program).items():
        names = {name for _, i in candidates if i is not None for name in (i.name, i.family)}
        if escape in ESCAPES and names & known:
            group = _group(candidates, by_key, program)
            if any(group.entries):
                found[opcode + 256 * len(escape)] = group
    return found


def _group(
    candidates: Candidates, by_key: dict[tuple[str, tuple[int | None, ...], str], Handler], program: Program
) -> Group:
    has_modrm = any(row.has_modrm for row, _ in candidates)
    flags = decoder.HAS_MODRM if has_modrm else 0
    if any(row.rex_r is not None or row.rex_b is not None for row, _ in candidates):
        flags |= decoder.REFUSES_REX_RB
    looks_at_reg = any(isinstance(row.modrm, int) or row.fixed_modrm is not None for row, _ in candidates)
    entries: list[Entry | None] = []
    for prefixes, mode in product(SIZE_PREFIXES, (0, 0xC0)):
        if mode and not has_modrm:
            entries += [None] * 8
            continue
        some = [
            _chosen_entry(candidates, prefixes, mode | reg << 3, by_key, program)
            for reg in range(8 if looks_at_reg else 1)
        ]
        entries += some
        entries += [some[0] if has_modrm else None] * (8 - len(some))
    return Group(flags, entries)


def _chosen_entry(
    candidates: Candidates,
    prefixes: Prefixes,
    modrm: int,
    by_key: dict[tuple[str, tuple[int | None, ...], str], Handler],
    program: Program,
) -> Entry | None:
    """The entry for some prefixes and ModR/M reg and mod fields; None if these do not choose one row with a handler."""
    chosen = choose_row(candidates, prefixes, modrm)
    if chosen is None or chosen[1] is None:
        return None
    if any(row.fixed_modrm is not None and row.fixed_modrm & 0xF8 == modrm for row, _ in candidates):
        return None
    # With REX.W, the prefix 66 does not choose another entry: it must not choose another row either.
    if prefixes.rex_w and choose_row(candidates, BOTH_PREFIXES, modrm) != chosen:
        return None
    takes_repeat = all(choose_row(candidates, repeated, modrm) == chosen for repeated in REPEATED[prefixes])
    return _entry(chosen, prefixes, modrm >= 0xC0, takes_repeat, by_key, program)


def _entry(
    chosen: tuple[Pattern, Instruction | None],
    prefixes: Prefixes,
    is_register: bool,
    takes_repeat: bool,
    by_key: dict[tuple[str, tuple[int | None, ...], str], Handler],
    program: Program,
) -> Entry | None:
    """The entry for a row, None if it has no handler."""
    row, instruction = chosen
    if instruction is None:
        return None
    size = row.operand_size(prefixes)
    form = "".join(_letter(code, is_register) for code in row.operands)
    for name in (instruction.name, instruction.family or instruction.name):
        handler = by_key.get((name, row.widths(size), form))
        if handler is not None:
            descriptor = _descriptor(row, form, size, _member_number(instruction, program), handler)
            return Entry(
                handler, descriptor | _prefixes(row, form, handler, takes_repeat) << decoder.PREFIXES
            )
    return None


def _prefixes(row: Pattern, form: str, handler: Handler, takes_repeat: bool) -> int:
    """Which of the prefixes F0, F2 and F3 the instruction may have, and what they mean."""
    value = decoder.LOCKABLE if row.lockable and form.startswith("m") else 0
    value |= decoder.TAKES_REPEAT if takes_repeat else 0
    return value | (decoder.REPEATS if handler.flow == REPEAT else 0)


def _letter(code: OperandCode, is_register: bool) -> str:
    """Where an operand is: `r`, `m`, `i`, or `?` for what no handler takes."""
    match code.kind:
        case "reg" | "opcode_register" | "register":
            return "r"
        case "rm" | "rm_memory" | "rm_register" | "rm_as_register":
            return "r" if is_register else "m"
        case "offset" | "memory_at" | "es_memory_at":
            return "m"
    return "i" if code.kind in IMMEDIATE_KINDS else "?"


def _member_number(instruction: Instruction, program: Program) -> int:
    """The number of the condition in the name of a member of a family, 0 for other instructions."""
    conditions = program.types.get("Condition")
    if instruction.family is None or not isinstance(conditions, Enum):
        return 0
    return next(
        (n for name, n in conditions.members if instruction.family.replace("{cc}", name) == instruction.name),
        0,
    )


def _descriptor(row: Pattern, form: str, size: int, extra: int, handler: Handler) -> int:
    """How the decoder finds the operands: see the descriptor in decoder.py."""
    value = extra << decoder.EXTRA_BYTE | _flow(handler) << decoder.FLOW | handler.flags << decoder.FLAGS
    value |= 0 if handler.condition is None else decoder.IS_JCC << decoder.FLAGS
    for position, (code, letter, width) in enumerate(zip(row.operands, form, row.widths(size), strict=True)):
        if letter == "r" and position < 2:  # a third is CL
            value |= _register_source(code) << (decoder.FIRST_SOURCE, decoder.SECOND_SOURCE)[position]
            value |= (width == 8) << (decoder.BYTE_REGISTERS + position)
        elif letter == "i" or code.kind == "offset":
            value |= _immediate_form(code, size) << decoder.IMMEDIATE_FORM
    return value


def _flow(handler: Handler) -> int:
    """How the decoder goes on behind an instruction."""
    if handler.flow == STEP:
        return decoder.FALLS_THROUGH
    return decoder.MAY_FALL_THROUGH if handler.falls_through else decoder.ENDS_TRACE


def _register_source(code: OperandCode) -> int:
    """Where the decoder finds the number of a register operand."""
    match code.kind:
        case "reg":
            return decoder.FROM_REG
        case "opcode_register":
            return decoder.FROM_OPCODE
        case "register":
            return decoder.FIXED_REGISTER | (code.register or 0)
    return decoder.FROM_RM


def _immediate_form(code: OperandCode, size: int) -> int:
    """How many bytes an immediate has, and what is done with them."""
    if code.kind == "one":
        return decoder.IMMEDIATE_ONE
    flags = {
        "signed_immediate": decoder.IMMEDIATE_SIGNED,
        "relative": decoder.IMMEDIATE_SIGNED | decoder.IMMEDIATE_RELATIVE,
        "offset": decoder.IMMEDIATE_OFFSET,
    }
    return encoded_bits(code, size) // 8 | flags.get(code.kind, 0)


@dataclass
class Parts:
    """The words of a table, and what is put into them when it gets its place in memory: see table.py."""

    words: array[int] = field(default_factory=lambda: array("Q", bytes(8 * OPCODES)))
    routines: list[tuple[int, str]] = field(default_factory=list)
    places: list[int] = field(default_factory=list)

    def add(self, words: Iterable[int]) -> int:
        """Puts words at the end; returns the number of the first."""
        begin = len(self.words)
        self.words.extend(words)
        return begin


def parts(program: Program) -> Parts:
    """The words of the opcodes, then the groups, then the lists of the routines that do a Jcc too, by its condition."""
    table = Parts()
    fusing: dict[Handler, list[int]] = {}
    for opcode, group in groups(program).items():
        table.words[opcode] = 8 * len(table.words) | group.flags
        table.places.append(opcode)
        for entry in group.entries:
            begin = table.add((0, entry.descriptor if entry else 0, 0, 0))
            if entry is not None:
                table.routines.append((begin, entry.handler.name))
                table.routines.append((begin + 2, entry.handler.unseen_name))
                fusing.setdefault(entry.handler, []).append(begin + 3)
    for handler, entries in fusing.items():
        if handler.fused:
            begin = table.add((0,) * len(CONDITIONS))
            table.routines += ((begin + n, handler.fused_name(n)) for n in handler.fused)
            table.places += entries
            for entry_word in entries:
                table.words[entry_word] = 8 * begin
    return table
