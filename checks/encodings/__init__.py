"""The opcode tables against iced-x86, a decoder that shares nothing with them, and against each other."""

from checks.encodings.compare import Comparison, Difference
from checks.encodings.enumerate import every_code, sampled_codes
from checks.encodings.overlaps import overlaps

__all__ = ["Comparison", "Difference", "every_code", "overlaps", "sampled_codes"]
