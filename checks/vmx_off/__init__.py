"""Virtualization without VMX: which instructions are sensitive, and yet do not trap, in a guest kernel at CPL 3."""
