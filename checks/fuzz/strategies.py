"""Cases drawn from the specification: its encodings, the values at which its text changes course, its flags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from hypothesis import strategies as st

from checks.case import Case
from checks.fuzz.bases import BASES, CODE, DATA, NOP, PAGE_SIZE, SPECIAL_PAGES
from checks.fuzz.values import MASK_64, WIDTHS, boundaries, constants_of, flag_bits
from grammar.ir import Instruction, OperandCode, Program
from refmodel.addressing import RSP
from refmodel.encoder import Encoder
from refmodel.encoding import encoded_bits
from refmodel.forms import Form, forms, implied
from refmodel.operands import Immediate, Memory, Operand
from refmodel.registers import BY_NAME, CONTROL, DEBUG, GENERAL, HIGH_BYTE, SEGMENT, Register

MOST_INSTRUCTIONS = 3

# What decides that the machine is in 64-bit mode with 4-level paging: the bases set it, cases leave it alone.
_MODE = frozenset(
    {"PE", "PG", "ET", "PAE", "LME", "LMA", "LA57", "PCIDE", "VMXE", "SMXE", "VM", "CET", "PKE", "PKS"}
)
_SYSTEM_REGISTERS = (("CR0", 0x80050033, "Cr0"), ("CR4", 0x20, "Cr4"), ("EFER", 0xD01, "Efer"))
_RFLAGS_FIXED = 2
_SYSTEM_FLAGS = frozenset({"TF", "IF", "NT", "RF", "AC", "VIF", "VIP", "ID"})

_OFFSETS = (0, 1, 8, 0x104, 0x7F9, 0xA00, PAGE_SIZE - 16, PAGE_SIZE - 8, PAGE_SIZE - 7, PAGE_SIZE - 1)
_PAGES = (*(DATA,) * 10, CODE, *(special.address for special in SPECIAL_PAGES))
_NOT_CANONICAL = (1 << 47, (1 << 47) - 4, MASK_64, MASK_64 - 7)
_TARGETS = (*(page + offset for page in _PAGES for offset in _OFFSETS), *_NOT_CANONICAL)
_FS = 4


# Strategies are made once: making one costs more than drawing from it.
_BASES = st.sampled_from(BASES)
_START_ADDRESSES = st.sampled_from((CODE, CODE + 1, CODE + 0x800, CODE + PAGE_SIZE - 2, CODE + PAGE_SIZE - 9))
_TARGET = st.sampled_from(_TARGETS)
_DISPLACEMENT = st.sampled_from((0, 1, -1, 0x7F, -0x80, 0x80, 0x1000, -0x7FFFFFFF))
_INDEX_VALUE = st.sampled_from(boundaries())
_BRANCH = st.integers(-8, 24)
_PREFIX = st.sampled_from((*[None] * 90, 0x66, 0x67, 0xF0, 0xF2, 0xF3, 0x2E, 0x64, 0x40, 0x48))
_SEGMENT = st.sampled_from((*[None] * 15, _FS))
_ANY_VALUE = st.integers(0, MASK_64)
_NUMBER = st.integers(0, 15)
_IS_REGISTER = st.booleans()

# A memory operand: its index register's scale, None for no index, 0 for an address relative to RIP.
_SHAPE = st.sampled_from((None, None, None, None, 1, 2, 4, 8, 0))


def _registers(*kinds: str) -> list[Register]:
    return [register for register in BY_NAME.values() if register.kind in kinds]


_GENERAL_REGISTER = {
    width: st.sampled_from([r for r in _registers(GENERAL, HIGH_BYTE) if r.width == width])
    for width in WIDTHS
}
_SPECIAL_REGISTER = {
    "control_register": st.sampled_from(_registers(CONTROL)),
    "debug_register": st.sampled_from(_registers(DEBUG)),
    "segment_register": st.sampled_from(_registers(SEGMENT)),
}


@dataclass
class _Draft:
    """A case in the making: `state` so far, and the code."""

    address: int
    state: dict[str, int] = field(default_factory=dict)
    code: bytes = b""

    @property
    def next_address(self) -> int:
        return self.address + len(self.code)


class CaseStrategy:
    """The strategy of all cases over some instructions of a program."""

    def __init__(self, program: Program, names: Sequence[str] | None = None) -> None:
        self._encoder = Encoder(program)
        by_name: dict[str, list[Form]] = {}
        for form in forms(program):
            if names is None or form.instruction.name in names:
                by_name.setdefault(form.instruction.name, []).append(form)
        forms_ = st.one_of([st.sampled_from(each) for each in by_name.values()])
        self._values = {name: _values(program.instructions[name]) for name in by_name}
        self._several = st.lists(forms_, min_size=1, max_size=MOST_INSTRUCTIONS)
        self._status_flags = _flags(flag_bits(program, "Rflags", _MODE | _SYSTEM_FLAGS))
        every_flag = flag_bits(program, "Rflags", _MODE)
        self._any_flag = st.sampled_from((*[0] * 3 * len(every_flag), *every_flag))
        changes = [
            (name, base ^ bit)
            for name, base, type_ in _SYSTEM_REGISTERS
            for bit in flag_bits(program, type_, _MODE)
        ]
        self._system = st.sampled_from((*[None] * 2 * len(changes), *changes))

    def cases(self) -> st.SearchStrategy[Case]:
        """Cases of one to a few instructions."""
        return st.composite(self._case)()

    def _case(self, draw: st.DrawFn) -> Case:
        base = draw(_BASES)
        draft = _Draft(draw(_START_ADDRESSES))
        draft.state["RIP"] = draft.address
        drawn = draw(self._several)
        for form in drawn:
            draft.code += self._instruction(draw, form, draft)
        self._draw_flags(draw, draft)
        return Case(
            kind="fuzz",
            id="fuzz",
            code=draft.code,
            instruction=drawn[0].instruction.name,
            base=base,
            steps=len(drawn),
            state=draft.state,
        )

    def _draw_flags(self, draw: st.DrawFn, draft: _Draft) -> None:
        flags = draw(self._status_flags) | draw(self._any_flag)
        if flags:
            draft.state["RFLAGS"] = _RFLAGS_FIXED | flags
        change = draw(self._system)
        if change is not None:
            name, value = change
            draft.state[name] = value

    def _instruction(self, draw: st.DrawFn, form: Form, draft: _Draft) -> bytes:
        """The bytes of a form with drawn operands; NOP where the operands cannot be encoded together."""
        operands: dict[str, Operand] = {}
        codes, widths = form.pattern.operands, form.widths()
        for name, code, width in zip(form.instruction.operands, codes, widths, strict=True):
            operands[name] = self._operand(draw, form, code, width, draft)
        encoded = self._encoder.encode_form(form, operands, draft.next_address) or NOP
        prefix = draw(_PREFIX)
        return encoded if prefix is None else bytes((prefix,)) + encoded

    def _operand(
        self, draw: st.DrawFn, form: Form, code: OperandCode, width: int | None, draft: _Draft
    ) -> Operand:
        values = self._values[form.instruction.name]
        match code.kind:
            case "reg" | "opcode_register" | "rm_register" | "rm_as_register":
                return _draw_register(draw, width, draft, values)
            case "rm" | "rm_memory":
                if code.kind == "rm" and draw(_IS_REGISTER):
                    return _draw_register(draw, width, draft, values)
                return _draw_memory(draw, width, draft)
            case "register":
                draft.state.setdefault(f"GPR[{code.register}]", draw(values))
                return implied(code, form.size)
            case "memory_at" | "es_memory_at":
                draft.state[f"GPR[{code.register}]"] = draw(_TARGET)
                return implied(code, form.size)
            case "one":
                return implied(code, form.size)
            case "control_register" | "debug_register" | "segment_register":
                return draw(_SPECIAL_REGISTER[code.kind])
            case "relative":
                return Immediate(draft.next_address + draw(_BRANCH))
            case "offset":
                return Memory(displacement=draw(_TARGET), width=width)
        bits = encoded_bits(code, form.size)
        value = draw(values) & (1 << bits) - 1
        signed = value - (1 << bits) if value >> bits - 1 else value
        return Immediate(signed if code.kind == "signed_immediate" else value)


def _values(instruction: Instruction) -> st.SearchStrategy[int]:
    """64-bit values for an instruction's registers and immediates."""
    special = st.sampled_from((*boundaries(), *constants_of(instruction)))
    return st.one_of(special, _ANY_VALUE)


