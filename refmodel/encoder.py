"""From an instruction and its operands to bytes: the opcode tables of the specification read backwards.

`Encoder(program).encode("mov", operands)` tries every row whose syntax fits the operands and takes the
shortest encoding, the first row among equals, as assemblers do.  Nothing here knows an instruction.
"""

from __future__ import annotations

from dataclasses import replace

from grammar.ir import OperandCode, Program
from refmodel.addressing import ES
from refmodel.decoder import choose_row, opcode_rows
from refmodel.encoding import (
    ADDRESS_SIZE,
    LOCK,
    OPERAND_SIZE,
    REP,
    REPNE,
    SEGMENT_PREFIXES,
    Pattern,
    Prefixes,
    encoded_bits,
    other_address_size,
)
from refmodel.fields import Fields, address_width, fits_signed, place_memory
from refmodel.forms import Form, bind, forms
from refmodel.operands import Immediate, Memory, Operand
from refmodel.registers import CONTROL, DEBUG, GENERAL, HIGH_BYTE, SEGMENT, Register

_REGISTER_KINDS = {"control_register": CONTROL, "debug_register": DEBUG, "segment_register": SEGMENT}
_PREFIX_OF_SEGMENT = {number: byte for byte, number in SEGMENT_PREFIXES.items()}


# The words that may stand before a mnemonic.
_PREFIX_BYTES = {"lock": LOCK, "rep": REP, "repe": REP, "repz": REP, "repne": REPNE, "repnz": REPNE}


class EncodingError(Exception):
    """No encoding, or no single meaning; the message says why."""


class Encoder:
    """Encodes instructions of a program by mnemonic, for code of one size."""

    def __init__(self, program: Program, code_size: int = 64) -> None:
        self.code_size = code_size
        self._program = program
        self._rows = opcode_rows(program)
        self.by_mnemonic: dict[str, list[Form]] = {}
        for form in forms(program, code_size):
            for mnemonic in form.template.mnemonics:
                self.by_mnemonic.setdefault(mnemonic, []).append(form)

    def for_code(self, code_size: int) -> Encoder:
        """The encoder of the same program for code of another size."""
        return self if code_size == self.code_size else Encoder(self._program, code_size)

    def encode(
        self, mnemonic: str, operands: tuple[Operand, ...], address: int = 0, prefix: str = ""
    ) -> list[bytes]:
        """All encodings, the shortest first, of an instruction that stands at `address`.

        Raises EncodingError if there is none, or if the size of a memory operand is not given by anything.
        """
        candidates = self.by_mnemonic.get(mnemonic)
        if candidates is None:
            raise EncodingError(f"unknown instruction '{mnemonic}'")
        found = self._found(candidates, operands, address, prefix)
        if not found:
            raise EncodingError(self._why_not(mnemonic, operands, prefix))
        _require_one_size(found, operands)
        return sorted((code for _, code in found), key=len)

    def _why_not(self, mnemonic: str, operands: tuple[Operand, ...], prefix: str) -> str:
        """What stands in the way, as far as a simple reason can be found."""
        candidates = self.by_mnemonic[mnemonic]
        counts = sorted({len(form.template.operands) for form in candidates})
        if len(operands) not in counts:
            wanted = " or ".join(str(count) for count in counts)
            return f"'{mnemonic}' takes {wanted} operand{'s' if counts != [1] else ''}, not {len(operands)}"
        if prefix == "lock":
            return f"'{mnemonic}' with these operands cannot be locked"
        if prefix:
            return f"'{mnemonic}' takes no {prefix}"
        small = tuple(replace(o, value=1) if isinstance(o, Immediate) else o for o in operands)
        if small != operands and self._found(candidates, small, 0):
            return f"the number does not fit any form of '{mnemonic}' with these operands"
        return f"no form of '{mnemonic}' takes these operands"

    def _found(
        self, candidates: list[Form], operands: tuple[Operand, ...], address: int = 0, prefix: str = ""
    ) -> list[tuple[Form, bytes]]:
        """The forms that take the operands, with their bytes."""
        found = []
        for form in candidates:
            bound = bind(form, operands)
            code = self.encode_form(form, bound, address, prefix) if bound is not None else None
            if code is not None:
                found.append((form, code))
        return found

    def encode_form(
        self, form: Form, operands: dict[str, Operand], address: int = 0, prefix: str = ""
    ) -> bytes | None:
        """The bytes of one form with these operands by name, None if they do not fit it."""
        shape = form.pattern
        if prefix and not _takes_prefix(shape, prefix, operands):
            return None
        fields = Fields()
        if isinstance(shape.modrm, int):
            fields.reg = shape.modrm
        if shape.fixed_modrm is not None:
            fields.set_modrm(shape.fixed_modrm)
        widths = form.widths()
        for name, code, width in zip(form.instruction.operands, shape.operands, widths, strict=True):
            if not _place(fields, code, operands[name], width, form):
                return None
        if not _register_fits_opcode(shape, fields):
            return None
        rex = _rex(form, fields)
        if (rex and (fields.forbids_rex or form.code_size != 64)) or not self._means(form, fields, rex):
            return None
        return _emit(form, fields, rex, address, prefix)

    def _means(self, form: Form, fields: Fields, rex: int) -> bool:
        """Whether these bytes are decoded as this row: 90 is NOP, not XCHG EAX, EAX."""
        shape = form.pattern
        prefixes = Prefixes(
            operand_size=form.is_prefixed or shape.mandatory == OPERAND_SIZE,
            repeat=0 if shape.mandatory == OPERAND_SIZE else shape.mandatory,
            rex=rex,
            code_size=form.code_size,
        )
        opcode = _opcode(shape, fields)
        chosen = choose_row(self._rows[shape.escape, opcode], prefixes, fields.modrm)
        return chosen is not None and chosen[0].row is form.row


