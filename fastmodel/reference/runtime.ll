; What the generated functions rest on: memory, fetching and decoding, and operands.
; A name with a dollar sign stands for the offset in bytes of a word of the state block, or of a record of a decoded instruction.

; Copies bytes, a multiple of 8; a loop of our own, since nothing is linked from outside.
define internal void @copy(ptr %to, ptr %from, i64 %size) {
entry:
  %whole = and i64 %size, -64
  br label %test
test:
  %offset = phi i64 [ 0, %entry ], [ %next, %block ]
  %more = icmp ult i64 %offset, %whole
  br i1 %more, label %block, label %rest
block:
  %from.at = getelementptr i8, ptr %from, i64 %offset
  %to.at = getelementptr i8, ptr %to, i64 %offset
  %value = load <8 x i64>, ptr %from.at, align 8
  store <8 x i64> %value, ptr %to.at, align 8
  %next = add i64 %offset, 64
  br label %test
rest:
  %place = phi i64 [ %whole, %test ], [ %following, %word ]
  %left = icmp ult i64 %place, %size
  br i1 %left, label %word, label %end
word:
  %from.word = getelementptr i8, ptr %from, i64 %place
  %to.word = getelementptr i8, ptr %to, i64 %place
  %one = load i64, ptr %from.word
  store i64 %one, ptr %to.word
  %following = add i64 %place, 8
  br label %rest
end:
  ret void
}

; --- memory: reads beyond its end give ones, writes there have no effect ---

; A pointer to `length` bytes that lie in memory as a whole, else null.
define internal ptr @inside(ptr %state, i64 %address, i64 %length) {
  %size.at = getelementptr i8, ptr %state, i64 $MEMORY_SIZE
  %size = load i64, ptr %size.at
  %last = sub i64 %size, %length
  %fits = icmp ule i64 %address, %last
  %memory.at = getelementptr i8, ptr %state, i64 $MEMORY
  %memory = load ptr, ptr %memory.at
  %there = getelementptr i8, ptr %memory, i64 %address
  %found = select i1 %fits, ptr %there, ptr null
  ret ptr %found
}

define internal i8 @read_byte(ptr %state, i64 %address, i64 %offset) {
  %first = call ptr @inside(ptr %state, i64 %address, i64 1)
  %place = add i64 %address, %offset
  %there = call ptr @inside(ptr %state, i64 %place, i64 1)
  %outside.1 = icmp eq ptr %first, null
  %outside.2 = icmp eq ptr %there, null
  %outside = or i1 %outside.1, %outside.2
  br i1 %outside, label %ones, label %read
ones:
  ret i8 -1
read:
  %value = load i8, ptr %there
  ret i8 %value
}

define internal void @write_byte(ptr %state, i64 %address, i64 %offset, i8 %value) {
  %first = call ptr @inside(ptr %state, i64 %address, i64 1)
  %place = add i64 %address, %offset
  %there = call ptr @inside(ptr %state, i64 %place, i64 1)
  %outside.1 = icmp eq ptr %first, null
  %outside.2 = icmp eq ptr %there, null
  %outside = or i1 %outside.1, %outside.2
  br i1 %outside, label %end, label %write
write:
  call void @note(ptr %state, i64 %place, i64 1)
  store i8 %value, ptr %there
  br label %end
end:
  ret void
}

