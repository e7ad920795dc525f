"""The SQLite side of a store: one file, safe at any moment, every fault a StoreError.

Nothing of ours ever opens the database file itself: closing it would drop every lock this process holds on it, another
connection's in the middle of writing included. Its size comes from ``stat``, all else through SQLite.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from perfit.durable.files import write_atomically
from perfit.errors import DamagedError, StoreError
from perfit.shown import shown

APPLICATION_ID = 0x50465354
FORMAT, HIDDEN, ELSEWHERE = 1, 2, 3
"""Of a store whose users' rows are as they are, of one whose are hidden with data keys, and of either whose payloads lie in
objects outside the file."""
_BUSY_SECONDS = 30.0
# Description and schema; a store sets the limit of its own rows once it knows their size.
_SMALL_BYTES = 16 << 20
# Ends a journal that names a file SQLite would delete after playing it back; stores have only one database file.
_NAMES_ANOTHER = bytes.fromhex("d9d505f920a163d7")
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
_READ_SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name, type"


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
    read-only store is opened writable where the file allows it and held to reading by ``query_only``. A symbolic link
    (a hub's snapshot) is read, never written through.

    Raises:
        StoreError: Missing, foreign, of another format, or truncated.
    """
    if not path.is_file():
        raise StoreError(f"{path}: there is no store here; check the path, or make one with ShiftStore.create")
    with faults(path):
        linked = path.is_symlink()
        mode = "ro" if linked or (readonly and not os.access(path, os.W_OK)) else "rw"
        real = path.resolve()
        _check_beside(path, real)
        database = sqlite3.connect(
            f"{real.as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,
            timeout=_BUSY_SECONDS,
            check_same_thread=False,
        )
        try:
            database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _SMALL_BYTES)
            # What a received file may define does not run.
            database.execute("PRAGMA trusted_schema = OFF")
            database.execute("PRAGMA cell_size_check = ON")
            if mode == "rw":
                set_modes(database, left=journal_of(path).exists())
            if readonly or linked:
                database.execute("PRAGMA query_only = ON")
            # Playing back a journal comes first: only then do header and file size agree.
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()
            _check_header(path, database)
            if mode == "rw":
                tidy(path, database)
        except BaseException:
            database.close()
            raise
    return database


def journal_of(path: Path) -> Path:
    """The rollback journal of a store: there while one writes, or was killed writing."""
    return path.with_name(path.name + "-journal")