def _takes_prefix(shape: Pattern, prefix: str, operands: dict[str, Operand]) -> bool:
    """LOCK asks for a memory operand; REP and REPE are told apart, though they are one byte."""
    if prefix == "lock":
        return shape.lockable and any(isinstance(o, Memory) for o in operands.values())
    return ("rep" if prefix == "rep" else "repe") in shape.row.attributes


def _register_fits_opcode(shape: Pattern, fields: Fields) -> bool:
    """A row may fix the register that the opcode numbers, or its fourth bit: REX.B + 90 is XCHG with R8."""
    number = fields.opcode_register
    if number is None:
        return True
    fixed = not shape.register_in_opcode and number & 7 != shape.opcode & 7
    return not fixed and not (shape.rex_b and number < 8)


def _opcode(shape: Pattern, fields: Fields) -> int:
    """The last opcode byte."""
    return shape.opcode + ((fields.opcode_register or 0) & 7 if shape.register_in_opcode else 0)


def _place(fields: Fields, code: OperandCode, operand: Operand, width: int | None, form: Form) -> bool:
    """Puts an operand where its code says; False if it does not fit."""
    if code.kind in ("immediate", "signed_immediate", "relative", "one"):
        return isinstance(operand, Immediate) and _place_number(fields, code, operand, width, form.size)
    if isinstance(operand, Memory):
        if width is not None and operand.width not in (None, width):
            return False
        if code.kind == "offset":
            return _place_offset(fields, operand, form.code_size)
        if code.kind in ("memory_at", "es_memory_at"):
            return _place_implied(fields, code, operand, form.code_size)
        return code.kind in ("rm", "rm_memory") and place_memory(fields, operand, form.code_size)
    return isinstance(operand, Register) and _place_register(fields, code, operand, width)


def _place_register(fields: Fields, code: OperandCode, register: Register, width: int | None) -> bool:
    if code.kind in _REGISTER_KINDS:
        fields.reg = register.number
        return register.kind == _REGISTER_KINDS[code.kind]
    if register.kind not in (GENERAL, HIGH_BYTE) or (width is not None and register.width != width):
        return False
    if code.kind == "register":
        return register.kind == GENERAL and register.number == code.register
    fields.forbids_rex |= register.kind == HIGH_BYTE
    fields.needs_rex |= register.kind == GENERAL and register.width == 8 and register.number in range(4, 8)
    match code.kind:
        case "reg":
            fields.reg = register.number
        case "opcode_register":
            fields.opcode_register = register.number
        case "rm" | "rm_register" | "rm_as_register":
            fields.mod, fields.rm = 3, register.number
        case _:
            return False
    return True


