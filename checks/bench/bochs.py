"""Bochs, where it is installed: boots a floppy that goes to 64-bit mode and runs the kernel a few times.

Pages are of 2 MiB, and there is no EPT. What booting costs is measured with a floppy that runs no kernel.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from checks.bench.engines import Run
from checks.bench.kernels import Kernel
from refmodel.assembler import assemble
from refmodel.encoder import Encoder
from refmodel.model import Model

RUNS = 5  # of a kernel, in one start
LONGEST = 300  # seconds of one start
FLOPPY = 1474560  # bytes
BIOSES = ("BIOS-bochs-latest", "VGABIOS-lgpl-latest")
SHARE = (Path("/usr/share/bochs"), Path("/usr/local/share/bochs"))
DISPLAYS = ("nogui", 'rfb, options="timeout=0"')
UNUSED = ("speaker", "extfpuirq", "parallel", "serial", "gameport", "iodebug", "e1000", "es1370", "sb16")
MARK = b"result:"

SECTOR_AT, HARNESS_AT, KERNEL_AT = 0x7C00, 0x8000, 0x8800
BUFFER, STACK = 0x400000, 0x1F0000
GDT_OFFSET, GDT_REGISTER_OFFSET = 0x1C0, 0x1E0
GDT = (0, 0x00AF_9A00_0000_FFFF, 0x00CF_9200_0000_FFFF)  # 64-bit code, data

# The boot sector, in 16-bit code.
BOOT = (
    "FA 31C0 8ED8 8EC0 8ED0 BC007C",  # cli; DS, ES and SS are 0, SP is 7C00
    "BB0080 B80802 B90200 31D2 CD13",  # reads 8 sectors of the floppy, from the second on, to 8000
    "E492 0C02 E692",  # enables address line 20
    "66BF00100000 66B9000C0000 6631C0 FC 6766F3AB",  # clears three pages at 1000
    "66C7060010 03200000 66C7060020 03300000",  # PML4 → 2000, PDPT → 3000
    "66BF00300000 66B883000000 B90002",  # 512 pages of 2 MiB:
    "66678907 660500002000 6683C708 E2F0",  # [edi] = eax; eax += 2 MiB; edi += 8; loop
    "66B800100000 0F22D8",  # CR3 = 1000
    "0F20E0 6683C820 0F22E0",  # CR4.PAE
    "66B9800000C0 0F32 660D00010000 0F30",  # EFER.LME
    "0F0116 E07D",  # lgdt [7DE0]
    "0F20C0 660D01000080 0F22C0",  # CR0.PE and PG
    "EA 0080 0800",  # jmp 8:8000
)


def _harness(runs: int) -> str:
    """Calls the kernel, writes its result to the port that Bochs prints, and ends Bochs."""
    mark = "".join(f" mov al, {byte}\n out dx, al\n" for byte in MARK)
    end = "".join(f" mov al, {ord(letter)}\n out dx, al\n" for letter in "Shutdown")
    return f"""
        org {HARNESS_AT}
        mov     r15, {runs}
        xor     eax, eax
again:
        test    r15, r15
        je      done
        mov     rsp, {STACK}
        mov     edi, {BUFFER}
        mov     ecx, {KERNEL_AT}
        push    r15
        call    rcx
        pop     r15
        dec     r15
        jmp     again
done:
        mov     rbx, rax
        mov     edx, 0xe9
        {mark}
        mov     ecx, 8
print:
        mov     rax, rbx
        out     dx, al
        shr     rbx, 8
        dec     ecx
        jne     print
        mov     edx, 0x8900
        {end}
stop:
        hlt
        jmp     stop
"""


class Bochs:
    """Bochs.  Raises ImportError if it is not installed, or does not start."""

    name = "bochs"
    takes_data = False

    def __init__(self, model: Model) -> None:
        program = shutil.which("bochs")
        if program is None:
            raise ImportError("no bochs on PATH")
        share = next((one for one in SHARE if all((one / bios).exists() for bios in BIOSES)), None)
        if share is None:
            raise ImportError(f"bochs has no {' and '.join(BIOSES)}")
        self._program, self._share, self._encoder = program, share, Encoder(model.program)
        self._directory = Path(tempfile.mkdtemp(prefix="nonroot-bochs-"))
        weakref.finalize(self, shutil.rmtree, self._directory, ignore_errors=True)
        self._arguments: Sequence[str] = ()
        self._write_floppy(b"", 0)
        self._start_up = self._first_start()

    def prepare(self, kernel: Kernel, code: bytes) -> None:
        """Makes the floppy."""
        assert not kernel.data
        self._write_floppy(code, RUNS)

    def run(self) -> Run:
        """Boots, and runs the kernel."""
        seconds, result = self._start()
        return Run(max(seconds - self._start_up, 1e-9) / RUNS, None, result)

    def _first_start(self) -> float:
        """How long it takes to boot; finds out how this Bochs is built: with which display, with a debugger or not."""
        for display, arguments in product(DISPLAYS, ((), ("-rc", "commands"))):
            self._write_configuration(display)
            self._arguments = arguments
            seconds, result = self._start()
            if result is not None:
                return seconds
        raise ImportError(f"{self._program} does not boot the kernels' floppy")

    def _start(self) -> tuple[float, int | None]:
        """One start: CPU seconds, and what the kernel returned."""
        command = [self._program, "-q", "-f", "configuration", *self._arguments]
        before = os.times()
        try:
            done = subprocess.run(
                command, cwd=self._directory, stdin=subprocess.DEVNULL, capture_output=True,
                check=False, timeout=LONGEST,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return 0.0, None
        after = os.times()
        seconds = after.children_user - before.children_user + after.children_system - before.children_system
        _, found, rest = done.stdout.partition(MARK)
        return seconds, int.from_bytes(rest[:8], "little") if found else None

    def _write_configuration(self, display: str) -> None:
        lines = (
            f"display_library: {display}",
            "megs: 64",
            f"romimage: file={self._share / BIOSES[0]}",
            f"vgaromimage: file={self._share / BIOSES[1]}",
            "floppya: 1_44=floppy, status=inserted",
            "boot: floppy",
            "log: log",
            "port_e9_hack: enabled=1",
            "cpu: ips=100000000",
            "clock: sync=none",
            "sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy",
            "plugin_ctrl: unmapped=1, biosdev=1, " + ", ".join(f"{name}=0" for name in UNUSED),
        )
        (self._directory / "configuration").write_text("\n".join(lines) + "\n", encoding="ascii")
        (self._directory / "commands").write_text("c\n", encoding="ascii")

    def _write_floppy(self, code: bytes, runs: int) -> None:
        sector = bytes.fromhex("".join(BOOT)).ljust(GDT_OFFSET, b"\0")
        sector += b"".join(entry.to_bytes(8, "little") for entry in GDT)
        register = (8 * len(GDT) - 1).to_bytes(2, "little") + (SECTOR_AT + GDT_OFFSET).to_bytes(4, "little")
        sector = (sector.ljust(GDT_REGISTER_OFFSET, b"\0") + register).ljust(510, b"\0") + b"\x55\xaa"
        harness = assemble(_harness(runs), self._encoder).code.ljust(KERNEL_AT - HARNESS_AT, b"\0")
        (self._directory / "floppy").write_bytes((sector + harness + code).ljust(FLOPPY, b"\0"))
