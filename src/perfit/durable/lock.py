"""One process at a time: a lock file that a kill releases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perfit.errors import StoreError


class BusyError(StoreError):
    """Another process holds the lock."""


@contextmanager
def locked(path: Path, busy: str = "", *, wait: float = 0) -> Iterator[None]:
    """Hold a lock.

    Args:
        path: The lock's file, made where there is none; its folder is there.
        busy: The line for whom it is not free; whoever waits without end needs none.
        wait: Seconds to wait for it; below 0 without end.

    Raises:
        BusyError: Somebody else held it all that time.
        OSError: The file cannot be made.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path, timeout=wait)
    try:
        lock.acquire()
    except Timeout:
        raise BusyError(busy) from None
    try:
        yield
    finally:
        lock.release()
