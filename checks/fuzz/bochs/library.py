"""Loads Bochs: the package bochscpu-python, which is its processor without the machine around it.

The package's stand-ins for that machine abort the process. Here some are made to answer: address line 20 is enabled,
timers never run down, its log shows no memory. Ports stay out of reach.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from importlib import import_module
from typing import Any

from checks.errors import UsageError

_RETURN, _RETURN_FALSE, _RETURN_TRUE = map(bytes.fromhex, ("c3", "31c0 c3", "b801000000 c3"))
_STAND_INS = {
    "_ZN14bx_pc_system_c14get_enable_a20Ev": _RETURN_TRUE,
    "_ZN14bx_pc_system_c20activate_timer_ticksEjmb": _RETURN,
    "_ZN14bx_pc_system_c16deactivate_timerEj": _RETURN,
    "_ZN14bx_pc_system_c6invlpgEm": _RETURN,
    "_ZN8BX_MEM_C13dbg_fetch_memEP8BX_CPU_CmjPh": _RETURN_FALSE,
}
_WRITABLE = 7  # PROT_READ, PROT_WRITE and PROT_EXEC
_LONGEST = max(map(len, _STAND_INS.values()))


def load() -> tuple[Any, Any]:
    """The package, and its module for memory.  Raises ModuleNotFoundError, or UsageError for one that does not fit."""
    flags = sys.getdlopenflags()
    # It asks for functions of a newer C library than it says; it never calls them.
    sys.setdlopenflags(os.RTLD_LAZY)
    try:
        library, memory = import_module("bochscpu"), import_module("bochscpu.memory")
        _replace_stand_ins(import_module("bochscpu._bochscpu").__file__)
    except ModuleNotFoundError:
        raise
    except (ImportError, AttributeError, OSError) as error:
        raise UsageError(
            f"the engine bochs needs bochscpu-python 0.4 for Linux on x86-64 ({error})"
        ) from None
    finally:
        sys.setdlopenflags(flags)
    return library, memory


def _replace_stand_ins(file: str | None) -> None:
    """Writes over the beginnings of functions that only abort.  Raises AttributeError if one is not there."""
    functions, system = ctypes.CDLL(file), ctypes.CDLL(None, use_errno=True)
    for name, code in _STAND_INS.items():
        address = ctypes.cast(getattr(functions, name), ctypes.c_void_p).value or 0
        page = address & -mmap.PAGESIZE
        length = address + _LONGEST - page
        if system.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(length), _WRITABLE):
            raise OSError(ctypes.get_errno(), "mprotect")
        ctypes.memmove(address, code, len(code))
