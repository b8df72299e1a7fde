"""The opcode tables against iced-x86, a decoder that shares nothing with them."""

from checks.encodings.compare import Comparison, Difference
from checks.encodings.enumerate import every_code, sampled_codes

__all__ = ["Comparison", "Difference", "every_code", "sampled_codes"]
