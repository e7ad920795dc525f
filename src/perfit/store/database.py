"""The SQLite side of a store: one file, safe at any moment, every fault a StoreError."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from perfit.errors import DamagedError, StoreError
from perfit.files import write_atomically

APPLICATION_ID = 0x50465354
FORMAT = 1
_BUSY_SECONDS = 30.0
_MAGIC = b"SQLite format 3\x00"
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE users (
    user_id TEXT PRIMARY KEY NOT NULL,
    sha256 TEXT NOT NULL,
    meta TEXT NOT NULL,
    created TEXT NOT NULL,
    payload BLOB NOT NULL
);
"""


def create(path: Path, meta: dict[str, str]) -> None:
    """Write a new, empty store; it appears under its name only when it is whole.

    Raises:
        StoreError: Something lies there already, or the folder cannot be written.
    """
    with faults(path):
        with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
            database.executescript(_SCHEMA)
            database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            database.execute(f"PRAGMA user_version = {FORMAT}")
            database.executemany("INSERT INTO meta VALUES (?, ?)", sorted(meta.items()))
            content = database.serialize()
        try:
            write_atomically(path, content, new=True)
        except FileExistsError:
            raise StoreError(f"{path} exists already; open it, or choose another name") from None


def connect(path: Path, readonly: bool) -> sqlite3.Connection:
    """Open a store file after cheap checks that it is one and was not cut short.

    A rollback journal left by a killed writer is played back by SQLite at the first read; that needs write access, so a
    read-only store is opened writable where the file allows it and held to reading by ``query_only``.

    Raises:
        StoreError: Missing, foreign, of another format, or truncated.
    """
    if not path.is_file():
        raise StoreError(f"{path}: there is no store here; check the path, or make one with ShiftStore.create")
    with faults(path):
        mode = "ro" if readonly and not os.access(path, os.W_OK) else "rw"
        database = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,
            timeout=_BUSY_SECONDS,
            check_same_thread=False,
        )
        try:
            # DELETE: one file at rest. EXTRA: a commit is on the disk when it returns, journal removal included.
            for pragma in ("journal_mode = DELETE", "synchronous = EXTRA", "secure_delete = ON"):
                if mode == "rw":
                    database.execute(f"PRAGMA {pragma}").fetchall()
            database.execute("PRAGMA cell_size_check = ON")
            if readonly:
                database.execute("PRAGMA query_only = ON")
            # Playing back a journal comes first: only then do header and file size agree.
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()
            _check_header(path, database)
            if not readonly:
                _tidy(path, database)
        except BaseException:
            database.close()
            raise
    return database


def _check_header(path: Path, database: sqlite3.Connection) -> None:
    if database.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise StoreError(f"{path} is not a perfit store but another SQLite file; check the path")
    if (version := database.execute("PRAGMA user_version").fetchone()[0]) != FORMAT:
        raise StoreError(
            f"{path} has store format {version}, this perfit reads format {FORMAT}; use the version that wrote it"
        )
    if database.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
        raise StoreError(
            f"{path} was switched to WAL by another program; switch it back with PRAGMA journal_mode=DELETE"
        )
    # In one read transaction, so that no writer can grow the file between the two looks.
    database.execute("BEGIN")
    try:
        database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        with path.open("rb") as file:
            header = file.read(100)
            size = file.seek(0, os.SEEK_END)
    finally:
        database.execute("ROLLBACK")
    page = int.from_bytes(header[16:18], "big")
    expected = (65536 if page == 1 else page) * int.from_bytes(header[28:32], "big")
    if header[:16] != _MAGIC or size < expected:
        raise DamagedError(f"{path} is cut short ({size:,} bytes of {expected:,}); restore it from a copy")


def _tidy(path: Path, database: sqlite3.Connection) -> None:
    """Remove the journal of a writer that was killed before it changed anything; SQLite does so at its next write."""
    if not path.with_name(path.name + "-journal").exists():
        return
    database.execute("PRAGMA busy_timeout = 0")
    with (
        contextlib.suppress(sqlite3.OperationalError),
        transaction(database),
    ):  # a live writer's journal is its own business
        # A change that SQLite cannot skip as empty.
        database.execute("INSERT INTO meta VALUES ('tidy', '')")
        database.execute("DELETE FROM meta WHERE key = 'tidy'")
    database.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1000:.0f}")


@contextlib.contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """All or nothing."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def faults(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system report into a StoreError with a remedy."""
    try:
        yield
    except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
        text = str(error)
        if isinstance(error, sqlite3.ProgrammingError):
            remedy = "the store is closed or used wrongly; open it again"
        elif "locked" in text or "busy" in text:
            remedy = f"another process has been writing for over {_BUSY_SECONDS:.0f} s; try again when it is done"
        elif "readonly" in text:
            remedy = "it is open for reading only; open it with readonly=False, and check that the file may be written"
        elif "not a database" in text:
            remedy = "this is not a perfit store, or its beginning is damaged; check the path or restore a copy"
        elif isinstance(error, OSError) or "full" in text or "unable to open" in text:
            remedy = "check the folder, its permissions and the free space"
        else:
            remedy = "the file is damaged; see which users are readable with verify(), or restore a copy"
        kind = DamagedError if "damaged" in remedy else StoreError
        raise kind(f"{path}: {text}; {remedy}") from error
