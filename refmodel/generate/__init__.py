"""Writes the reference model: one readable Python module from the typed IR (`module.generate`)."""
