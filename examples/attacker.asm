; Looks for the memory of other guests: maps guest-physical memory page by page into its own address space, all of
; it that the processor can address in steps of growing size, and looks for the mark that every guest of this image
; has at the start of a page.  An access that the EPT does not allow arrives here as an exception, and is counted.
; Run it beside other guests; it reports how many pages answered and that the only mark it found is its own.

        org     0x10000

PRESENT     equ 1
WRITABLE    equ 2
WINDOW      equ 0x40000000              ; the linear address where pages are looked at, in the second GByte
DENSE_END   equ 0x200000                ; every page below 2 MBytes
LAST        equ 1 << 40                 ; guest-physical addresses end here

start:
        call    map_window
        call    install_handler
        lea     rsi, [rel begins]
        call    print

        xor     r12d, r12d                  ; the guest-physical address
        xor     r13d, r13d                  ; pages that answered
        xor     r14d, r14d                  ; accesses that were refused
        xor     r15d, r15d                  ; marks of others
.page:
        lea     rax, [r12 + PRESENT + WRITABLE]
        mov     [rel window_table], rax
        mov     rax, WINDOW
        invlpg  [rax]
        mov     rcx, [rax]                  ; #GP or #PF if it is not ours
        inc     r13
        call    search
.next:
        mov     rax, r12
        call    step
        add     r12, rax
        mov     rax, LAST
        cmp     r12, rax
        jb      .page

        call    report
        hlt

; Returns in RAX how far to go from RAX: a page below DENSE_END, above it about a sixteenth of the address.
step:
        cmp     rax, DENSE_END
        jae     .far
        mov     eax, 0x1000
        ret
.far:
        shr     rax, 4
        and     rax, -0x1000
        ret

; Counts the page whose first word is RCX if that is a mark and the page at R12 is not our own.
search:
        cmp     rcx, [rel mark]
        jne     .end
        lea     rbx, [rel mark]
        cmp     rbx, r12
        je      .end
        inc     r15
.end:
        ret

; Lets the PDPT that the monitor gave us point to a window of one page.
map_window:
        lea     rax, [rel window_table]
        or      rax, PRESENT + WRITABLE
        mov     [rel window_directory], rax
        mov     rbx, cr3
        mov     rbx, [rbx]                  ; PML4 entry 0
        and     rbx, -0x1000
        lea     rax, [rel window_directory]
        or      rax, PRESENT + WRITABLE
        mov     [rbx + 8], rax              ; PDPT entry 1
        ret

; Exceptions 13 and 14 count a refusal and go on with the next page.
install_handler:
        lgdt    [rel gdt_pointer]
        lea     rax, [rel refused]
        lea     rbx, [rel idt + 13 * 16]
        call    .set_gate
        lea     rbx, [rel idt + 14 * 16]
        call    .set_gate
        lidt    [rel idt_pointer]
        ret
.set_gate:
        mov     [rbx], ax
        mov     word [rbx + 2], 8
        mov     word [rbx + 4], 0x8E00
        mov     ecx, eax
        shr     ecx, 16
        mov     [rbx + 6], cx
        ret

refused:
        inc     r14
        lea     rax, [rel start.next]
        mov     [rsp + 8], rax              ; above the error code
        add     rsp, 8
        iretq

report:
        mov     rax, r13
        call    print_decimal
        lea     rsi, [rel answered]
        call    print
        mov     rax, r14
        call    print_decimal
        lea     rsi, [rel denied]
        call    print
        mov     rax, r15
        call    print_decimal
        lea     rsi, [rel found]
        jmp     print

        include "console.inc"

begins:   db "looking for other guests' memory", 10, 0
answered: db " pages answered", 10, 0
denied:   db " accesses refused", 10, 0
found:    db " marks of other guests found", 10, 0

        align   8
gdt:    dq 0
        dq 0x00AF9B000000FFFF               ; 08 code, CPL 0
        dq 0x00CF93000000FFFF               ; 10 data, CPL 0
gdt_pointer:
        dw 3 * 8 - 1
        dq gdt
idt_pointer:
        dw 16 * 16 - 1
        dq idt

        align   4096
mark:   dq 0x746F6F726E6F6E21           ; at the start of a page of every guest that runs this image
        align   4096
window_directory: zero 4096
window_table:     zero 4096
idt:              zero 4096
