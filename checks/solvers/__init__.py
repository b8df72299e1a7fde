"""Solvers: z3 on terms, others on SMT-LIB text."""
