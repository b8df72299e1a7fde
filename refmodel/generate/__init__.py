"""Writes the reference model: one readable Python module from the typed IR."""

from refmodel.generate.module import body_name, definitions, generate

__all__ = ["body_name", "definitions", "generate"]
