"""The layout of the state block: one piece of memory that holds all that running code looks at.

Numbers are byte offsets from its start, S in the texts; everything is 64 bits wide unless said otherwise.
"""

from __future__ import annotations

# --- the guest's registers ---

GPR = 0  # 16 of them; a byte register is the byte offset of its byte, AH is GPR + 1
RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI = range(GPR, GPR + 64, 8)
AH = RAX + 1
ZERO = 128  # always 0: the base or index register of an address that has none
RIP = 136
RESULT = 144  # the status flags, while code runs: see handlers/flags.py
CARRIES = 152
RFLAGS = 160  # its status flags count only before and after a run, the others always

# The words that threaded code keeps in registers of the processor.
PINNED = (RESULT, CARRIES)

# --- how the guest's memory is translated ---

CR3 = 168
EPT_POINTER = 176  # 0 if guest-physical addresses are not translated
MODE = 184  # bits below
MEMORY = 192  # where host-physical address 0 lies in this process
MEMORY_SIZE = 200  # bytes

USER = 1  # CPL 3
WRITE_PROTECT = 2  # CR0.WP
NO_EXECUTE = 4  # EFER.NXE
SMEP = 8  # CR4.SMEP
SMAP = 16  # CR4.SMAP: supervisor accesses to user pages are left to the reference

# --- how a run ends, or pauses ---

REMAINING = 208  # instructions that may still be executed
PLACE = 216  # the decoded instruction at which the routines stopped
STOP = 224  # why they stopped there: a STOPPED_… number
REASON = 232  # why the run ends: a Reason, 0 while it goes on
RESUME_FLAG = 592  # RFLAGS.RF as it is if no instruction completes any more,
RESUME_AT = 600  # while so many may be executed

# --- decoded instructions ---

DECODE_TABLE = 240  # address of the table of table.py
TRACES = 248  # address of the hash table from RIP to decoded instruction
DECODED = 256  # start, next free place and end of the memory for decoded instructions
DECODED_NEXT = 264
DECODED_END = 272
DECODED_LAST = 504  # end of the trace decoded last, which is free too unless it is kept
GENERATION = 280  # bits 63..48 change when all decoded instructions are dropped
CODE_PAGES = 288  # address of one byte for each page of memory: 1 if instructions were decoded from it
CODE_WRITES = 296  # 1 while a store to such a page is let through
CODE_LIST = 304  # address of the list of the pages that this block's instructions were decoded from
CODE_COUNT = 312  # its length
WIDE_READS = 568  # addresses of the wide tables of translations
WIDE_WRITES = 576
WIDE_GENERATION = 584  # bits 63..52 change when they are emptied; never 0, as in an entry that is empty
FIRST_GENERATION = 1 << 52
SAMPLE = 560  # RIP where the last trace was decoded that was cut short
CODE_KEPT = 552  # how many of them have a copy of what they held, for the next run
REFUSE_CODE = 320  # the routines that every trace needs: codes of `refuse` and `end_of_trace`
END_CODE = 328

# --- the journal of writes: see journal.py ---

JOURNAL = 512  # its address, 0 if there is none
JOURNAL_COUNT = 520
JOURNAL_LIMIT = 528  # how many entries there may be
JOURNAL_LENGTH = 1024  # at most; an entry is the host-physical address of a word, and what it held

# --- many cases in one call: see cases.py ---

REFUSED_FLAGS = 536  # bits of RFLAGS with which a case is left to the reference
CASE_STEPS = 544  # instructions of a case at most

# --- running guests: see reference/guests.ll ---

UNTIL_SAMPLE = 640  # instructions until the translator takes its next sample
SEEN = 648  # how often the compiled reference had forgotten translations when this block last ran
STALE = 656  # 1 if it has forgotten some since

# --- flags set in the guest's page tables: see paging.py ---

ALONE = 664  # 1 while an instruction runs alone, and may set them
USES = 672  # how often they were set
USE_NOTES = 680  # the last of these notes: the address of an entry in this process, and what it was
MOST_USE_NOTES = 16  # a power of two; an instruction has its code and two operands, and a walk four levels

# --- scratch ---

WALK_ENTRIES = (
    336  # addresses in this process of the guest's page-table entries of the last walk, levels 1 to 4
)
WALK_PLACES = 368  # their guest-physical addresses
INSTRUCTION = 400  # what the decoder knows of the instruction it is at: see decoder.py

# --- translations: direct-mapped, tag (linear page) and the difference between host and linear address ---

TLB_ENTRIES = 256
TLB_ENTRY = 16
READ_TLB = 1024
WRITE_TLB = READ_TLB + TLB_ENTRIES * TLB_ENTRY
SIZE = WRITE_TLB + TLB_ENTRIES * TLB_ENTRY

# --- sizes of the tables the block points to ---

WIDE_ENTRIES = 1 << 14  # of TLB_ENTRY bytes; bits 63..52 of a tag are the generation
WIDE_BYTES = 2 * WIDE_ENTRIES * TLB_ENTRY  # both wide tables
TRACE_SLOTS = 4096
TRACE_SLOT = 16  # tag: RIP ^ GENERATION; place, 0 if there is none (any tag can be that of some RIP)
CODE_LIST_LENGTH = 256
CODE_LIST_ENTRY = 16 + 0x1000  # linear page, host-physical page, and its content
DECODED_BYTES = 1 << 20

# --- numbers in STOP ---

STOPPED_REFUSED = 1  # the instruction at PLACE was not executed; REASON says why
STOPPED_TAKEN = 2  # a direct branch was taken whose target is not linked
STOPPED_INDIRECT = 3  # an indirect branch was taken; RIP is set

# --- numbers in REASON ---

BUDGET = 1  # as many instructions as asked for were executed
NO_HANDLER = 2  # the next instruction has none, or has a prefix that is left to the reference
MEMORY_ACCESS = 3  # it would fault, exit, or touch memory in an unusual way
PAGE_CROSSING = 4  # it, or its operand, lies in two pages
BAD_TARGET = 5  # it branches to an address that is not canonical
SYSTEM_FLAGS = 6  # POPF changes more than status flags
CODE_WRITE = 7  # never seen outside: it writes to a page with decoded instructions
FLAG_WRITE = 10  # never seen outside: it is to set accessed or dirty flags
UNSUPPORTED_STATE = 8  # the machine is in a mode that is left to the reference
BAD_CASE = 9  # of `run_cases`: its list of words is too long, or names one outside of memory
