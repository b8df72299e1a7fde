"""Proofs, fuzzing, replay and the command line: everything that looks at the models from outside."""
