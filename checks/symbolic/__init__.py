"""Evaluates the IR into Z3 terms: merged paths, state as terms and closures."""
