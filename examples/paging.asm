; Builds its own page tables, faults on purpose, and repairs each fault in its own handlers: a read of a page that is
; not present, a write to a read-only page, an undefined instruction, and a privileged instruction at CPL 3.

        org     0x10000

PRESENT     equ 1
WRITABLE    equ 2
USER        equ 4
LARGE       equ 0x80
CR0_WP      equ 0x10000

ABSENT      equ 0x200000                ; linear addresses under test, in the second 2 MBytes
READ_ONLY   equ 0x201000

TSS_RSP0    equ 4                       ; the monitor starts guests with a TSS at address 0

start:
        call    build_page_tables
        mov     cr3, rax
        mov     rax, cr0
        or      eax, CR0_WP
        mov     cr0, rax
        call    install_handlers

        lea     rsi, [rel on_own_tables]
        call    print
        mov     rax, [ABSENT]               ; #PF: the handler maps the page
        mov     qword [READ_ONLY], 42       ; #PF: the handler makes it writable
        ud2                                 ; #UD: the handler skips it

        mov     [TSS_RSP0], rsp             ; where the handlers run when they interrupt CPL 3
        push    USER_DATA
        push    rsp
        push    2                           ; RFLAGS
        push    USER_CODE
        lea     rax, [rel user]
        push    rax
        iretq

user:
        mov     rax, cr3                    ; #GP: not at CPL 3
        jmp     user                        ; never reached

; Returns in RAX the address of a PML4 table that maps the first 2 MBytes to themselves, for CPL 3 too, and the page
; READ_ONLY to `frame`.
build_page_tables:
        lea     rax, [rel pml4]
        lea     rbx, [rel pdpt]
        lea     rcx, [rel directory]
        lea     rdx, [rel table]
        lea     rsi, [rel frame]
        lea     rdi, [rbx + PRESENT + WRITABLE + USER]
        mov     [rax], rdi
        lea     rdi, [rcx + PRESENT + WRITABLE + USER]
        mov     [rbx], rdi
        mov     qword [rcx], LARGE + PRESENT + WRITABLE + USER
        lea     rdi, [rdx + PRESENT + WRITABLE + USER]
        mov     [rcx + 8], rdi
        lea     rdi, [rsi + PRESENT]
        mov     [rdx + 8], rdi
        ret

; Loads the GDT and an IDT with gates for #UD, #GP and #PF.
install_handlers:
        lgdt    [rel gdt_pointer]
        lea     rax, [rel on_undefined]
        mov     ecx, 6
        call    .set_gate
        lea     rax, [rel on_protection]
        mov     ecx, 13
        call    .set_gate
        lea     rax, [rel on_page_fault]
        mov     ecx, 14
        call    .set_gate
        lidt    [rel idt_pointer]
        ret
; Writes an interrupt gate for vector RCX with the handler at RAX.
.set_gate:
        lea     rbx, [rel idt]
        shl     ecx, 4
        add     rbx, rcx
        mov     [rbx], ax
        mov     word [rbx + 2], KERNEL_CODE
        mov     word [rbx + 4], 0x8E00
        shr     rax, 16
        mov     [rbx + 6], ax
        shr     rax, 16
        mov     [rbx + 8], eax
        ret

; The error code and the return address lie on the stack.
on_page_fault:
        push    rax
        push    rbx
        lea     rsi, [rel page_fault]
        call    print
        mov     rax, cr2
        call    print_hexadecimal
        lea     rsi, [rel error_code]
        call    print
        mov     rax, [rsp + 16]
        call    print_hexadecimal
        lea     rsi, [rel repaired]
        call    print
        mov     rax, cr2                    ; maps `frame` there, writable
        lea     rbx, [rel table]
        shr     rax, 12
        and     eax, 0x1FF
        lea     rcx, [rel frame]
        or      rcx, PRESENT + WRITABLE
        mov     [rbx + rax*8], rcx
        mov     rax, cr2
        invlpg  [rax]
        pop     rbx
        pop     rax
        add     rsp, 8
        iretq

on_undefined:
        lea     rsi, [rel undefined]
        call    print
        add     qword [rsp], 2              ; past UD2
        iretq

on_protection:
        lea     rsi, [rel protection]
        call    print
        hlt

        include "console.inc"

on_own_tables: db "running on my own page tables", 10, 0
page_fault:    db "#PF at ", 0
error_code:    db ", error code ", 0
repaired:      db ": repaired", 10, 0
undefined:     db "#UD: skipped", 10, 0
protection:    db "#GP at CPL 3: done", 10, 0

        align   8
KERNEL_CODE equ 8
USER_DATA   equ 0x18 + 3
USER_CODE   equ 0x20 + 3
gdt:    dq 0
        dq 0x00AF9B000000FFFF               ; 08 code, CPL 0
        dq 0x00CF93000000FFFF               ; 10 data, CPL 0
        dq 0x00CFF3000000FFFF               ; 18 data, CPL 3
        dq 0x00AFFB000000FFFF               ; 20 code, CPL 3
gdt_end:
gdt_pointer:
        dw gdt_end - gdt - 1
        dq gdt
idt_pointer:
        dw 16 * 16 - 1
        dq idt

        align   4096
idt:        zero 4096
pml4:       zero 4096
pdpt:       zero 4096
directory:  zero 4096
table:      zero 4096
frame:      zero 4096
