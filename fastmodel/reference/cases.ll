; Cases: rows of words, whose layout is that of `fastmodel/rows.py`.

define void @run_cases(ptr %state, ptr %pristine, ptr %rows, i64 %count) {
entry:
  br label %test
test:
  %row = phi ptr [ %rows, %entry ], [ %next.row, %case ]
  %left = phi i64 [ %count, %entry ], [ %less, %case ]
  %done = icmp eq i64 %left, 0
  br i1 %done, label %end, label %case
case:
  call void @run_case(ptr %state, ptr %pristine, ptr %row)
  %next.row = getelementptr i8, ptr %row, i64 $ROW_BYTES
  %less = sub i64 %left, 1
  br label %test
end:
  ret void
}

define internal void @run_case(ptr %state, ptr %pristine, ptr %row) {
entry:
  call void @copy(ptr %state, ptr %pristine, i64 $STATE_BYTES)
  call void @forget_everything(ptr %state)
  call void @copy_in(ptr %state, ptr %row)
  %count.at = getelementptr i8, ptr %state, i64 $JOURNAL_COUNT
  %begin = load i64, ptr %count.at
  %steps.at = getelementptr i8, ptr %row, i64 $ROW_STEPS
  %steps = load i64, ptr %steps.at
  %outside.at = getelementptr i8, ptr %state, i64 $OUTSIDE
  br label %test
test:
  %done = phi i64 [ 0, %entry ], [ %more, %completed ]
  %all = icmp uge i64 %done, %steps
  br i1 %all, label %end, label %step
step:
  call void @cycle(ptr %state)
  %aborted = call i1 @is_aborted(ptr %state)
  %outside = load i64, ptr %outside.at
  %left = icmp ne i64 %outside, 0
  %stops = or i1 %aborted, %left
  br i1 %stops, label %end, label %completed
completed:
  %more = add i64 %done, 1
  br label %test
end:
  store i64 %done, ptr %steps.at
  call void @copy_out(ptr %state, ptr %pristine, ptr %row)
  call void @report_changes(ptr %state, ptr %row, i64 %begin)
  call void @put_back(ptr %state)
  ret void
}

; The registers and words of memory that a case begins with.
define internal void @copy_in(ptr %state, ptr %row) {
entry:
  %gpr = getelementptr i8, ptr %state, i64 $GPR
  call void @copy(ptr %gpr, ptr %row, i64 128)
  %row.rip = getelementptr i8, ptr %row, i64 $ROW_RIP
  %rip = load i64, ptr %row.rip
  %rip.at = getelementptr i8, ptr %state, i64 $RIP
  store i64 %rip, ptr %rip.at
  %row.rflags = getelementptr i8, ptr %row, i64 $ROW_RFLAGS
  %rflags = load i64, ptr %row.rflags
  %rflags.at = getelementptr i8, ptr %state, i64 $RFLAGS
  store i64 %rflags, ptr %rflags.at
  %count.at = getelementptr i8, ptr %row, i64 $ROW_COUNT
  %count = load i64, ptr %count.at
  %list = getelementptr i8, ptr %row, i64 $ROW_LIST
  %fits = icmp ule i64 %count, $MOST_WORDS
  br i1 %fits, label %test, label %bad
bad:
  %outside.at = getelementptr i8, ptr %state, i64 $OUTSIDE
  store i64 1, ptr %outside.at
  ret void
test:
  %number = phi i64 [ 0, %entry ], [ %next, %word ]
  %more = icmp ult i64 %number, %count
  br i1 %more, label %word, label %end
word:
  %pair = getelementptr [2 x i64], ptr %list, i64 %number
  %address = load i64, ptr %pair
  %value.at = getelementptr i8, ptr %pair, i64 8
  %value = load i64, ptr %value.at
  call void @write_memory_64(ptr %state, i64 %address, i64 %value)
  %next = add i64 %number, 1
  br label %test
end:
  ret void
}

