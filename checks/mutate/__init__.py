"""Mutation testing of the theorems: each small fault in the specification must be noticed by a proof."""
