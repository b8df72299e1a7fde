"""Programs: guests with loops, calls, faults through the IDT, edits of page tables, and code that changes itself.

A program is assembly text, put together at random. Each part of it sets R15 to what follows it; handlers of faults
return there. R14 and R13 count loops, RBX points to data; the other registers are the parts' own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random

from checks.case import Case
from checks.fuzz.bases import (
    CODE,
    DATA,
    HANDLERS,
    NO_EXECUTE,
    PAGE_SIZE,
    PRESENT,
    SPECIAL_PAGES,
    TABLE,
    USED,
    USER,
    WRITABLE,
)
from checks.fuzz.operands import draw_value
from checks.fuzz.values import boundaries
from grammar.ir import OperandCode, Program
from refmodel.assembler import assemble
from refmodel.encoder import Encoder
from refmodel.forms import Form, forms, implied
from refmodel.operands import Immediate, Memory, Operand
from refmodel.registers import GENERAL, Register

PROGRAM = "program"  # the kind of case
_STEPS = 400
_TABLE_WINDOW = 0x3B000  # where a program finds the last level of its page tables
_ERROR_CODES = frozenset({8, 10, 11, 12, 13, 14, 17, 21})  # vectors with an error code.  SDM 3A table 6-1
_FREE_REGISTERS = (0, 1, 2, 5, 6, 7, 8, 9, 10, 11, 12)  # without RBX, RSP and those that the frame uses
_RBX = 3
_REGISTER_KINDS = frozenset({"reg", "opcode_register", "rm", "rm_register"})
_ENTRY_BITS = (0, USED, PRESENT, PRESENT | WRITABLE, USED | NO_EXECUTE, USED & ~WRITABLE)


class Programs:
    """Draws programs over some instructions."""

    def __init__(self, program: Program, names: Sequence[str], bases: Sequence[str]) -> None:
        self._encoder = Encoder(program)
        chosen = set(names)
        self._forms = [
            form for form in forms(program) if form.instruction.name in chosen and _is_simple(form)
        ]
        self._bases = bases
        self._handlers = assemble(_handlers_text(), self._encoder).code
        self._weights: list[float] = [1.0] * len(self._forms)

    def weigh(self, weights: Mapping[str, float]) -> None:
        """Draws an instruction as often as its weight says (1 where there is none)."""
        self._weights = [weights.get(form.instruction.name, 1.0) for form in self._forms]

    def reward(self, case: Case) -> None:
        """Programs run without coverage."""

    def batch(self, source: Random, count: int) -> list[Case]:
        """Programs that all start from one base."""
        base = source.choice(self._bases)
        return [self.case(source, base) for _ in range(count)]

    def case(self, source: Random, base: str) -> Case:
        """One program."""
        user = base.endswith("user")
        code = assemble(_Writer(source, self._instruction, user).text(), self._encoder).code
        bits = USED | (USER if user else 0)
        window = (TABLE | (USED if not user else bits)).to_bytes(8, "little")
        state = {f"GPR[{n}]": draw_value(source, boundaries()) for n in _FREE_REGISTERS}
        return Case(
            kind=PROGRAM,
            id=PROGRAM,
            code=code,
            base=base,
            steps=_STEPS,
            state={**state, "RIP": CODE, f"GPR[{_RBX}]": DATA + 0x800},
            memory=((HANDLERS, self._handlers), (TABLE + 8 * (_TABLE_WINDOW // PAGE_SIZE), window)),
        )

    def _instruction(self, source: Random) -> bytes:
        """A random instruction that goes on to the next, if it does not fault."""
        (form,) = source.choices(self._forms, self._weights)
        operands: dict[str, Operand] = {}
        for name, code, width in zip(
            form.instruction.operands, form.pattern.operands, form.widths(), strict=True
        ):
            operands[name] = _operand(source, code, width, form.size)
        return self._encoder.encode_form(form, operands, CODE) or b"\x90"


def _is_simple(form: Form) -> bool:
    """Whether all its operands are registers, memory at RBX or numbers, one of them at least."""
    kinds = {code.kind for code in form.pattern.operands}
    simple = _REGISTER_KINDS | {"rm_memory", "register", "one", "immediate", "signed_immediate"}
    return bool(kinds & _REGISTER_KINDS) and kinds <= simple


def _operand(source: Random, code: OperandCode, width: int | None, size: int) -> Operand:
    if code.kind in ("register", "one"):
        return implied(code, size)
    if code.kind == "rm_memory" or (code.kind == "rm" and source.random() < 0.4):
        return Memory(base=_RBX, displacement=source.randrange(-128, 128), width=width)
    if code.kind in _REGISTER_KINDS:
        return Register(GENERAL, source.choice(_FREE_REGISTERS), width or 64)
    return Immediate(source.randrange(128))


class _Writer:
    """Writes the text of one program."""

    def __init__(self, source: Random, instruction: Callable[[Random], bytes], user: bool) -> None:
        self._source = source
        self._instruction = instruction
        self._labels = 0
        parts = (self._loop, self._call, self._fault, self._changing, self._exit, self._exit)
        self._parts: list[Callable[[], list[str]]] = [self._plain, self._plain, *parts]
        if not user:
            self._parts.append(self._page_edit)

    def text(self) -> str:
        """The program: parts in a loop, then functions."""
        body = [line for _ in range(self._source.randrange(4, 12)) for line in self._part()]
        rounds = self._source.randrange(1, 5)
        functions = [line for n in range(2) for line in (f"function{n}:", *self._plain(), "ret")]
        lines = [
            f"org {CODE}",
            f"mov r14d, {rounds}",
            "again:",
            *body,
            "dec r14d",
            "jne again",
            "end: jmp end",
        ]
        return "\n".join([*lines, *functions]) + "\n"

    def _label(self) -> str:
        self._labels += 1
        return f"label{self._labels}"

    def _part(self) -> list[str]:
        label = self._label()
        return [f"mov r15, {label}", *self._source.choice(self._parts)(), f"{label}:"]

    def _plain(self) -> list[str]:
        codes = [self._instruction(self._source) for _ in range(self._source.randrange(1, 5))]
        return [f"db {', '.join(map(str, code))}" for code in codes]

    def _loop(self) -> list[str]:
        label = self._label()
        return [
            f"mov r13d, {self._source.randrange(1, 6)}",
            f"{label}:",
            *self._plain(),
            "dec r13d",
            f"jne {label}",
        ]

    def _call(self) -> list[str]:
        return [f"call function{self._source.randrange(2)}"]

    def _fault(self) -> list[str]:
        page = self._source.choice(SPECIAL_PAGES).address
        offset = self._source.choice((0, 8, PAGE_SIZE - 4))
        access = self._source.choice(
            ("mov rax, [rdi]", "mov [rdi], rax", "add [rdi], ecx", "push qword [rdi]", "jmp rdi")
        )
        return [f"mov rdi, {page + offset}", access]

    def _changing(self) -> list[str]:
        """An instruction whose immediate the program changes: this round's or the next one's."""
        label = self._label()
        store = [
            f"mov rdi, {label} + {self._source.choice((1, 2, 4))}",
            f"mov byte [rdi], {self._source.randrange(256)}",
        ]
        target = [f"{label}:", f"add eax, {self._source.getrandbits(30)}"]
        return [*store, *target] if self._source.random() < 0.5 else [*target, *store]

    def _exit(self) -> list[str]:
        return [self._source.choice(("cpuid", "cpuid", "rdtsc", "hlt", "vmcall", "ud2"))]

    def _page_edit(self) -> list[str]:
        """Changes the entry of a page of data, invalidates what is remembered of it, and uses it."""
        page = DATA + PAGE_SIZE * self._source.randrange(4)
        bits = self._source.choice(_ENTRY_BITS)
        entry = DATA + PAGE_SIZE * self._source.randrange(4) | bits if bits else 0
        return [
            f"mov rdi, {_TABLE_WINDOW + 8 * (page // PAGE_SIZE)}",
            f"mov rax, {entry}",
            "mov [rdi], rax",
            f"mov rsi, {page}",
            "invlpg [rsi]",
            self._source.choice(("mov rdx, [rsi]", "mov [rsi], rdx", "add [rsi + 8], rax")),
        ]


def _handlers_text() -> str:
    """What each vector's gate leads to: eight bytes each, then the two ways to return to R15."""
    lines = [f"org {HANDLERS}"]
    for vector in range(256):
        lines += ["align 8", f"jmp near {'with_error' if vector in _ERROR_CODES else 'without_error'}"]
    lines += ["with_error:", "add rsp, 8", "without_error:", "mov [rsp], r15", "iretq"]
    return "\n".join(lines) + "\n"
