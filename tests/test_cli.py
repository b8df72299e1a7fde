"""The command line as a whole: help, start-up, statuses, and what becomes of errors, pipes and interrupts."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from checks import cli

MODULES_OF_COMMANDS = ("z3", "llvmlite", "hypothesis", "lark", "rich", "elftools")


def nonroot(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "checks", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        cli.main(["--help"])
    assert done.value.code == 0
    text = capsys.readouterr().out
    for command in cli.COMMANDS:
        assert f"    {command.name} " in text
    assert "Exit status:" in text


@pytest.mark.parametrize("command", cli.COMMANDS, ids=lambda command: command.name)
def test_help_of_a_command_has_examples(command: cli.Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        cli.main([command.name, "--help"])
    assert done.value.code == 0
    text = capsys.readouterr().out
    assert all(example in text for example in command.examples)
    assert "--spec DIR" in text


def test_help_imports_nothing_slow() -> None:
    program = f"""
import sys
from checks import cli
try:
    cli.main(["--help"])
except SystemExit:
    pass
sys.exit(str([name for name in {MODULES_OF_COMMANDS} if name in sys.modules] or ""))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


@pytest.mark.parametrize("command", [c.name for c in cli.COMMANDS])
def test_commands_start_in_half_a_second(command: str) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert nonroot(command, "--help").returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["frobnicate"], "invalid choice: 'frobnicate'"),
        (["asm", "no-such-file.asm", "-o", "x"], "no-such-file.asm: No such file or directory"),
        (["asm", "examples/hello.asm"], "say where to write with -o OUT"),
        (["check", "no-such-file.isa"], "no-such-file.isa"),
        (["run", "no-such-image"], "no-such-image: No such file or directory"),
        (["replay", "no-such-case.json"], "no-such-case.json: No such file or directory"),
        (["list", "--spec", "no-such-directory"], "no-such-directory"),
        (["fuzz", "--engine", "warp"], "--engine takes one of"),
    ],
)
def test_wrong_usage_is_status_2_and_one_message(arguments: list[str], message: str) -> None:
    done = nonroot(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("module", "package", "arguments"),
    [
        ("z3", "z3-solver", ["prove", "trap.CLTS*"]),
        ("hypothesis", "hypothesis", ["fuzz", "--cases", "1"]),
        ("iced_x86", "iced-x86", ["check", "--encodings", "sample"]),
    ],
)
def test_a_missing_package_is_named(module: str, package: str, arguments: list[str]) -> None:
    begin = f"import sys; sys.modules[{module!r}] = None; from checks.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", begin, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr == f"nonroot: {arguments[0]} needs the package {package}: pip install {package}\n"


def test_a_bug_of_ours_is_status_5(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from checks.commands import check

    def fail(_args: object) -> int:
        raise RuntimeError("broken")

    monkeypatch.setattr(check, "run", fail)
    assert cli.main(["check"]) == 5
    assert "RuntimeError: broken" in capsys.readouterr().err


def test_an_interrupt_is_status_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from checks.commands import check

    def interrupt(_args: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(check, "run", interrupt)
    assert cli.main(["check"]) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


def test_a_command_that_is_killed_ends_as_after_an_interrupt(tmp_path: Path) -> None:
    """SIGTERM, as `timeout` and a CI system send it, while a guest runs."""
    guest = tmp_path / "endless.asm"
    guest.write_text("mov al, '!'\nout 0xe9, al\nmov al, 10\nout 0xe9, al\nhere: jmp here\n")
    command = [sys.executable, "-m", "checks", "run", str(guest)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "!\n"
        process.terminate()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "\ninterrupted\n"


@pytest.mark.parametrize("command", ["list", "show MOV"])
def test_a_reader_that_goes_away_is_no_error_and_no_success(command: str) -> None:
    piped = ["bash", "-c", f"{sys.executable} -m checks {command} | true; exit ${{PIPESTATUS[0]}}"]
    done = subprocess.run(piped, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 141
    assert done.stderr == ""


def test_asm_writes_an_image_and_a_listing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, image = tmp_path / "guest.asm", tmp_path / "guest.bin"
    source.write_text("org 0x10000\nstart: jmp start\n")
    assert cli.main(["asm", str(source), "-o", str(image)]) == 0
    assert image.read_bytes() == b"\xeb\xfe"
    assert "2 bytes, to be loaded at 0x10000" in capsys.readouterr().out
    assert cli.main(["asm", str(source), "--listing"]) == 0
    assert "0000000000010000 ebfe" in capsys.readouterr().out


def test_asm_reports_every_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "guest.asm"
    source.write_text("frob\nmov rax, [rax*3]\n")
    assert cli.main(["asm", str(source), "-o", str(tmp_path / "out")]) == 2
    errors = capsys.readouterr().err
    assert f"{source}:1:1: error: unknown instruction 'frob'" in errors
    assert f"{source}:2:11: error: an address has a base" in errors
    assert not (tmp_path / "out").exists()
    source.write_bytes(b"\xff\xfe\x00")
    assert cli.main(["asm", str(source), "-o", str(tmp_path / "out")]) == 2
