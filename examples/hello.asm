; Prints a greeting on the debug console (port 0xE9), then on COM1, and ends.
; The monitor loads this image at guest-physical 0x10000 with paging on and linear addresses equal to physical ones.

        org 0x10000

COM1        equ 0x3F8
COM1_STATUS equ COM1 + 5
READY       equ 0x20            ; the transmitter takes a character

start:
        lea     rsi, [rel greeting]
.next:
        mov     al, [rsi]
        test    al, al
        jz      serial
        out     0xE9, al
        inc     rsi
        jmp     .next

serial:
        lea     rsi, [rel farewell]
.next:
        mov     dx, COM1_STATUS
        in      al, dx
        test    al, READY
        jz      .next
        mov     al, [rsi]
        test    al, al
        jz      done
        mov     dx, COM1
        out     dx, al
        inc     rsi
        jmp     .next

done:
        hlt                     ; with interrupts off: the monitor ends this guest

greeting: db "Hello from VMX non-root mode.", 10, 0
farewell: db "And hello over COM1.", 10, 0
