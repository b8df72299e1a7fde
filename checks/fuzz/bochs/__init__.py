"""Bochs in this process, an emulator that shares nothing with this project, as an engine for VMX non-root operation.

`library` loads the package bochscpu-python, `processor` keeps its processor in VMX root operation and enters guests,
`engine` runs the cases of the fuzzer on it.
"""

from checks.fuzz.bochs.engine import BochsEngine

__all__ = ["BochsEngine"]