def _flags(bits: Sequence[int]) -> st.SearchStrategy[int]:
    """Sums of some of these bits."""

    def chosen(number: int) -> int:
        return sum(mask for n, mask in enumerate(bits) if number >> n & 1)

    return st.integers(0, (1 << len(bits)) - 1).map(chosen)


def _draw_register(
    draw: st.DrawFn, width: int | None, draft: _Draft, values: st.SearchStrategy[int]
) -> Register:
    register = draw(_GENERAL_REGISTER[width or 64])
    number = register.number & 3 if register.kind == HIGH_BYTE else register.number
    draft.state.setdefault(f"GPR[{number}]", draw(values))
    return register


def _draw_memory(draw: st.DrawFn, width: int | None, draft: _Draft) -> Memory:
    """A memory operand; its base register is such that the address is one of the interesting ones."""
    target = draw(_TARGET)
    shape = draw(_SHAPE)
    if shape == 0:
        near = target if target >> 31 == 0 else DATA
        return Memory(displacement=near, width=width, relative=True)
    displacement, base = draw(_DISPLACEMENT), draw(_NUMBER)
    memory = Memory(base=base, displacement=displacement, width=width, segment=draw(_SEGMENT))
    offset = displacement
    if shape is not None:
        index = draw(_NUMBER)
        if index not in (RSP, base):
            memory = replace(memory, index=index, scale=shape)
            offset += shape * draft.state.setdefault(f"GPR[{index}]", draw(_INDEX_VALUE))
    draft.state.setdefault(f"GPR[{base}]", target - offset & MASK_64)
    return memory
