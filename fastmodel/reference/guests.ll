
; Guests under the VMM: plain instructions run in the fast model, everything else here, step by step.

; Why no more steps are made: 0 if there are as many as asked for.
;   1  the next one is left to the Python model
;   2  the control registers are in a state that nothing is known about
;   3  the fast model's translator wants to take a sample
;   4  Python should have a look: at Ctrl-C, and at what guests have printed

; --- what can be taken back ---

; Keeps in the journal what words outside of the guest's memory hold, by their distance from it.
define internal void @note_own(ptr %state, ptr %place, i64 %length) {
  %memory = call ptr @inside(ptr %state, i64 0, i64 0)
  %place.number = ptrtoint ptr %place to i64
  %memory.number = ptrtoint ptr %memory to i64
  %distance = sub i64 %place.number, %memory.number
  call void @note(ptr %state, i64 %distance, i64 %length)
  ret void
}

; --- outputs ---

; Keeps an output for the world outside.
define internal void @tell(ptr %state, i64 %number, i64 %a, i64 %b, i64 %c) {
  %count.at = getelementptr i8, ptr %state, i64 $OUTPUT_COUNT
  %count = load i64, ptr %count.at
  %full = icmp uge i64 %count, $MOST_OUTPUTS
  br i1 %full, label %left, label %keep
left:
  %outside.at = getelementptr i8, ptr %state, i64 $OUTSIDE
  store i64 1, ptr %outside.at
  ret void
keep:
  %outputs.at = getelementptr i8, ptr %state, i64 $OUTPUTS
  %outputs = load ptr, ptr %outputs.at
  %output = getelementptr [$OUTPUT_WORDS x i64], ptr %outputs, i64 %count
  store i64 %number, ptr %output
  %a.at = getelementptr i8, ptr %output, i64 8
  store i64 %a, ptr %a.at
  %b.at = getelementptr i8, ptr %output, i64 16
  store i64 %b, ptr %b.at
  %c.at = getelementptr i8, ptr %output, i64 24
  store i64 %c, ptr %c.at
  %more = add i64 %count, 1
  store i64 %more, ptr %count.at
  ret void
}

; Makes another VMCS the current one. What is stored of the one that is current counts for nothing.
define internal void @vmptrld(ptr %state, i64 %number) {
entry:
  %number.at = getelementptr i8, ptr %state, i64 $VMCS_NUMBER
  %before = load i64, ptr %number.at
  %same = icmp eq i64 %before, %number
  br i1 %same, label %end, label %look
look:
  %beyond = icmp uge i64 %number, $MOST_VMCS
  br i1 %beyond, label %left, label %find
find:
  %store.at = getelementptr i8, ptr %state, i64 $VMCS_STORE
  %store = load ptr, ptr %store.at
  %new = getelementptr [$VMCS_SLOT x i8], ptr %store, i64 %number
  %there = load i64, ptr %new
  %absent = icmp eq i64 %there, 0
  br i1 %absent, label %left, label %switch
left:
  %outside.at = getelementptr i8, ptr %state, i64 $OUTSIDE
  store i64 1, ptr %outside.at
  br label %end
switch:
  %old = getelementptr [$VMCS_SLOT x i8], ptr %store, i64 %before
  %old.fields = getelementptr i8, ptr %old, i64 8
  %new.fields = getelementptr i8, ptr %new, i64 8
  %current = getelementptr i8, ptr %state, i64 $VMCS
  call void @copy(ptr %old.fields, ptr %current, i64 $VMCS_BYTES)
  call void @copy(ptr %current, ptr %new.fields, i64 $VMCS_BYTES)
  store i64 %number, ptr %number.at
  br label %end
end:
  ret void
}

; --- one step here ---

; Before a step: keeps all that `take_back` needs.
define internal void @begin_step(ptr %state, ptr %kept) {
  %count.at = getelementptr i8, ptr %state, i64 $JOURNAL_COUNT
  store i64 0, ptr %count.at
  call void @copy(ptr %kept, ptr %state, i64 $LISTS)
  ret void
}

; Makes the step that never was.
define internal void @take_back(ptr %state, ptr %kept) {
  call void @put_back(ptr %state)
  call void @copy(ptr %state, ptr %kept, i64 $LISTS)
  call void @forget_everything(ptr %state)
  ret void
}

; Whether a step was made here from end to end: nothing in it is left to the Python model.
define internal i1 @is_made_here(ptr %state) {
  %aborted = call i1 @is_aborted(ptr %state)
  %outside.at = getelementptr i8, ptr %state, i64 $OUTSIDE
  %outside = load i64, ptr %outside.at
  %here = icmp eq i64 %outside, 0
  %not.aborted = xor i1 %aborted, true
  %good = and i1 %here, %not.aborted
  ret i1 %good
}

