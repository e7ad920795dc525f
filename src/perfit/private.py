"""Folders and files that only their owner may open: they hold users' texts, answers, ids or states."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_FOLDER, _FILE = 0o700, 0o600


def private_folder(path: Path) -> None:
    """Make a folder for its owner alone, and so those above it that are missing; one that is there stays as it is.

    Raises:
        OSError: It cannot be made.
    """
    if not path.parent.exists():
        private_folder(path.parent)
    path.mkdir(mode=_FOLDER, exist_ok=True)


def private_file(path: str | os.PathLike[str]) -> None:
    """Make an empty file for its owner alone, before a library that asks for no mode opens it; one that is there stays.

    Raises:
        OSError: It cannot be made.
    """
    # One that is there is not opened: closing it would drop the locks SQLite holds on it in this process.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _FILE))


def private_opener(path: str, flags: int) -> int:
    """For ``open(..., opener=private_opener)``: a file it makes is for its owner alone, and no link is followed."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), _FILE)
