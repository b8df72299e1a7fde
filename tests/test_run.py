"""Guests side by side under the specification's VMM, and images that cannot be loaded."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import pytest

import refmodel
from checks.cli import main
from refmodel.assembler import assemble
from refmodel.encoder import Encoder
from refmodel.image import FLAT_ADDRESS, Image, ImageError, Segment
from refmodel.image_files import load_image
from refmodel.session import NoEntry, Session

MODEL = refmodel.load()
ENCODER = Encoder(MODEL.program)
MEMORY = 1 << 18


def code(text: str) -> bytes:
    return assemble(f"org {FLAT_ADDRESS}\n{text}\n", ENCODER).code


def image_of(text: str) -> Image:
    data = code(text)
    return Image("guest", (Segment(FLAT_ADDRESS, data, len(data)),), FLAT_ADDRESS)


def printing(text: str) -> str:
    """A guest that writes a text to port 0xE9 and halts."""
    return "\n".join(f"mov al, {ord(letter)}\nout 0xe9, al" for letter in text) + "\nhlt"


def session_of(*texts: str) -> tuple[Session, dict[int, str]]:
    written: dict[int, str] = dict.fromkeys(range(1, len(texts) + 1), "")

    def console(guest: int, byte: int) -> None:
        written[guest] += chr(byte)

    return Session(MODEL, [image_of(text) for text in texts], MEMORY, console), written


def reason(name: str) -> int:
    value: int = MODEL.namespace[f"ExitReason_{name}"]
    return value


def test_a_guest_prints_and_halts() -> None:
    session, written = session_of(printing("hi"))
    session.run(None)
    assert written == {1: "hi"}
    assert session.guests[1].reason == reason("HLT")


def test_a_guest_begins_as_documented() -> None:
    text = "cmp rdi, rsp\njne bad\ncmp rax, 0\njne bad\nmov rax, cr3\ncmp rax, 0x1000\njne bad\n"
    session, written = session_of(text + printing("y") + "\nbad:\n" + printing("n"))
    session.run(None)
    assert written == {1: "y"}


def test_guests_have_their_own_memory_and_registers() -> None:
    """Each writes its own mark to the same address, waits for the others, and reads it back."""

    def guest(mark: str) -> str:
        spin = "mov ecx, 3000\nagain: dec ecx\njnz again\n"
        text = f"mov byte [0x20000], {ord(mark)}\nmov r15d, {ord(mark)}\n{spin}"
        return text + "mov al, [0x20000]\nout 0xe9, al\nmov al, r15b\nout 0xe9, al\nhlt"

    session, written = session_of(guest("a"), guest("b"), guest("c"))
    session.run(None)
    assert written == {1: "aa", 2: "bb", 3: "cc"}


def test_what_is_not_mapped_faults_in_the_guest_and_stops_only_it() -> None:
    # Without an IDT the fault becomes a triple fault (SDM 3A 6.15, "Interrupt 8").
    session, written = session_of(f"mov rax, [{MEMORY:#x}]\nhlt", printing("fine"))
    session.run(None)
    assert session.guests[1].reason == reason("TRIPLE_FAULT")
    assert session.guests[2].reason == reason("HLT")
    assert written == {1: "", 2: "fine"}


def test_frames_of_guests_are_distinct() -> None:
    session, _ = session_of("hlt", "hlt")
    first, second = (set(guest.frames) for guest in session.guests.values())
    assert len(first) == len(second) == MEMORY // 0x1000
    assert not first & second


def test_the_number_of_steps_can_be_limited() -> None:
    session, _ = session_of("here: jmp here")
    assert session.run(100) == 100
    assert session.guests[1].reason is None


def test_a_vmcs_that_fails_the_checks_is_reported_with_the_rule() -> None:
    session, _ = session_of("hlt")
    session.machine.vmcs.EPT_POINTER = 7
    with pytest.raises(NoEntry, match="ept_pointer"):
        session.run(None)


# --- the command -------------------------------------------------------------------------------------


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "hi.bin").write_bytes(code(printing("hi\n")))
    (tmp_path / "loop.bin").write_bytes(code("here: jmp here"))
    (tmp_path / "unknown.bin").write_bytes(bytes.fromhex("c5f877"))  # VZEROUPPER
    return tmp_path


def test_one_guest(images: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["run", str(images / "hi.bin")]) == 0
    assert capfdbinary.readouterr().out == b"hi\n"


def test_without_llvmlite_the_fast_engine_is_plain_python_and_says_so(images: Path) -> None:
    begin = "import sys; sys.modules['llvmlite'] = None; from checks.cli import main; sys.exit(main(sys.argv[1:]))"
    for arguments, status, said in (
        (["run", "--engine", "fast", str(images / "hi.bin")], 0, "plain Python, slowly"),
        (["bench"], 2, "bench needs llvmlite"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", begin, *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stderr
        assert said in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ("" if status else "hi\n")


def test_assembly_is_assembled_on_the_way(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Without `org` it lies where flat images do, else where it says; its errors have file and line."""
    for name, begin in (("a.asm", ""), ("b.asm", "org 0x20000\n")):
        (tmp_path / name).write_text(f"{begin}mov al, [letter]\nout 0xe9, al\nhlt\nletter: db '{name[0]}'\n")
    assert main(["run", str(tmp_path / "a.asm"), str(tmp_path / "b.asm")]) == 0
    assert sorted(capfd.readouterr().out.splitlines()) == ["1: a", "2: b"]
    (tmp_path / "c.asm").write_text("hlt\nfrob\n")
    assert main(["run", str(tmp_path / "c.asm")]) == 2
    assert f"{tmp_path / 'c.asm'}:2:1: error: unknown instruction 'frob'" in capfd.readouterr().err


