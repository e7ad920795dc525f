"""Erasing a user so that no byte of theirs stays in any file of the store."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from perfit.errors import DamagedError
from perfit.shown import shown
from perfit.store.database import drop_journal, transaction

PENDING = "erasing"


def erase(path: Path, database: sqlite3.Connection, user: str) -> bool:
    """Erase a user; False if there is none.

    SQLite overwrites a deleted row, but not the copies of it that it left in the gaps of pages when rows were moved
    between them; and its journal keeps the page as it was. So the file is written anew without the user, and each
    journal is overwritten before it is removed. Killed in between, the next opening for writing finishes it.

    Raises:
        DamagedError: A row of this user would live on.
        sqlite3.Error: The file cannot be written.
    """
    with without_traces(path, database):
        with transaction(database):
            found = database.execute("DELETE FROM users WHERE user_id = ?", (user,)).rowcount
            if not found:
                return False
            # Past the index and the type: a made-up file may hold the id twice.
            again = "SELECT 1 FROM users NOT INDEXED WHERE CAST(user_id AS BLOB) = ?"
            if database.execute(again, (user.encode(),)).fetchone():
                raise DamagedError(
                    f"{path}: user '{shown(user)}' is stored more than once and was not erased; the file is damaged"
                )
            set_pending(database)
        rewrite(database)
    return True


def finish(path: Path, database: sqlite3.Connection) -> None:
    """Finish an erasure that was killed after the row was gone.

    Raises:
        sqlite3.Error: The file cannot be written.
    """
    if is_pending(database):
        with without_traces(path, database):
            rewrite(database)


def compact(path: Path, database: sqlite3.Connection) -> None:
    """Write the file anew, without the pages that hold nothing.

    Raises:
        sqlite3.Error: The file cannot be written.
    """
    with without_traces(path, database):
        database.execute("VACUUM")


def set_pending(database: sqlite3.Connection) -> None:
    """Note that the file has to be written anew."""
    database.execute("INSERT OR REPLACE INTO meta VALUES (?, '')", (PENDING,))


def is_pending(database: sqlite3.Connection) -> bool:
    """Whether the file still has to be written anew."""
    return database.execute("SELECT 1 FROM meta WHERE key = ?", (PENDING,)).fetchone() is not None


def rewrite(database: sqlite3.Connection) -> None:
    """Write the file anew; what was pending is done with it."""
    database.execute("VACUUM")
    with transaction(database):
        database.execute("DELETE FROM meta WHERE key = ?", (PENDING,))


@contextlib.contextmanager
def without_traces(path: Path, database: sqlite3.Connection) -> Iterator[None]:
    """Keep the journals of what is done inside, to overwrite them before they are removed."""
    database.execute("PRAGMA journal_mode = PERSIST").fetchall()
    try:
        yield
    except BaseException:
        # Whatever went wrong is what is to be said; the next opening for writing looks again.
        with contextlib.suppress(sqlite3.Error, OSError):
            drop_journal(path, database)
        raise
    drop_journal(path, database)