def _check_beside(path: Path, real: Path) -> None:
    """What SQLite opens by name beside a store must be a journal of ours or nothing.

    Links would be written through, and a journal can name a file that SQLite then deletes. No locks lie on these files:
    looking into them drops none.
    """
    for ending in ("-wal", "-shm"):
        if os.path.lexists(real.with_name(real.name + ending)):
            raise StoreError(
                f"{path} is in WAL mode of another program; switch it back with PRAGMA journal_mode=DELETE"
            )
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with contextlib.suppress(FileNotFoundError):
        journal = journal_of(real)
        ours = stat.S_ISREG(os.lstat(journal).st_mode)
        if ours:
            with open(os.open(journal, flags), "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - len(_NAMES_ANOTHER)))
                ours = file.read() != _NAMES_ANOTHER
        if not ours:
            raise StoreError(
                f"{journal} is no journal of perfit and may alter other files; remove it, or do not trust {path}"
            )


def set_modes(database: sqlite3.Connection, left: bool) -> None:
    """How a connection that writes does it; ``left``: there is a journal that a killed writer may have left."""
    if left:  # a journal that is played back now is kept, so that it can be overwritten before it is removed
        database.execute("PRAGMA journal_mode = PERSIST").fetchall()
    # A commit is on the disk when it returns, journal removal included.
    database.execute("PRAGMA synchronous = EXTRA")
    database.execute("PRAGMA secure_delete = ON").fetchall()


def _check_header(path: Path, database: sqlite3.Connection) -> None:
    if _one(database, "PRAGMA application_id") != APPLICATION_ID:
        raise StoreError(f"{path} is not a perfit store but another SQLite file; check the path")
    if (version := _one(database, "PRAGMA user_version")) not in (FORMAT, HIDDEN, ELSEWHERE):
        raise StoreError(
            f"{path} has store format {version}, this perfit reads formats {FORMAT} to {ELSEWHERE}; use the version that wrote it"
        )
    if _one(database, "PRAGMA journal_mode") == "wal":
        raise StoreError(
            f"{path} was switched to WAL by another program; switch it back with PRAGMA journal_mode=DELETE"
        )
    # In one read transaction, so that no writer can grow the file between the two looks.
    database.execute("BEGIN")
    try:
        schema = database.execute(_READ_SCHEMA).fetchall()
        expected = _one(database, "PRAGMA page_count") * _one(database, "PRAGMA page_size")
        size = path.stat().st_size
    finally:
        database.execute("ROLLBACK")
    if size < expected:
        raise DamagedError(f"{path} is cut short ({size:,} bytes of {expected:,}); restore it from a copy")
    if schema != _schema():
        raise StoreError(
            f"{path} has tables, views or triggers that perfit did not make; do not use it, ask for exports of its users"
        )


@functools.cache
def _schema() -> list[tuple[str, ...]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        database.executescript(_SCHEMA)
        return database.execute(_READ_SCHEMA).fetchall()


def _one(database: sqlite3.Connection, query: str) -> Any:
    return database.execute(query).fetchone()[0]


def free_bytes(database: sqlite3.Connection) -> int:
    """Bytes of pages that hold nothing."""
    return int(_one(database, "PRAGMA freelist_count") * _one(database, "PRAGMA page_size"))


def tidy(path: Path, database: sqlite3.Connection) -> None:
    """Remove the journal that a killed writer left, overwritten; a live writer's is its own business."""
    if not journal_of(path).exists():
        return
    database.execute("PRAGMA busy_timeout = 0")
    with contextlib.suppress(sqlite3.OperationalError):
        drop_journal(path, database)
    database.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1000:.0f}")


def drop_journal(path: Path, database: sqlite3.Connection) -> None:
    """Overwrite a journal that is no longer needed, then remove it: unlinking alone leaves its bytes on the disk.

    Raises:
        sqlite3.OperationalError: Another process writes; the journal is that one's.
    """
    try:
        with transaction(database):  # whoever may write owns the journal, and nobody else has one
            _overwrite(journal_of(path))
    finally:
        # SQLite removes it itself, and only while no one writes.
        database.execute("PRAGMA journal_mode = DELETE").fetchall()


def _overwrite(journal: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        handle = os.open(journal, os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
        with open(handle, "wb") as file:
            left = os.fstat(file.fileno()).st_size
            while left > 0:
                left -= file.write(bytes(min(left, 1 << 20)))
            file.flush()
            os.fsync(file.fileno())


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
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        if isinstance(error, sqlite3.ProgrammingError):
            remedy = "the store is closed or used wrongly; open it again"
        elif "locked" in text or "busy" in text:
            remedy = f"another process has been writing for over {_BUSY_SECONDS:.0f} s; try again when it is done"
        elif "readonly" in text:
            remedy = (
                "it is a symbolic link, which is never written through; copy the folder with its files and use the copy"
                if path.is_symlink()
                else "it is open for reading only; open it with readonly=False, and check that the file may be written"
            )
        elif "not a database" in text:
            remedy = "this is not a perfit store, or its beginning is damaged; check the path or restore a copy"
        elif isinstance(error, OSError) or "full" in text or "unable to open" in text:
            remedy = "check the folder, its permissions and the free space"
        else:
            remedy = "the file is damaged; see which users are readable with verify(), or restore a copy"
        kind = DamagedError if "damaged" in remedy else StoreError
        raise kind(f"{shown(path, 400)}: {shown(text, 200)}; {remedy}") from error
