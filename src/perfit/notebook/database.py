"""The SQLite side of a notebook: one private file in a run, shared by a gateway and the worker that trains for it."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import secrets
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from perfit.errors import StoreError
from perfit.private import private_file
from perfit.store.data_keys import PLAIN, DataKeys, Keeper
from perfit.store.database import faults, free_bytes, journal_of, set_modes, tidy, transaction
from perfit.store.description import DATA_KEYS
from perfit.store.erasure import compact, without_traces
from perfit.store.objects import Objects
from perfit.store.payload import checksum
from perfit.store.shifts import ShiftStore

FILE = "serving.sqlite"
FORMAT, HIDDEN, ELSEWHERE = 1, 2, 3
"""Of a notebook whose texts are as they are, of one whose are hidden with data keys, and of either whose versions' payloads
may lie in objects, where the store's lie."""
_APPLICATION_ID = 0x50464E42
_BUSY_SECONDS = 30.0
_PENDING = "erasing"
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE items (
    user TEXT NOT NULL, place INTEGER NOT NULL, fields TEXT NOT NULL, turns TEXT NOT NULL, date TEXT,
    held_out INTEGER NOT NULL,
    PRIMARY KEY (user, place)
);
CREATE TABLE feedback (
    user TEXT NOT NULL, place INTEGER NOT NULL, verdict TEXT NOT NULL, input TEXT NOT NULL, answer TEXT NOT NULL,
    created TEXT NOT NULL, PRIMARY KEY (user, place)
);
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, user TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL,
    created TEXT NOT NULL, ended TEXT, result TEXT
);
CREATE INDEX jobs_of_user ON jobs (user, id);
CREATE INDEX jobs_by_state ON jobs (state, id);
CREATE TABLE versions (
    user TEXT NOT NULL, number INTEGER NOT NULL, created TEXT NOT NULL, state TEXT NOT NULL, note TEXT NOT NULL,
    digest TEXT NOT NULL, sha256 TEXT NOT NULL, meta TEXT NOT NULL, payload BLOB NOT NULL,
    PRIMARY KEY (user, number)
);
"""
_TABLES = ("items", "feedback", "jobs", "versions")
_HIDDEN = {
    "items": ("fields", "turns", "date"),
    "feedback": ("input", "answer"),
    "versions": ("meta", "payload"),
}
"""The columns that hold what users wrote, or were found to be."""


class Notebook:
    """``serving.sqlite`` of a run; made where there is none. One object may be used from several threads.

    Args:
        run: The run's folder.

    Attributes:
        key: A secret of this run, made with the file: what receipts are signed with and users' ids are hidden behind. Read
            once, for whoever signs must not wait for whoever writes.
        data_keys: What texts are hidden with; None where they are not.
        objects: Where new versions' payloads go; None where they go into the file.

    Raises:
        StoreError: The file cannot be made or is none of ours, or its data keys are missing.
    """

    def __init__(self, run: Path):
        self.path = run / FILE
        self._lock = threading.RLock()
        with faults(self.path):
            private_file(self.path)
            self._database = sqlite3.connect(
                self.path, isolation_level=None, timeout=_BUSY_SECONDS, check_same_thread=False
            )
            try:
                self._prepare()
            except BaseException:
                self._database.close()
                raise

    def _prepare(self) -> None:
        database = self._database
        database.execute("PRAGMA trusted_schema = OFF")
        set_modes(database, left=journal_of(self.path).exists())
        with transaction(database):
            found = database.execute("PRAGMA application_id").fetchone()[0]
            version = database.execute("PRAGMA user_version").fetchone()[0]
            empty = not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if empty and (found, version) == (0, 0):
                for statement in _SCHEMA.split(";"):
                    database.execute(statement)
                database.execute("INSERT INTO meta VALUES ('key', ?)", (secrets.token_hex(32),))
                database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                database.execute(f"PRAGMA user_version = {FORMAT}")
            elif found != _APPLICATION_ID:
                raise StoreError(f"{self.path} is not what perfit serve keeps but another SQLite file; move it away")
            elif version not in (FORMAT, HIDDEN, ELSEWHERE):
                raise StoreError(
                    f"{self.path} has format {version}, this perfit reads formats {FORMAT} to {ELSEWHERE}; use the version that wrote it"
                )
        tidy(self.path, database)  # an erasure that was killed at its end left the user in it
        self.data_keys, self.objects = self._kept_how()
        self.key = bytes.fromhex(database.execute("SELECT value FROM meta WHERE key = 'key'").fetchone()[0])

    def _kept_how(self) -> tuple[DataKeys | None, Objects | None]:
        """What texts are hidden with, and where payloads lie: as the store beside it has them, which is hidden and moved first."""
        database = self._database
        row = database.execute("SELECT value FROM meta WHERE key = ?", (DATA_KEYS,)).fetchone()
        keys = None if row is None else DataKeys.of_text(row[0])
        path = self.path.with_name("personal.sqlite")
        if not path.exists():
            return keys, None
        try:
            with ShiftStore.open(path, readonly=True) as store:
                theirs, objects = store.data_keys, store.objects
        except StoreError:  # whoever needs the store says what is wrong with it
            return keys, None
        if keys is None and theirs is not None:
            self._hide(theirs)
        kind = ELSEWHERE if objects is not None else FORMAT if keys is None and theirs is None else HIDDEN
        with transaction(database):
            if database.execute("PRAGMA user_version").fetchone()[0] != kind:
                database.execute(f"PRAGMA user_version = {kind}")
        return keys or theirs, objects

    def _hide(self, keys: DataKeys) -> None:
        database = self._database
        last: str | None = None
        keeper: Keeper = PLAIN
        with without_traces(self.path, database):
            with transaction(database):
                for table, columns in _HIDDEN.items():
                    wanted = f"SELECT rowid, user, {', '.join(columns)} FROM {table} ORDER BY user"
                    for row, user, *values in database.execute(wanted).fetchall():
                        if user != last:
                            last, keeper = user, keys.of(user, new=True)
                        hidden = [
                            None if value is None else keeper.hide(f"{table}.{column}", value)
                            for column, value in zip(columns, values, strict=True)
                        ]
                        sets = ", ".join(f"{column} = ?" for column in columns)
                        database.execute(f"UPDATE {table} SET {sets} WHERE rowid = ?", (*hidden, row))
                wanted = "SELECT rowid, user, payload, meta, created FROM versions"
                for row, user, *parts in database.execute(wanted).fetchall():
                    database.execute("UPDATE versions SET sha256 = ? WHERE rowid = ?", (checksum(user, *parts), row))
                notes = ((DATA_KEYS, keys.text()), (_PENDING, ""))
                database.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", notes)
                database.execute(f"PRAGMA user_version = {HIDDEN}")
            self._rewrite()

    def keeper(self, user: str, *, new: bool = False) -> Keeper:
        """What hides and shows a user's texts: columns by "table.column".

        Raises:
            StoreError: The user has no key, and none is wanted (``new``).
        """
        return PLAIN if self.data_keys is None else self.data_keys.of(user, new=new)

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One look, or several that nobody writes between within this process."""
        with self._lock, faults(self.path):
            yield self._database

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; on the disk when it is over."""
        with self._lock, faults(self.path), transaction(self._database):
            yield self._database

    def knows(self, user: str) -> bool:
        """Whether anything here is of this user."""
        with self.reading() as database:
            return any(
                database.execute(f"SELECT 1 FROM {table} WHERE user = ? LIMIT 1", (user,)).fetchone()
                for table in _TABLES
            )

    def users(self) -> set[str]:
        """Everybody of whom anything is here."""
        with self.reading() as database:
            found = [database.execute(f"SELECT DISTINCT user FROM {table}").fetchall() for table in _TABLES]
        return {user for rows in found for (user,) in rows}

    def mark(self, user: str) -> str:
        """The keyed digest that stands for a user where the id must not."""
        return hmac.new(self.key, b"user\0" + user.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()

    def erase(self, user: str) -> None:
        """Erase a user: no byte of theirs stays in this file or its journal."""
        with self._lock, faults(self.path), without_traces(self.path, self._database):
            with transaction(self._database):
                for table in _TABLES:
                    self._database.execute(f"DELETE FROM {table} WHERE user = ?", (user,))
                self._database.execute("INSERT OR REPLACE INTO meta VALUES (?, '')", (_PENDING,))
            self._rewrite()

    def erasing(self) -> bool:
        """Whether an erasure was cut off before the file was written anew."""
        with self.reading() as database:
            return database.execute("SELECT 1 FROM meta WHERE key = ?", (_PENDING,)).fetchone() is not None

    def finish_erasing(self) -> None:
        """Finish an erasure that was cut off after the rows were gone."""
        if self.erasing():
            with self._lock, faults(self.path), without_traces(self.path, self._database):
                self._rewrite()

    def _rewrite(self) -> None:
        # Rows that moved between pages left copies in the gaps.
        self._database.execute("VACUUM")
        with transaction(self._database):
            self._database.execute("DELETE FROM meta WHERE key = ?", (_PENDING,))

    def free_bytes(self) -> int:
        """Bytes of pages that hold nothing."""
        with self.reading() as database:
            return free_bytes(database)

    def compact(self) -> None:
        """Write the file anew, without free pages."""
        with self._lock, faults(self.path):
            compact(self.path, self._database)

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._database.close()

    def __enter__(self) -> Notebook:
        """Use as a context manager: closed at the end."""
        return self

    def __exit__(self, *error: Any) -> None:
        """Close the file."""
        self.close()