; An instruction, with the VM exit that it may cause and what the VMM does then, or a VM entry. False, and nothing
; happened, if Python has to do it: also if no guest is left, or none can be entered.
define internal i1 @step(ptr %state, ptr %kept) {
entry:
  call void @begin_step(ptr %state, ptr %kept)
  %mode.at = getelementptr i8, ptr %state, i64 $IN_NON_ROOT
  %before = load i8, ptr %mode.at
  %alive = call i1 @run_one(ptr %state)
  %after = load i8, ptr %mode.at
  %either = or i8 %before, %after
  %in.guest = icmp ne i8 %either, 0
  %here = call i1 @is_made_here(ptr %state)
  %good.1 = and i1 %alive, %in.guest
  %good = and i1 %good.1, %here
  br i1 %good, label %end, label %back
back:
  call void @take_back(ptr %state, ptr %kept)
  br label %end
end:
  ret i1 %good
}

; One step for comparisons, of a guest or of the bare machine: 0, and nothing happened, if Python has to do it; 1, or 2
; if no guest is left.
define i64 @single_step(ptr %state, ptr %kept, i64 %of.guest) {
entry:
  call void @begin_step(ptr %state, ptr %kept)
  %is.guest = icmp ne i64 %of.guest, 0
  br i1 %is.guest, label %guest, label %bare
guest:
  %left = call i1 @run_one(ptr %state)
  br label %made
bare:
  call void @cycle(ptr %state)
  br label %made
made:
  %alive = phi i1 [ %left, %guest ], [ true, %bare ]
  %good = call i1 @is_made_here(ptr %state)
  %how = select i1 %alive, i64 1, i64 2
  br i1 %good, label %end, label %back
back:
  call void @take_back(ptr %state, ptr %kept)
  br label %end
end:
  %result = phi i64 [ %how, %made ], [ 0, %back ]
  ret i64 %result
}

; --- a run in the fast model ---

; What is known about the present state of the control registers, or null: for each state so far the address of the
; fast model's block, 0 if it does not run in this state; the bits of RFLAGS with which it does not; whether the
; preemption timer counts; and the registers.
define internal ptr @find_control(ptr %state) {
entry:
  %count.at = getelementptr i8, ptr %state, i64 $CONTROL_COUNT
  %count = load i64, ptr %count.at
  %table.at = getelementptr i8, ptr %state, i64 $CONTROLS
  %table = load ptr, ptr %table.at
  br label %test
test:
  %number = phi i64 [ 0, %entry ], [ %next, %other ]
  %more = icmp ult i64 %number, %count
  br i1 %more, label %look, label %none
look:
  %control = getelementptr [$CONTROL_BYTES x i8], ptr %table, i64 %number
  br label %compare
compare:
  %register = phi i64 [ 0, %look ], [ %register.next, %same ]
  %offset.at = getelementptr i64, ptr @deciding, i64 %register
  %offset = load i64, ptr %offset.at
  %now.at = getelementptr i8, ptr %state, i64 %offset
  %now = load i64, ptr %now.at
  %position = add i64 %register, $CONTROL_WORDS
  %known.at = getelementptr i64, ptr %control, i64 %position
  %known = load i64, ptr %known.at
  %is.same = icmp eq i64 %now, %known
  br i1 %is.same, label %same, label %other
same:
  %register.next = add i64 %register, 1
  %again = icmp ult i64 %register.next, $DECIDING
  br i1 %again, label %compare, label %found
other:
  %next = add i64 %number, 1
  br label %test
found:
  ret ptr %control
none:
  ret ptr null
}

; How many instructions the fast model may execute, of at most so many.
define internal i64 @budget(ptr %state, ptr %control, i64 %most) {
  %block.number = load i64, ptr %control
  %runs = icmp ne i64 %block.number, 0
  %refused.at = getelementptr i8, ptr %control, i64 8
  %refused = load i64, ptr %refused.at
  %rflags.at = getelementptr i8, ptr %state, i64 $RFLAGS
  %rflags = load i64, ptr %rflags.at
  %set = and i64 %refused, %rflags
  %plain = icmp eq i64 %set, 0
  %can = and i1 %runs, %plain
  br i1 %can, label %limit, label %none
limit:
  %counts.at = getelementptr i8, ptr %control, i64 16
  %counts = load i64, ptr %counts.at
  %is.counting = icmp ne i64 %counts, 0
  %timer.at = getelementptr i8, ptr %state, i64 $PREEMPTION_TIMER_VALUE
  %timer.32 = load i32, ptr %timer.at
  %timer = zext i32 %timer.32 to i64
  %is.shorter = icmp ult i64 %timer, %most
  %shorten = and i1 %is.counting, %is.shorter
  %most.1 = select i1 %shorten, i64 %timer, i64 %most
  %block = inttoptr i64 %block.number to ptr
  %sample.at = getelementptr i8, ptr %block, i64 $UNTIL_SAMPLE
  %sample = load i64, ptr %sample.at
  %is.sooner = icmp ult i64 %sample, %most.1
  %most.2 = select i1 %is.sooner, i64 %sample, i64 %most.1
  ret i64 %most.2
none:
  ret i64 0
}

