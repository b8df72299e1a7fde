"""How far long work is: in a log a line now and then, on a terminal one line that is gone in the end."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import time

import pytest

from checks import progress
from checks.progress import Progress, tracked


def test_a_log_has_a_line_when_it_is_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(0, 1000, 20))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with Progress(start=-60) as shown:
        for n in range(3):
            shown.show(lambda n=n: f"{n} of 3 things")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert re.fullmatch(r"\d min \d+ s  1 of 3 things", lines[0])


def test_short_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(tracked(range(3), "things")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


def test_what_beats_has_lines_while_nothing_comes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "IN_LOG", 0.02)
    with Progress(beats=True) as shown:
        shown.show(lambda: "nothing yet")
        time.sleep(0.2)
    assert capsys.readouterr().err.splitlines().count("0 s  nothing yet") > 1


WORK = """
from checks import progress
progress.ON_TERMINAL = -1
for n in progress.tracked([1, 2], "things"):
    print("at", n)
"""


def test_a_terminal_has_one_line_and_output_that_is_redirected_stays_whole() -> None:
    """What is printed goes where it is to go, not to the terminal."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm"}
    work = subprocess.run(
        [sys.executable, "-c", WORK], stderr=theirs, stdout=subprocess.PIPE, env=environment, check=True
    )
    os.close(theirs)
    assert work.stdout == b"at 1\nat 2\n"
    assert b"1 of 2 things" in os.read(ours, 10000)
    os.close(ours)