; Keeps in the journal what the words of memory hold that these bytes lie in.
define internal void @note(ptr %state, i64 %address, i64 %length) {
entry:
  %first = and i64 %address, -8
  %behind = add i64 %address, %length
  %count.at = getelementptr i8, ptr %state, i64 $JOURNAL_COUNT
  %limit.at = getelementptr i8, ptr %state, i64 $JOURNAL_LIMIT
  %journal.at = getelementptr i8, ptr %state, i64 $JOURNAL
  %journal = load ptr, ptr %journal.at
  %limit = load i64, ptr %limit.at
  %memory = call ptr @inside(ptr %state, i64 0, i64 0)
  br label %word
word:
  %place = phi i64 [ %first, %entry ], [ %next, %keep ]
  %count = load i64, ptr %count.at
  %room = icmp ult i64 %count, %limit
  br i1 %room, label %keep, label %full
keep:
  %entry.at = getelementptr [2 x i64], ptr %journal, i64 %count
  store i64 %place, ptr %entry.at
  %there = getelementptr i8, ptr %memory, i64 %place
  %before = load i64, ptr %there
  %before.at = getelementptr i8, ptr %entry.at, i64 8
  store i64 %before, ptr %before.at
  %more = add i64 %count, 1
  store i64 %more, ptr %count.at
  %next = add i64 %place, 8
  %again = icmp ult i64 %next, %behind
  br i1 %again, label %word, label %end
full:
  %outside.at = getelementptr i8, ptr %state, i64 $OUTSIDE
  store i64 1, ptr %outside.at
  br label %end
end:
  ret void
}

; Gives every word that was written what it held before, the last first.
define internal void @put_back(ptr %state) {
entry:
  %count.at = getelementptr i8, ptr %state, i64 $JOURNAL_COUNT
  %journal.at = getelementptr i8, ptr %state, i64 $JOURNAL
  %journal = load ptr, ptr %journal.at
  %memory = call ptr @inside(ptr %state, i64 0, i64 0)
  %count = load i64, ptr %count.at
  br label %test
test:
  %left = phi i64 [ %count, %entry ], [ %number, %word ]
  %done = icmp eq i64 %left, 0
  br i1 %done, label %end, label %word
word:
  %number = sub i64 %left, 1
  %entry.at = getelementptr [2 x i64], ptr %journal, i64 %number
  %place = load i64, ptr %entry.at
  %before.at = getelementptr i8, ptr %entry.at, i64 8
  %before = load i64, ptr %before.at
  %there = getelementptr i8, ptr %memory, i64 %place
  store i64 %before, ptr %there
  br label %test
end:
  store i64 0, ptr %count.at
  ret void
}

; --- fetching and decoding ---

; Executes one instruction; RIP moves on if it completes. Code outside 64-bit mode is left to Python.
define internal void @execute(ptr %state) {
entry:
  %key = alloca [16 x i8], align 16
  %code.size = call i64 @code_size(ptr %state)
  %is.64.bit = icmp eq i64 %code.size, 64
  br i1 %is.64.bit, label %begin, label %left
left:
  %left.at = getelementptr i8, ptr %state, i64 $OUTSIDE
  store i64 1, ptr %left.at
  ret void
begin:
  %rip.at = getelementptr i8, ptr %state, i64 $RIP
  %next.at = getelementptr i8, ptr %state, i64 $NEXT_RIP
  %rip = load i64, ptr %rip.at
  store i64 %rip, ptr %next.at
  %physical = call i64 @fetch_translate(ptr %state, i64 %rip)
  %fault = call i1 @is_aborted(ptr %state)
  br i1 %fault, label %end, label %fetch
fetch:
  %in.page = and i64 %rip, 4095
  %room = sub i64 4096, %in.page
  %short = icmp ult i64 %room, 15
  %count = select i1 %short, i64 %room, i64 15
  call void @gather(ptr %state, ptr %key, i64 0, i64 %count, i64 %physical)
  %first = call ptr @decoded(ptr %state, ptr %key)
  %body.at = getelementptr i8, ptr %first, i64 $BODY
  %body = load i64, ptr %body.at
  %truncated = icmp eq i64 %body, $TRUNCATED
  br i1 %truncated, label %second, label %run
second:
  %last = or i64 %rip, 4095
  %following = add i64 %last, 1
  %physical.2 = call i64 @fetch_translate(ptr %state, i64 %following)
  %fault.2 = call i1 @is_aborted(ptr %state)
  br i1 %fault.2, label %end, label %whole
whole:
  call void @gather(ptr %state, ptr %key, i64 %count, i64 15, i64 %physical.2)
  %other = call ptr @decoded(ptr %state, ptr %key)
  br label %run
run:
  %record = phi ptr [ %first, %fetch ], [ %other, %whole ]
  call void @run_decoded(ptr %state, ptr %record)
  br label %end
end:
  ret void
}

