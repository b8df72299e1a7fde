"""The reference, compiled: the specification's typed IR, written as LLVM IR instead of Python.

It runs what one processor does (`cycle`), for many short cases at a time; it is as literal as the Python, and some
thousand times as fast. What it cannot do, such as bytes that the specification has no instruction for, it reports.
"""

from fastmodel.reference.engine import CompiledReference
from fastmodel.reference.layout import LEFT_TO_PYTHON

__all__ = ["LEFT_TO_PYTHON", "CompiledReference"]
