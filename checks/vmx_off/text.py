"""What programs may do anyway: a text that uses program registers alone is the same in both machines.

The flags are shared but for the privileged ones. A text may read single flags that are shared, and may change flags in
place; but where all flags go anywhere else than back into RFLAGS, as in PUSHF, the solver has to look.
"""

from __future__ import annotations

from typing import cast

from checks.sensitivity.text import Texts
from checks.trap.contract import LOADS, STORES
from checks.vmx_off.machines import SHARED_BITS
from checks.walk import children
from grammar import ir

_FLAGS = "RFLAGS"
_HARMLESS = frozenset({_FLAGS, "GPR", "RIP", "NEXT_RIP", "SEGMENT_BASE", "SEGMENT_LIMIT", "SEGMENT_RIGHTS"})
_ADDRESSES = frozenset({"segment_address", "offset_in_segment"})
"""Functions that make addresses: of the rights they use all but the DPL, so that both machines make the same."""

_BOUNDARY = frozenset({*LOADS, *STORES}) | _ADDRESSES


class ProgramTexts:
    """Says which texts of one program only do what programs may do."""

    def __init__(self, program: ir.Program) -> None:
        self._program, self._texts = program, Texts(program)
        self._flags_type = program.state[_FLAGS].type

    def is_harmless(self, body: tuple[ir.Stmt, ...]) -> bool:
        """Whether the text mentions program registers alone, and keeps the privileged flags to themselves."""
        return self._texts.mentioned(body) <= _HARMLESS and self._keeps(body, set())

    def _keeps(self, node: object, seen: set[str]) -> bool:
        """Whether all flags together go nowhere but back into RFLAGS."""
        if isinstance(node, ir.WriteState) and node.name == _FLAGS:
            return self._is_new_flags(node.value, seen)
        if isinstance(node, ir.Return) and node.value is not None and node.value.type == self._flags_type:
            return self._is_new_flags(node.value, seen)
        if isinstance(node, (ir.Bit, ir.Slice)) and _is_divided(node.base):
            return _is_shared(cast(ir.Read, node.base).name, _bits(node))
        if (
            _is_divided(node)
            or _is_written(node)
            or (isinstance(node, ir.Call) and node.type == self._flags_type)
        ):
            return False
        if isinstance(node, ir.Call) and node.function not in seen:
            seen.add(node.function)
            function = self._program.functions[node.function]
            if function.source not in _BOUNDARY and not self._keeps(function.body, seen):
                return False
        return all(self._keeps(child, seen) for child in children(node))

    def _is_new_flags(self, value: ir.Expr, seen: set[str]) -> bool:
        """RFLAGS with some shared flags changed, by itself or by a function that returns no other flags."""
        if isinstance(value, ir.Call) and value.type == self._flags_type:
            arguments = all(self._keeps(one, seen) for one in value.arguments)
            return arguments and self._keeps(self._program.functions[value.function].body, seen)
        if isinstance(value, ir.UpdateBits):
            is_base = _is_flags(value.base) or self._is_new_flags(value.base, seen)
            changed = all(_is_shared(_FLAGS, range(low, high + 1)) for high, low, _ in value.changes)
            return is_base and changed and all(self._keeps(one, seen) for _, _, one in value.changes)
        return _is_flags(value)


def _is_shared(name: str, bits: range) -> bool:
    return all(SHARED_BITS[name] >> bit & 1 for bit in bits)


def _is_divided(node: object) -> bool:
    """Whether a register is read of which the machines share a part."""
    return isinstance(node, ir.Read) and node.name in (_FLAGS, "SEGMENT_RIGHTS")


def _is_written(node: object) -> bool:
    """Whether a segment register is written."""
    return isinstance(node, ir.WriteState) and node.name.startswith("SEGMENT_")


def _is_flags(node: object) -> bool:
    return isinstance(node, ir.Read) and node.name == _FLAGS


def _bits(node: ir.Bit | ir.Slice) -> range:
    """The bits that are read; all of them where the number is computed."""
    if isinstance(node, ir.Slice):
        return range(node.low, node.high + 1)
    return range(node.index.value, node.index.value + 1) if isinstance(node.index, ir.Literal) else range(64)