def test_several_guests_are_told_apart(images: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["run", str(images / "hi.bin"), str(images / "hi.bin")]) == 0
    assert sorted(capfdbinary.readouterr().out.splitlines()) == [b"1: hi", b"2: hi"]


def test_a_trace_has_address_bytes_and_text(images: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(images / "hi.bin"), "--trace"]) == 0
    first = capfd.readouterr().err.splitlines()[0]
    assert first.split() == ["1", "0000000000010000", "b068", "mov", "al,", "0x68", "rax=0x68"]


def test_steps_that_do_not_suffice(images: Path) -> None:
    assert main(["run", str(images / "loop.bin"), "--max-steps", "50"]) == 3


def test_an_instruction_that_is_not_specified(images: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It ends the guest that reached it, and no other."""
    assert main(["run", str(images / "unknown.bin"), str(images / "hi.bin")]) == 1
    out, err = capfd.readouterr()
    assert out == "2: hi\n"
    assert err.startswith("nonroot: guest 1 (unknown.bin) was stopped: not in the specification: c5 f8 77")
    assert err.endswith(" at 0x10000\n")


def test_a_guest_that_is_given_up_leaves_the_others_as_they_were() -> None:
    """It changes what the processor does not switch, gives way, and executes an ENTER that is not specified."""
    yielding = "mov eax, 1\nvmcall\n"
    given_up = f"mov r15d, 7\nmov r14, 7\nmov cr2, r14\n{yielding}db 0xc8, 0, 0, 2"
    shown = "mov al, r15b\nout 0xe9, al\nmov rax, cr2\nout 0xe9, al\nhlt"
    session, written = session_of(given_up, f"mov r15d, 65\nmov cr2, r15\n{yielding}{yielding}{shown}")
    session.run(1000)
    assert session.guests[1].outside == "not in the specification: nested enter at 0x10019"
    assert session.machine.VM_STATE[1] == 4  # RETIRED
    assert written[2] == "AA"
    assert session.guests[2].reason == reason("HLT")


def elf(**changes: int) -> bytes:
    """An ELF64 file with one segment that holds HLT; `changes` to the fields of its headers."""
    header = {"type": 2, "machine": 62, "entry": 0x10000, "phoff": 64, "phnum": 1}
    segment = {"offset": 120, "vaddr": 0x10000, "filesz": 1, "memsz": 1}
    for name, value in changes.items():
        (header if name in header else segment)[name] = value
    h, s = header, segment
    identification = b"\x7fELF\x02\x01\x01" + bytes(9)
    numbers = (h["type"], h["machine"], 1, h["entry"], h["phoff"], 0, 0, 64, 56, h["phnum"], 64, 0, 0)
    program = (1, 5, s["offset"], s["vaddr"], s["vaddr"], s["filesz"], s["memsz"], 0x1000)
    return (
        identification
        + struct.pack("<HHIQQQIHHHHHH", *numbers)
        + struct.pack("<IIQQQQQQ", *program)
        + b"\xf4"
    )


def test_elf_images(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(elf(memsz=0x3000))
    image = load_image(path, MODEL.program)
    assert image.segments == (Segment(0x10000, b"\xf4", 0x3000),)
    assert (image.entry, image.end) == (0x10000, 0x13000)
    assert main(["run", str(path)]) == 0


MALFORMED = {
    "empty": b"",
    "only the magic number": b"\x7fELF",
    "cut in the header": elf()[:40],
    "cut in the program headers": elf()[:100],
    "cut in the segment": elf()[:120],
    "another machine": elf(machine=183),
    "a shared object": elf(type=3),
    "no segment": elf(phnum=0),
    "program headers far away": elf(phoff=1 << 62),
    "an entry outside": elf(entry=0x90000),
    "more in the file than in memory": elf(filesz=1, memsz=0),
    "a huge segment": elf(memsz=1 << 60),
    "over the page tables": elf(vaddr=0x1000, entry=0x1000),
    "a file length that overflows": elf(filesz=(1 << 64) - 1, memsz=(1 << 64) - 1),
    "beyond the memory": elf(vaddr=1 << 40, entry=1 << 40),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed_images(what: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "image"
    path.write_bytes(MALFORMED[what])
    assert main(["run", str(path)]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("nonroot: ")
    assert "image" in lines[0]


def test_too_many_guests() -> None:
    with pytest.raises(ImageError):
        session_of(*["hlt"] * 17)


def test_a_directory_and_a_missing_file(tmp_path: Path) -> None:
    assert main(["run", str(tmp_path)]) == 2
    assert main(["run", str(tmp_path / "none")]) == 2
