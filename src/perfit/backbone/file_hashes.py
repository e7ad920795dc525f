"""SHA-256 of large files, remembered by inode, size and both times, so that a base is read whole once, not at each use."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from pathlib import Path
from typing import Any

from perfit.backbone.cache_folder import cache_dir
from perfit.durable.records import read_record, write_record
from perfit.errors import StoreError

_FILE = "file-hashes.json"
_MOST = 4096
_SETTLED = 2.0
"""Seconds: within the grain of a file system's clock, a second write may leave the times as they were."""


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remembered_hash(path: Path, *, anew: bool = False) -> str:
    """SHA-256 of a file as hex; read only if it is not the one that was hashed before.

    Args:
        path: The file; links are followed.
        anew: Read it whatever is remembered: decay on the disk changes no times.

    Raises:
        OSError: It cannot be read.
    """
    path = path.resolve()
    before = _mark(path)
    known = _known()
    entry = known.get(str(path))
    if not anew and isinstance(entry, list) and entry[:-1] == before and isinstance(entry[-1], str):
        return entry[-1]
    found = sha256_of(path)
    after = _mark(path)
    if after == before and time.time() - max(after[2:]) / 1e9 > _SETTLED:
        known = {name: value for name, value in _known().items() if name != str(path)}
        kept = dict(list(known.items())[-_MOST + 1 :]) | {str(path): [*after, found]}
        with contextlib.suppress(OSError):
            cache_dir().mkdir(parents=True, exist_ok=True)
            write_record(cache_dir() / _FILE, {"files": kept})
    return found


def _mark(path: Path) -> list[int]:
    status = os.stat(path)
    return [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _known() -> dict[str, Any]:
    try:
        files = read_record(cache_dir() / _FILE, missing="", mend="")["files"]
    except (StoreError, KeyError):
        return {}  # the files are read again
    return files if isinstance(files, dict) else {}
