"""A store's connection, which is one process's own, and the lock that its threads take."""

from __future__ import annotations

import os
import sqlite3
import threading
from dataclasses import dataclass, field
from pathlib import Path

from perfit.after_fork import one_thread_after_fork
from perfit.errors import StoreError
from perfit.store import database


@dataclass
class _Opened:
    """A connection, the process that it belongs to, and which file it has open, by ``_file_of``.

    Attributes:
        before: The parent process's, which is kept so that it is never closed here.
    """

    database: sqlite3.Connection
    process: int
    file: tuple[int, int] | None
    before: _Opened | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)


class OwnConnection:
    """The connection of whichever process asks.

    Args:
        path: The file.
        connection: This process's connection to it.
        readonly: How a child process is to open it.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, readonly: bool):
        one_thread_after_fork()
        self.path, self._readonly = path, readonly
        self._mine = _Opened(connection, os.getpid(), _file_of(path))
        self._most_bytes: int | None = None

    @property
    def database(self) -> sqlite3.Connection:
        """This process's connection."""
        return self._here().database

    @property
    def lock(self) -> threading.RLock:
        """What a thread holds while it uses the connection."""
        return self._here().lock

    def limit(self, most_bytes: int) -> None:
        """Refuse rows above so many bytes: what a row of a received file may make us read."""
        self._most_bytes = most_bytes
        self.database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, most_bytes)

    def require_same_file(self) -> None:
        """A server keeps a store open for weeks: what was removed or put in its place meanwhile is not what it has open.

        Raises:
            StoreError: It was.
        """
        if _file_of(self.path) != self._here().file:
            raise StoreError(
                f"{self.path}: was removed or replaced while it was open; open it again (a server: start it again)"
            )

    def _here(self) -> _Opened:
        """This process's. A child that was forked off opens its own: the parent's must not be used in it, nor closed,
        which could undo what the parent is writing."""
        if self._mine.process != os.getpid():
            opened = database.connect(self.path, self._readonly)
            if self._most_bytes is not None:
                opened.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, self._most_bytes)
            self._mine = _Opened(opened, os.getpid(), _file_of(self.path), self._mine)
        return self._mine


def _file_of(path: Path) -> tuple[int, int] | None:
    """Which file has this name now; None where there is none. Never opened: that would drop locks."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