define internal i1 @is_aborted(ptr %state) {
  %abort.at = getelementptr i8, ptr %state, i64 $ABORT
  %abort = load i64, ptr %abort.at
  %is = icmp ne i64 %abort, 0
  ret i1 %is
}

; Bytes `from` to `count` of the key, from physical memory on; the last byte of the key is their number.
define internal void @gather(ptr %state, ptr %key, i64 %from, i64 %count, i64 %physical) {
entry:
  %is.first = icmp eq i64 %from, 0
  br i1 %is.first, label %clear, label %test
clear:
  store i128 0, ptr %key, align 8
  br label %test
test:
  %number = phi i64 [ %from, %entry ], [ %from, %clear ], [ %next, %byte ]
  %more = icmp ult i64 %number, %count
  br i1 %more, label %byte, label %end
byte:
  %offset = sub i64 %number, %from
  %value = call i8 @read_byte(ptr %state, i64 %physical, i64 %offset)
  %there = getelementptr i8, ptr %key, i64 %number
  store i8 %value, ptr %there
  %next = add i64 %number, 1
  br label %test
end:
  %length = trunc i64 %count to i8
  %length.at = getelementptr i8, ptr %key, i64 15
  store i8 %length, ptr %length.at
  ret void
}

; The record of the instruction that these bytes begin with.
define internal ptr @decoded(ptr %state, ptr %key) {
  %low = load i64, ptr %key
  %high.at = getelementptr i8, ptr %key, i64 8
  %high = load i64, ptr %high.at
  %turned = call i64 @llvm.fshl.i64(i64 %high, i64 %high, i64 29)
  %mixed = xor i64 %low, %turned
  %product = mul i64 %mixed, -7046029254386353131
  %number = lshr i64 %product, $DECODED_SHIFT
  %table.at = getelementptr i8, ptr %state, i64 $DECODED
  %table = load ptr, ptr %table.at
  %slot = getelementptr ptr, ptr %table, i64 %number
  %record = load ptr, ptr %slot
  %empty = icmp eq ptr %record, null
  br i1 %empty, label %unknown, label %compare
compare:
  %record.low = load i64, ptr %record
  %record.high.at = getelementptr i8, ptr %record, i64 8
  %record.high = load i64, ptr %record.high.at
  %same.low = icmp eq i64 %low, %record.low
  %same.high = icmp eq i64 %high, %record.high
  %same = and i1 %same.low, %same.high
  br i1 %same, label %known, label %unknown
known:
  ret ptr %record
unknown:
  %decode.at = getelementptr i8, ptr %state, i64 $DECODE
  %decode = load ptr, ptr %decode.at
  %new = call ptr %decode(ptr %key)
  store ptr %new, ptr %slot
  ret ptr %new
}

declare i64 @llvm.fshl.i64(i64, i64, i64)

define internal void @run_decoded(ptr %state, ptr %record) {
  %body.at = getelementptr i8, ptr %record, i64 $BODY
  %body = load i64, ptr %body.at
  %unknown = icmp slt i64 %body, 0
  br i1 %unknown, label %outside, label %begin
outside:
  %outside.at = getelementptr i8, ptr %state, i64 $OUTSIDE
  store i64 1, ptr %outside.at
  ret void
begin:
  %length.at = getelementptr i8, ptr %record, i64 $LENGTH
  %length = load i64, ptr %length.at
  %instruction.length.at = getelementptr i8, ptr %state, i64 $INSTRUCTION_LENGTH
  store i64 %length, ptr %instruction.length.at
  %size.at = getelementptr i8, ptr %record, i64 $RECORD_ADDRESS_SIZE
  %size = load i64, ptr %size.at
  %address.size.at = getelementptr i8, ptr %state, i64 $ADDRESS_SIZE
  store i64 %size, ptr %address.size.at
  %operand.size.from = getelementptr i8, ptr %record, i64 $RECORD_OPERAND_SIZE
  %operand.size = load i64, ptr %operand.size.from
  %operand.size.at = getelementptr i8, ptr %state, i64 $OPERAND_SIZE
  store i64 %operand.size, ptr %operand.size.at
  %prefix.at = getelementptr i8, ptr %record, i64 $RECORD_REPEAT
  %prefix = load i64, ptr %prefix.at
  %repeat.at = getelementptr i8, ptr %state, i64 $REPEAT
  store i64 %prefix, ptr %repeat.at
  %rip.at = getelementptr i8, ptr %state, i64 $RIP
  %next.at = getelementptr i8, ptr %state, i64 $NEXT_RIP
  %rip = load i64, ptr %rip.at
  %next = add i64 %rip, %length
  store i64 %next, ptr %next.at
  %function.at = getelementptr ptr, ptr @bodies, i64 %body
  %function = load ptr, ptr %function.at
  call void %function(ptr %state, ptr %record)
  %fault = call i1 @is_aborted(ptr %state)
  br i1 %fault, label %end, label %complete
complete:
  %then = load i64, ptr %next.at
  store i64 %then, ptr %rip.at
  br label %end
end:
  ret void
}

