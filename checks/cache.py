"""Remembers solvers' answers between runs, by the hash of the SMT-LIB text and the solver's version."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

import z3

NAME = "proofs.sqlite"


class ProofCache:
    """The answers in one SQLite file.

    The cache is a convenience: where the file cannot be used any more, it does without and says so in `warning`.
    """

    def __init__(self, path: Path) -> None:
        self.warning = ""
        self._version = z3.get_full_version()
        self._connection = _open(path)
        if self._connection is None:
            self.warning = f"the proof cache {path} is damaged: it is built anew"
            for part in ("", "-wal", "-shm"):
                path.with_name(path.name + part).unlink(missing_ok=True)
            self._connection = _open(path)

    def get(self, text: str) -> str | None:
        """`sat` or `unsat` if that text was answered before."""
        if self._connection is None:
            return None
        try:
            row = self._connection.execute(
                "SELECT answer FROM answers WHERE key = ?", (self._key(text),)
            ).fetchone()
        except sqlite3.Error:
            self._give_up()
            return None
        return row[0] if row is not None and row[0] in ("sat", "unsat") else None

    def put(self, text: str, verdict: str) -> None:
        """Remembers the answer to a text, at once."""
        if self._connection is None:
            return
        try:
            self._connection.execute(
                "INSERT OR REPLACE INTO answers VALUES (?, ?)", (self._key(text), verdict)
            )
        except sqlite3.Error:
            self._give_up()

    def _key(self, text: str) -> bytes:
        return hashlib.sha256(f"{self._version}\n{text}".encode()).digest()

    def _give_up(self) -> None:
        self.warning = "the proof cache cannot be used"
        self._connection = None


def _open(path: Path) -> sqlite3.Connection | None:
    """The database, checked and ready; None if it cannot be used."""
    try:
        connection = sqlite3.connect(path, timeout=10.0, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(
            "PRAGMA synchronous = OFF"
        )  # losing the last answers in a power failure does not matter
        connection.execute(
            "CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, answer TEXT) WITHOUT ROWID"
        )
        connection.execute("SELECT answer FROM answers LIMIT 1").fetchone()
    except sqlite3.Error:
        return None
    return connection
