"""SQLite's calls to the system, of which the n-th fails: what a full, torn-out or dying disk does to a writer."""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

# Where ``xSetSystemCall`` lies in sqlite3_vfs: three ints, three pointers, and thirteen functions before it.
_SET, _GET = 40 + 13 * 8, 40 + 14 * 8
_INT, _SIZE, _POINTER = ctypes.c_int, ctypes.c_ssize_t, ctypes.c_void_p
_CALLS: dict[str, tuple[Any, ...]] = {
    "open": (_INT, _POINTER, _INT, _INT),
    "read": (_SIZE, _INT, _POINTER, ctypes.c_size_t),
    "write": (_SIZE, _INT, _POINTER, ctypes.c_size_t),
    "pwrite": (_SIZE, _INT, _POINTER, ctypes.c_size_t, ctypes.c_long),
    "pwrite64": (_SIZE, _INT, _POINTER, ctypes.c_size_t, ctypes.c_long),
    "ftruncate": (_INT, _INT, ctypes.c_long),
    "unlink": (_INT, _POINTER),
    "openDirectory": (_INT, _POINTER, _POINTER),
}


@dataclass
class Disk:
    """A disk that fails.

    Attributes:
        at: Which call fails, from 1; 0 for none.
        lasting: Whether all later ones fail, too.
        calls: How many there were.
        failed: How many failed.
    """

    at: int = 0
    lasting: bool = False
    calls: int = 0
    failed: int = 0

    def fails(self) -> bool:
        """Count one more call."""
        if not self.at:
            return False
        self.calls += 1
        failing = self.calls == self.at or (self.lasting and self.calls > self.at)
        self.failed += failing
        return failing


def available() -> bool:
    """Whether this Python's SQLite is a library whose system calls can be replaced."""
    return os.name == "posix" and ctypes.util.find_library("sqlite3") is not None


@contextmanager
def failing_disk() -> Iterator[Disk]:
    """All connections of this process, from now on and until the end of the block."""
    disk = Disk()
    library = ctypes.CDLL(ctypes.util.find_library("sqlite3"))
    library.sqlite3_vfs_find.restype = _POINTER
    vfs = library.sqlite3_vfs_find(None)
    setter = ctypes.CFUNCTYPE(_INT, _POINTER, ctypes.c_char_p, _POINTER)(_POINTER.from_address(vfs + _SET).value)
    getter = ctypes.CFUNCTYPE(_POINTER, _POINTER, ctypes.c_char_p)(_POINTER.from_address(vfs + _GET).value)
    kept = []
    for name, kinds in _CALLS.items():
        before = getter(vfs, name.encode())
        if not before:
            continue
        kind = ctypes.CFUNCTYPE(*kinds, use_errno=True)
        mine = kind(_failing(disk, kind(before)))
        kept.append((name.encode(), mine, before))
        setter(vfs, name.encode(), ctypes.cast(mine, _POINTER))
    try:
        yield disk
    finally:
        for name, _, before in kept:
            setter(vfs, name, before)


def _failing(disk: Disk, real: Callable[..., int]) -> Callable[..., int]:
    def call(*given: Any) -> int:
        if disk.fails():
            ctypes.set_errno(errno.EIO)
            return -1
        return real(*given)

    return call
