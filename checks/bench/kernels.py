"""The kernels: guest programs with a result that is known.

Each is a function of the System V calling convention that takes the address of a buffer in RDI and returns its result
in RAX, so that the host can call the same bytes. It may be placed anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

MASK = (1 << 64) - 1

ALU_BITS = 21
SIEVE_SIZE = 1 << 20  # bytes, one for each number
FIBONACCI = 30
PAGES = 8192
PAGE_SIZE = 4096
PAGE_PASSES = 32

BUFFER_SIZE = PAGES * PAGE_SIZE


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel.  `expected()` is its result; `data` is what the buffer holds before: (offset, bytes) parts."""

    name: str
    summary: str
    text: str
    expected: Callable[[], int]
    data: tuple[tuple[int, bytes], ...] = ()


ALU = f"""
start:
        xor     eax, eax
        xor     ecx, ecx
        xor     r8d, r8d
.next:
        mov     rdx, rcx
        shr     rdx, 1
        xor     rdx, rcx                ; the Gray code of rcx
        add     rax, rdx
        test    cl, 1
        je      .even
        inc     r8
.even:
        inc     rcx
        cmp     rcx, {1 << ALU_BITS}
        jne     .next
        sub     rax, r8
        ret
"""


def _alu() -> int:
    """Gray codes are a permutation of the numbers they are made of; half of these are odd."""
    count = 1 << ALU_BITS
    return count * (count - 1) // 2 - count // 2


MEMORY = f"""
start:
        xor     ecx, ecx
.clear:
        mov     qword [rdi + rcx], 0
        add     rcx, 8
        cmp     rcx, {SIEVE_SIZE}
        jne     .clear

        mov     ecx, 2
        mov     edx, 4                  ; twice the candidate
.candidate:
        cmp     byte [rdi + rcx], 0
        jne     .composite
        mov     rsi, rdx
        jmp     .check
.cross:
        mov     byte [rdi + rsi], 1
        add     rsi, rcx
.check:
        cmp     rsi, {SIEVE_SIZE}
        jb      .cross
.composite:
        inc     rcx
        add     rdx, 2
        cmp     rcx, {SIEVE_SIZE}
        jne     .candidate

        xor     eax, eax
        xor     ecx, ecx
.hash:
        xor     rax, [rdi + rcx]
        mov     rdx, rax
        shl     rdx, 5
        add     rax, rdx
        mov     rdx, rax
        shr     rdx, 29
        xor     rax, rdx
        add     rcx, 8
        cmp     rcx, {SIEVE_SIZE}
        jne     .hash
        ret
"""


def _memory() -> int:
    """The hash of a sieve, computed by Python's own means."""
    sieve = bytearray(SIEVE_SIZE)
    for number in range(2, SIEVE_SIZE // 2):
        if not sieve[number]:
            sieve[2 * number :: number] = b"\x01" * len(range(2 * number, SIEVE_SIZE, number))
    result = 0
    for word in memoryview(sieve).cast("Q"):
        result ^= word
        result = result * 33 & MASK
        result ^= result >> 29
    return result


CALLS = f"""
start:
        mov     edi, {FIBONACCI}
        call    fibonacci
        ret

fibonacci:                              ; rdi: which; rax: the number
        cmp     rdi, 2
        jae     .recurse
        mov     rax, rdi
        ret
.recurse:
        push    rbx
        push    rdi
        dec     rdi
        call    fibonacci
        mov     rbx, rax
        pop     rdi
        sub     rdi, 2
        call    fibonacci
        add     rax, rbx
        pop     rbx
        ret
"""


def _fibonacci() -> int:
    a, b = 0, 1
    for _ in range(FIBONACCI):
        a, b = b, a + b
    return a


WALKS = f"""
start:
        xor     eax, eax
        mov     edx, {PAGE_PASSES}
.pass:
        xor     ecx, ecx
.page:
        add     rax, [rdi + rcx]
        add     rcx, {PAGE_SIZE}
        cmp     rcx, {BUFFER_SIZE}
        jne     .page
        dec     rdx
        jne     .pass
        ret
"""


def _walks() -> int:
    return PAGE_PASSES * PAGES * (PAGES - 1) // 2


COMPUTE = (
    Kernel("alu", "a loop of arithmetic and branches", ALU, _alu),
    Kernel("memory", "a sieve over 1 MiB, and a hash of it", MEMORY, _memory),
    Kernel("calls", f"fib({FIBONACCI}) by recursive calls", CALLS, _fibonacci),
)
PAGE_WALKS = Kernel(
    "walks",
    f"a read from each of {PAGES} pages, in turn",
    WALKS,
    _walks,
    tuple((number * PAGE_SIZE, number.to_bytes(8, "little")) for number in range(PAGES)),
)
KERNELS = (*COMPUTE, PAGE_WALKS)


def exit_guest(exits: int) -> str:
    """A whole guest that exits to the VMM so often, and does little else."""
    return f"""
        org     0x10000
        mov     ecx, {exits}
next:
        mov     eax, 1                  ; the hypercall that yields
        vmcall
        dec     rcx
        jne     next
        hlt
"""
