; Has its DMA engine copy a text within its own memory, and then tries what it must not do: let the engine read and
; write where other guests or the monitor might be, and send interrupts that are not its own.  The remapping hardware
; blocks these; the reasons are those of the VT-d specification.

        org     0x10000

SOURCE      equ 0xD00                   ; ports of the engine
DESTINATION equ 0xD04
COPY        equ 0xD08
MESSAGE     equ 0xD0C
INTERRUPT   equ 0xD14
FAULT       equ 0xD18
OUTSIDE     equ 0x7FFF0000              ; a guest-physical address where this guest has no memory

start:
        lea     rsi, [rel text]
        lea     rdi, [rel copied]
        mov     ecx, 4
        call    copy
        lea     rsi, [rel copied]
        call    print

        mov     dx, INTERRUPT
        in      eax, dx
        test    eax, eax
        jz      .read_outside
        lea     rsi, [rel interrupted]
        call    print

.read_outside:
        mov     esi, OUTSIDE
        lea     rdi, [rel copied]
        mov     ecx, 1
        call    copy
        lea     rsi, [rel reading]
        call    report

        lea     rsi, [rel text]
        mov     edi, OUTSIDE
        mov     ecx, 1
        call    copy
        lea     rsi, [rel writing]
        call    report

        mov     dx, MESSAGE                 ; vector 0x20 in the format that passes where nothing is remapped
        mov     eax, 0xFEE00000
        call    send
        lea     rsi, [rel compatible]
        call    report

        mov     dx, MESSAGE                 ; entry 0x60 of the table, which nobody has
        mov     eax, 0xFEE00C10
        call    send
        lea     rsi, [rel foreign]
        call    report
        hlt

; Copies RCX quadwords from RSI to RDI by DMA.
copy:
        mov     dx, SOURCE
        mov     eax, esi
        out     dx, eax
        mov     dx, DESTINATION
        mov     eax, edi
        out     dx, eax
        mov     dx, COPY
        mov     eax, ecx
        out     dx, eax
        ret

; Sets the engine's message to EAX, and lets it send that after copying nothing.
send:
        out     dx, eax
        mov     dx, COPY
        xor     eax, eax
        out     dx, eax
        ret

; Prints the text at RSI, how many quadwords were moved, and the reason of the last fault.
report:
        call    print
        mov     dx, COPY
        in      eax, dx
        call    print_decimal
        lea     rsi, [rel moved]
        call    print
        mov     dx, FAULT
        in      eax, dx
        call    print_hexadecimal
        mov     al, 10
        out     0xE9, al
        ret

        include "console.inc"

        align   8
text:         db "copied by the DMA engine", 10, 0, 0, 0, 0, 0, 0, 0
copied:       zero 64
interrupted:  db "its interrupt arrived", 10, 0
reading:      db "reading outside: ", 0
writing:      db "writing outside: ", 0
compatible:   db "an unremapped interrupt: ", 0
foreign:      db "a foreign interrupt: ", 0
moved:        db " moved, reason ", 0
