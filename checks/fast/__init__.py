"""Proofs that the fast model's handlers do what the specification says."""