; Runs the fast model; how many instructions it executed.
define internal i64 @run_fast(ptr %state, ptr %control, i64 %budget) {
entry:
  %block.number = load i64, ptr %control
  %block = inttoptr i64 %block.number to ptr
  %times = call i64 @times_forgotten(ptr %state)
  %seen.at = getelementptr i8, ptr %block, i64 $SEEN
  %seen = load i64, ptr %seen.at
  %is.same = icmp eq i64 %times, %seen
  br i1 %is.same, label %run, label %stale
stale:
  store i64 %times, ptr %seen.at
  %stale.at = getelementptr i8, ptr %block, i64 $STALE
  store i64 1, ptr %stale.at
  br label %run
run:
  %registers = getelementptr i8, ptr %state, i64 $GPR
  %registers.number = ptrtoint ptr %registers to i64
  %run.at = getelementptr i8, ptr %state, i64 $RUN
  %function = load ptr, ptr %run.at
  %left = call i64 %function(i64 %block.number, i64 %registers.number, i64 %budget)
  %done = sub i64 %budget, %left
  %sample.at = getelementptr i8, ptr %block, i64 $UNTIL_SAMPLE
  %sample = load i64, ptr %sample.at
  %sample.left = sub i64 %sample, %done
  store i64 %sample.left, ptr %sample.at
  %rip.at = getelementptr i8, ptr %state, i64 $RIP
  %rip = load i64, ptr %rip.at
  %next.at = getelementptr i8, ptr %state, i64 $NEXT_RIP
  store i64 %rip, ptr %next.at
  %time.at = getelementptr i8, ptr %state, i64 $TSC
  %time = load i64, ptr %time.at
  %time.now = add i64 %time, %done
  store i64 %time.now, ptr %time.at
  %counts.at = getelementptr i8, ptr %control, i64 16
  %counts = load i64, ptr %counts.at
  %counted = mul i64 %counts, %done
  %timer.at = getelementptr i8, ptr %state, i64 $PREEMPTION_TIMER_VALUE
  %timer = load i64, ptr %timer.at
  %timer.now = sub i64 %timer, %counted
  store i64 %timer.now, ptr %timer.at
  ret i64 %done
}

; --- both in turn ---

; Makes up to `limit` steps; returns how many were made.  `kept` has room for what a step can change.
define i64 @run_guests(ptr %state, ptr %kept, i64 %limit) {
entry:
  %stop.at = getelementptr i8, ptr %state, i64 $STOP
  %patience.at = getelementptr i8, ptr %state, i64 $PATIENCE
  %mode.at = getelementptr i8, ptr %state, i64 $IN_NON_ROOT
  br label %test
test:
  %done = phi i64 [ 0, %entry ], [ %done.fast, %ran ], [ %done.step, %stepped ]
  %enough = icmp uge i64 %done, %limit
  br i1 %enough, label %end, label %where
where:
  %mode = load i8, ptr %mode.at
  %in.guest = icmp ne i8 %mode, 0
  br i1 %in.guest, label %guest, label %step
guest:
  %control = call ptr @find_control(ptr %state)
  %unknown = icmp eq ptr %control, null
  br i1 %unknown, label %end, label %known
known:
  %rest = sub i64 %limit, %done
  %budget = call i64 @budget(ptr %state, ptr %control, i64 %rest)
  %none = icmp eq i64 %budget, 0
  br i1 %none, label %step, label %fast
fast:
  %ran.count = call i64 @run_fast(ptr %state, ptr %control, i64 %budget)
  %done.fast = add i64 %done, %ran.count
  %block.number = load i64, ptr %control
  %block = inttoptr i64 %block.number to ptr
  %sample.at = getelementptr i8, ptr %block, i64 $UNTIL_SAMPLE
  %sample = load i64, ptr %sample.at
  %due = icmp eq i64 %sample, 0
  br i1 %due, label %sampled, label %further
sampled:
  %control.at = getelementptr i8, ptr %state, i64 $CONTROL
  store ptr %control, ptr %control.at
  br label %end
further:
  %complete = icmp eq i64 %ran.count, %budget
  br i1 %complete, label %ran, label %step
ran:
  br label %test
step:
  %done.before = phi i64 [ %done, %where ], [ %done, %known ], [ %done.fast, %further ]
  %good = call i1 @step(ptr %state, ptr %kept)
  br i1 %good, label %stepped, label %end
stepped:
  %done.step = add i64 %done.before, 1
  %patience = load i64, ptr %patience.at
  %patience.less = sub i64 %patience, 1
  store i64 %patience.less, ptr %patience.at
  %tired = icmp eq i64 %patience.less, 0
  br i1 %tired, label %end, label %test
end:
  %why = phi i64 [ 0, %test ], [ 2, %guest ], [ 3, %sampled ], [ 1, %step ], [ 4, %stepped ]
  %result = phi i64 [ %done, %test ], [ %done, %guest ], [ %done.fast, %sampled ], [ %done.before, %step ], [ %done.step, %stepped ]
  store i64 %why, ptr %stop.at
  ret i64 %result
}
