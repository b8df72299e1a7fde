"""Remembers between runs what solvers answered, which questions a group of theorems asks, and the fates of mutants.

All are in one SQLite file. An answer is found by the solver, its version and the SMT-LIB text of the question. The
questions of a group are found by a digest of all that its terms are made from (`checks.prover.memo`), so that a group
that did not change need not be built to look its answers up.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable
from pathlib import Path

NAME = "proofs.sqlite"
VERSION = 3
_TABLES = ("answers", "groups", "mutants")
CHECK_BYTES = 8

Questions = list[dict[str, str]]
"""For each goal of a group its `id`, the name of its `witness`, whether it is `syntactic` (empty if not), and the
digests of the questions asked: that of the witness (`satisfiable`), and those of the goal (`refutable`), none if it
needed no solver."""


class ProofCache:
    """Answers and questions in one file, which several processes may use at once.

    The cache is a convenience: where the file cannot be used any more, it does without and says so in `warning`. Each
    row carries a checksum; one that does not fit is not believed.
    """

    def __init__(self, path: Path) -> None:
        self.warning = ""
        self._path = path
        self._connection = _open(path)
        if self._connection is None:
            self.warning = f"the proof cache {path} is damaged: it is built anew"
            for part in ("", "-wal", "-shm"):
                path.with_name(path.name + part).unlink(missing_ok=True)
            self._connection = _open(path)

    def answer(self, solver: str, question: str) -> str | None:
        """`sat` or `unsat` if that solver, named with its version, answered the question of that digest before."""
        found = self._get("answers", _key(solver, question))
        return found if found in ("sat", "unsat") else None

    def remember_answer(self, solver: str, question: str, verdict: str) -> None:
        """Remembers an answer, at once."""
        self._put("answers", _key(solver, question), verdict)

    def has_questions(self) -> bool:
        """Whether anything was proved of any group."""
        if self._connection is None:
            return False
        try:
            return self._connection.execute("SELECT key FROM groups LIMIT 1").fetchone() is not None
        except sqlite3.Error:
            self._give_up()
            return False

    def questions(self, key: bytes) -> Questions | None:
        """What was proved of the group with that digest."""
        found = self._get("groups", key)
        return json.loads(found) if found is not None else None

    def remember_questions(self, key: bytes, questions: Iterable[dict[str, str]]) -> None:
        """Remembers that all these goals of a group were proved."""
        self._put("groups", key, json.dumps(list(questions)))

    def verdict(self, key: bytes) -> str | None:
        """What was found out about the mutant with that digest."""
        return self._get("mutants", key)

    def remember_verdict(self, key: bytes, verdict: str) -> None:
        """Remembers what was found out about a mutant."""
        self._put("mutants", key, verdict)

    def close(self) -> None:
        """Closes the file; then nothing is remembered."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _get(self, table: str, key: bytes) -> str | None:
        if self._connection is None:
            return None
        try:
            query = f"SELECT value, checksum FROM {table} WHERE key = ?"
            row = self._connection.execute(query, (key,)).fetchone()
        except sqlite3.Error:
            self._give_up()
            return None
        if row is None or row[1] == _checksum(key, row[0]):
            return row[0] if row is not None else None
        self.warning = f"a row of the proof cache {self._path} is damaged: it is proved anew"
        return None

    def _put(self, table: str, key: bytes, value: str) -> None:
        if self._connection is None:
            return
        try:
            statement = f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?)"
            self._connection.execute(statement, (key, value, _checksum(key, value)))
        except sqlite3.Error:
            self._give_up()

    def _give_up(self) -> None:
        self.warning = f"the proof cache {self._path} cannot be used"
        self._connection = None


def _key(solver: str, question: str) -> bytes:
    return hashlib.sha256(f"{solver}\n{question}".encode()).digest()


def _checksum(key: bytes, value: object) -> bytes:
    return hashlib.sha256(key + str(value).encode()).digest()[:CHECK_BYTES]


def _open(path: Path) -> sqlite3.Connection | None:
    """The database, checked and ready; None if it cannot be used."""
    try:
        connection = sqlite3.connect(path, timeout=10.0, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        # Losing the last answers in a power failure does not matter.
        connection.execute("PRAGMA synchronous = OFF")
        _prepare(connection)
    except sqlite3.Error:
        return None
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    """Makes the tables, in place of those of another version."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for table in _TABLES:
        if version != VERSION:
            connection.execute(f"DROP TABLE IF EXISTS {table}")
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {table} (key BLOB PRIMARY KEY, value TEXT, checksum BLOB) WITHOUT ROWID"
        )
        connection.execute(f"SELECT value, checksum FROM {table} LIMIT 1").fetchone()
    connection.execute(f"PRAGMA user_version = {VERSION}")
