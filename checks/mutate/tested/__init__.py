"""Which mutants the project's tests notice: they run the reference with the mutant in place."""
