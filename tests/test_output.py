"""What commands hand out: files written whole or not at all, and lines that `grep` finds."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

from checks.output import output_console, write_document, write_text


def test_folders_are_made_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "build" / "reports" / "result.json"
    write_document(path, {"schema_version": 1})
    assert json.loads(path.read_text()) == {"schema_version": 1}
    assert list(path.parent.iterdir()) == [path]


def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "result.json"
    write_text(path, "old")

    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_pipe_and_a_link_stay_what_they_are(tmp_path: Path) -> None:
    """As root, `--json /dev/null` must not put a file where the device was."""
    pipe, target, link = tmp_path / "pipe", tmp_path / "target", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(target)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_text(pipe, "text")
    write_text(link, "text")
    assert os.read(reader, 10) == target.read_bytes() == b"text"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert link.is_symlink()


@pytest.mark.parametrize(("columns", "widest"), [({}, 100), ({"COLUMNS": "60"}, 60)])
def test_lines_are_cut_for_a_terminal_only(columns: dict[str, str], widest: int) -> None:
    """A table of 100 columns comes whole out of a pipe, unless COLUMNS says how wide that is."""
    program = "from checks.output import output_console; from rich.table import Table; t = Table.grid();"
    program += "t.add_row('x' * 100); output_console().print(t)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=columns, check=True
    )
    assert max(map(len, done.stdout.splitlines())) == widest


def test_no_blanks_end_the_lines_of_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table.grid(padding=(0, 4))
    table.add_row("a", "b  c")
    table.add_row("longer", "")
    output_console().print(table)
    assert capsys.readouterr().out == "a         b  c\nlonger\n"
