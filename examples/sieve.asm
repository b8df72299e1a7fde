; Counts the primes below 10,000 with the sieve of Eratosthenes and prints how many there are (1229).

        org     0x10000

LIMIT   equ 10000

start:
        lea     rdi, [rel composite]        ; one byte a number: 1 if it is composite
        mov     ecx, 2                      ; the candidate
        xor     r8d, r8d                    ; primes found
.candidate:
        cmp     byte [rdi + rcx], 0
        jne     .skip
        inc     r8
        mov     rax, rcx
        imul    rax, rcx                    ; smaller multiples are crossed out already
.cross:
        cmp     rax, LIMIT
        jae     .skip
        mov     byte [rdi + rax], 1
        add     rax, rcx
        jmp     .cross
.skip:
        inc     rcx
        cmp     rcx, LIMIT
        jb      .candidate

        mov     rax, r8
        call    print_decimal
        lea     rsi, [rel text]
        call    print
        hlt                                 ; with interrupts off: the monitor ends this guest

        include "console.inc"

text:   db " primes below 10000", 10, 0
        align   16
composite:
        zero    LIMIT
