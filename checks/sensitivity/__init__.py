"""Popek and Goldberg's classes of instructions, decided from the specification: the list is an output."""