def _place_number(fields: Fields, code: OperandCode, number: Immediate, width: int | None, size: int) -> bool:
    if code.kind == "one":
        return number.value == 1 and number.width is None
    bits = encoded_bits(code, size)
    if number.width not in (None, bits, width):
        return False
    if code.kind == "relative":
        fields.trailing.append((number.value, bits // 8, True))
        return -(1 << 63) <= number.value < 1 << 64
    if code.kind == "signed_immediate" and width is not None:
        value = (number.value + (1 << width - 1)) % (1 << width) - (1 << width - 1)
        in_range = -(1 << width - 1) <= number.value < 1 << width and fits_signed(value, bits)
    else:
        in_range = -(1 << bits - 1) <= number.value < 1 << bits
    fields.trailing.append((number.value, bits // 8, False))
    return in_range


def _place_offset(fields: Fields, memory: Memory, code_size: int) -> bool:
    """A bare address (moffs)."""
    fields.segment = memory.segment
    width = fields.address_width = address_width(memory, code_size)
    fields.trailing.append((memory.displacement, width // 8, False))
    bare = memory.base is None and memory.index is None and not memory.relative
    return bare and -(1 << width - 1) <= memory.displacement < 1 << width


def _place_implied(fields: Fields, code: OperandCode, memory: Memory, code_size: int) -> bool:
    """Memory at a register that the opcode implies; only its segment and address size can be chosen, one for all."""
    in_es = code.kind == "es_memory_at"
    if not in_es and memory.segment is not None:
        fields.segment = memory.segment
    width = code_size if memory.address_width == 64 else memory.address_width
    if fields.address_width not in (None, width):
        return False
    fields.address_width = width
    bare = memory.index is None and memory.displacement == 0 and not memory.relative
    return bare and memory.base == code.register and (not in_es or memory.segment in (None, ES))


def _emit(form: Form, fields: Fields, rex: int, address: int, prefix: str) -> bytes | None:
    """Lays out prefixes, REX, opcode, ModR/M, SIB, displacement and immediates.  SDM 2A 2.1, figure 2-1"""
    shape = form.pattern
    code = bytearray()
    if prefix:
        code.append(_PREFIX_BYTES[prefix])
    if fields.segment is not None:
        code.append(_PREFIX_OF_SEGMENT[fields.segment])
    if fields.address_width not in (None, form.code_size):
        if fields.address_width != other_address_size(form.code_size):
            return None
        code.append(ADDRESS_SIZE)
    if form.is_prefixed and shape.mandatory != OPERAND_SIZE:
        code.append(OPERAND_SIZE)
    if shape.mandatory:
        code.append(shape.mandatory)
    if rex:
        code.append(rex)
    code += shape.escape
    code.append(_opcode(shape, fields))
    if shape.has_modrm:
        code.append(fields.modrm)
    if fields.sib is not None:
        code.append(fields.sib)
    return _append_numbers(code, fields, address, 64 if form.code_size == 64 else form.size)


def _append_numbers(code: bytearray, fields: Fields, address: int, width: int) -> bytes | None:
    numbers = [*fields.displacement, *fields.trailing]
    end = address + len(code) + sum(length for _, length, _ in numbers)
    half = 1 << width - 1  # targets wrap at the operand size
    for value, length, relative in numbers:
        number = value - end if relative else value
        if relative:
            number = (number + half) % (2 * half) - half
            if not fits_signed(number, 8 * length):
                return None
        code += (number % (1 << 8 * length)).to_bytes(length, "little")
    return bytes(code)


def _rex(form: Form, fields: Fields) -> int:
    """The REX prefix, 0 if none is needed.  SDM 2A 2.2.1"""
    shape = form.pattern
    bits = (
        8 * (form.is_wide or bool(shape.rex_w))
        | 4 * (fields.reg > 7 or bool(shape.rex_r))
        | 2 * (fields.index > 7)
        | (fields.rm > 7 or (fields.opcode_register or 0) > 7 or bool(shape.rex_b))
    )
    return 0x40 | bits if bits or fields.needs_rex else 0


def _require_one_size(found: list[tuple[Form, bytes]], operands: tuple[Operand, ...]) -> None:
    """Nothing but the memory operand itself could tell its size: then it must."""
    for position, operand in enumerate(operands):
        if not isinstance(operand, Memory) or operand.width is not None:
            continue
        widths = {_written_width(form, position) for form, _ in found}
        if len(widths) > 1:
            sizes = " or ".join(_SIZE_NAMES[width] for width in sorted(w for w in widths if w))
            raise EncodingError(f"the size of the memory operand is not known: write {sizes} before it")


_SIZE_NAMES = {8: "byte", 16: "word", 32: "dword", 64: "qword"}


def _written_width(form: Form, position: int) -> int | None:
    name = form.template.operands[position]
    return form.widths()[form.instruction.operands.index(name)] if isinstance(name, str) else None