; --- operands ---

define internal i64 @operand_index(ptr %state, ptr %operand) {
  %index.at = getelementptr i8, ptr %operand, i64 $OPERAND_INDEX
  %index = load i64, ptr %index.at
  ret i64 %index
}

define internal i64 @operand_segment(ptr %state, ptr %operand) {
  %segment.at = getelementptr i8, ptr %operand, i64 $OPERAND_SEGMENT
  %segment = load i64, ptr %segment.at
  ret i64 %segment
}

; Base, index and scale of a memory operand, as the language has them.
define internal i64 @operand_addressing(ptr %state, ptr %operand) {
  %addressing.at = getelementptr i8, ptr %operand, i64 $OPERAND_ADDRESSING
  %addressing = load i64, ptr %addressing.at
  ret i64 %addressing
}

define internal i64 @operand_is_memory(ptr %state, ptr %operand) {
  %kind = load i64, ptr %operand
  %is = icmp eq i64 %kind, $MEMORY_OPERAND
  %value = zext i1 %is to i64
  ret i64 %value
}

; The offset in its segment of a memory operand; 0 for others.  Base and index are offsets of words of the state block.
define internal i64 @operand_address(ptr %state, ptr %operand) {
  %base.at = getelementptr i8, ptr %operand, i64 $OPERAND_BASE
  %base.offset = load i64, ptr %base.at
  %base.word = getelementptr i8, ptr %state, i64 %base.offset
  %base = load i64, ptr %base.word
  %index.at = getelementptr i8, ptr %operand, i64 $OPERAND_INDEX_REGISTER
  %index.offset = load i64, ptr %index.at
  %index.word = getelementptr i8, ptr %state, i64 %index.offset
  %index = load i64, ptr %index.word
  %scale.at = getelementptr i8, ptr %operand, i64 $OPERAND_SCALE
  %scale = load i64, ptr %scale.at
  %scaled = mul i64 %index, %scale
  %displacement.at = getelementptr i8, ptr %operand, i64 $OPERAND_VALUE
  %displacement = load i64, ptr %displacement.at
  %sum.1 = add i64 %base, %scaled
  %sum.2 = add i64 %sum.1, %displacement
  %mask.at = getelementptr i8, ptr %operand, i64 $OPERAND_MASK
  %mask = load i64, ptr %mask.at
  %address = and i64 %sum.2, %mask
  ret i64 %address
}

; The displacement alone; relative to RIP, the address.
define internal i64 @operand_displacement(ptr %state, ptr %operand) {
  %is.memory = call i64 @operand_is_memory(ptr %state, ptr %operand)
  %displacement.at = getelementptr i8, ptr %operand, i64 $OPERAND_VALUE
  %displacement = load i64, ptr %displacement.at
  %base.at = getelementptr i8, ptr %operand, i64 $OPERAND_BASE
  %base = load i64, ptr %base.at
  %relative = icmp eq i64 %base, $NEXT_RIP
  %address = call i64 @operand_address(ptr %state, ptr %operand)
  %chosen = select i1 %relative, i64 %address, i64 %displacement
  %value = mul i64 %chosen, %is.memory
  ret i64 %value
}
