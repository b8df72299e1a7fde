"""Differential fuzzing: cases derived from the specification, run on two engines, shrunk to the smallest difference."""
