"""What commands hand out: tables on standard output, and files, written whole or not at all."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

if TYPE_CHECKING:
    from xml.etree import ElementTree as ET

    from rich.console import Console

_UNLIMITED = 10_000  # columns
_PANEL = 130  # of a panel out of a pipe: a line of the specification or of generated code fits


def output_console(*, has_panels: bool = False) -> Console:
    """Standard output.  Out of a pipe lines are as long as they need to be, for `grep`; panels have a width."""
    from rich.console import Console

    class Output(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # the command line's business; rich would exit

    found = Output(soft_wrap=not has_panels, highlight=False)
    if not found.is_terminal:
        found.file = cast("IO[str]", _WithoutPadding(sys.stdout))
        if "COLUMNS" not in os.environ:
            found.width = _PANEL if has_panels else _UNLIMITED
    return found


class _WithoutPadding:
    """A stream that drops the blanks at the end of lines: cells of a table are padded."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes the text, and says how much of it is done: all."""
        self._stream.write(re.sub(r" +(?=\n)", "", text))
        return len(text)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def write_text(path: Path, text: str) -> None:
    """Writes a file and the folders it lies in; a device, pipe or link is written to as it is.  Raises OSError."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        path.write_text(text, encoding="utf-8")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def write_document(path: Path, document: Mapping[str, object]) -> None:
    """Writes JSON, as `write_text` does."""
    write_text(path, json.dumps(document, indent=1) + "\n")


def write_xml(path: Path, root: ET.Element) -> None:
    """Writes XML, as `write_text` does."""
    from xml.etree import ElementTree as ET  # few commands write it

    ET.indent(root)
    write_text(path, ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n")