define internal void @copy_out(ptr %state, ptr %pristine, ptr %row) {
  %gpr = getelementptr i8, ptr %state, i64 $GPR
  call void @copy(ptr %row, ptr %gpr, i64 128)
  %rip.at = getelementptr i8, ptr %state, i64 $RIP
  %rip = load i64, ptr %rip.at
  %row.rip = getelementptr i8, ptr %row, i64 $ROW_RIP
  store i64 %rip, ptr %row.rip
  %rflags.at = getelementptr i8, ptr %state, i64 $RFLAGS
  %rflags = load i64, ptr %rflags.at
  %row.rflags = getelementptr i8, ptr %row, i64 $ROW_RFLAGS
  store i64 %rflags, ptr %row.rflags
  %abort.at = getelementptr i8, ptr %state, i64 $ABORT
  %abort = load i64, ptr %abort.at
  %outside.at = getelementptr i8, ptr %state, i64 $OUTSIDE
  %outside = load i64, ptr %outside.at
  %left = icmp ne i64 %outside, 0
  %reason.1 = select i1 %left, i64 $LEFT_TO_PYTHON, i64 %abort
  %row.reason = getelementptr i8, ptr %row, i64 $ROW_REASON
  store i64 %reason.1, ptr %row.reason
  %other = call i64 @other_changes(ptr %state, ptr %pristine)
  %row.other = getelementptr i8, ptr %row, i64 $ROW_OTHER
  store i64 %other, ptr %row.other
  ret void
}

; 1 if a variable changed that not every instruction changes.
define internal i64 @other_changes(ptr %state, ptr %pristine) {
entry:
  br label %word
word:
  %offset = phi i64 [ $OTHER, %entry ], [ %next, %same ]
  %now.at = getelementptr i8, ptr %state, i64 %offset
  %now = load i64, ptr %now.at
  %before.at = getelementptr i8, ptr %pristine, i64 %offset
  %before = load i64, ptr %before.at
  %is.same = icmp eq i64 %now, %before
  br i1 %is.same, label %same, label %changed
same:
  %next = add i64 %offset, 8
  %more = icmp ult i64 %next, $STATE_BYTES
  br i1 %more, label %word, label %end
changed:
  ret i64 1
end:
  ret i64 0
}

; Lists the words of memory that the run changed, each once; `begin` is where its notes in the journal begin.
define internal void @report_changes(ptr %state, ptr %row, i64 %begin) {
entry:
  %journal.at = getelementptr i8, ptr %state, i64 $JOURNAL
  %journal = load ptr, ptr %journal.at
  %count.at = getelementptr i8, ptr %state, i64 $JOURNAL_COUNT
  %count = load i64, ptr %count.at
  %memory = call ptr @inside(ptr %state, i64 0, i64 0)
  %list = getelementptr i8, ptr %row, i64 $ROW_LIST
  br label %test
test:
  %number = phi i64 [ %begin, %entry ], [ %next, %step ]
  %listed = phi i64 [ 0, %entry ], [ %listed.next, %step ]
  %more = icmp ult i64 %number, %count
  br i1 %more, label %look, label %end
look:
  %entry.at = getelementptr [2 x i64], ptr %journal, i64 %number
  %place = load i64, ptr %entry.at
  %before.at = getelementptr i8, ptr %entry.at, i64 8
  %before = load i64, ptr %before.at
  %there = getelementptr i8, ptr %memory, i64 %place
  %now = load i64, ptr %there
  %is.same = icmp eq i64 %now, %before
  br i1 %is.same, label %step, label %earlier
earlier:
  %index = phi i64 [ %begin, %look ], [ %index.next, %other ]
  %is.first = icmp eq i64 %index, %number
  br i1 %is.first, label %room, label %compare
compare:
  %index.at = getelementptr [2 x i64], ptr %journal, i64 %index
  %index.place = load i64, ptr %index.at
  %is.again = icmp eq i64 %index.place, %place
  br i1 %is.again, label %step, label %other
other:
  %index.next = add i64 %index, 1
  br label %earlier
room:
  %fits = icmp ult i64 %listed, $MOST_WORDS
  br i1 %fits, label %add, label %full
add:
  %pair = getelementptr [2 x i64], ptr %list, i64 %listed
  store i64 %place, ptr %pair
  %value.at = getelementptr i8, ptr %pair, i64 8
  store i64 %now, ptr %value.at
  %listed.more = add i64 %listed, 1
  br label %step
full:
  %row.reason = getelementptr i8, ptr %row, i64 $ROW_REASON
  store i64 $LEFT_TO_PYTHON, ptr %row.reason
  br label %step
step:
  %listed.next = phi i64 [ %listed, %look ], [ %listed, %compare ], [ %listed.more, %add ], [ %listed, %full ]
  %next = add i64 %number, 1
  br label %test
end:
  %row.count = getelementptr i8, ptr %row, i64 $ROW_COUNT
  store i64 %listed, ptr %row.count
  ret void
}
