"""The region translator: native code of its own for the decoded instructions that a run spends its time in.

`hotness` finds them by sampling, `regions` collects those that branch to each other, and `partial` runs the texts of
their routines at compile time as far as they are known: operands are constants, the guest's registers live in
registers of the processor, and what is left is LLVM's to optimise. A region is entered, left and dropped like any
other routine.
"""
