"""Writing a file so that nobody ever sees a part of it, and nobody's link leads the writing elsewhere."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# Opened by nobody else's link, and by no other program this one starts.
_GUARD = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_PART = re.compile(r"\.(.+)\.[0-9a-f]{16}\.part")
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES}
# What this process is writing right now. It is never opened to see whether it is left over: closing a second handle
# of a file drops the locks SQLite holds on it.
_live: set[str] = set()


def write_atomically(path: Path, content: bytes, *, new: bool = False) -> None:
    """Write a file, readable by its owner alone, so that a reader, a kill or a power cut sees old or new, never a part.

    A symbolic link under the name is replaced, not written through.

    Args:
        path: Where to.
        content: All of it.
        new: Refuse to replace what is there already, also when another process made it just now.

    Raises:
        FileExistsError: ``new``, and something has this name.
        OSError: The folder is missing or cannot be written, or a folder or device has this name; nothing is left behind.
    """
    _refuse_what_is_no_file(path)
    with _part_beside(path) as (part, file):
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        if os.name == "nt":  # Windows renames no file that is open
            file.close()
        _publish(part, path, new)
    # The new name is on the disk too, before anything that relies on it is written.
    with contextlib.suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _refuse_what_is_no_file(path: Path) -> None:
    # A rename puts a file in the place of anything but a folder, also of /dev/null or a pipe.
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode) and not os.path.islink(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise OSError(errno.EINVAL, "is a device or a pipe, not a file", str(path))


@contextlib.contextmanager
def _part_beside(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A locked file of our own making beside ``path``, open for writing; gone afterwards, unless it was renamed."""
    while True:
        part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
        _live.add(str(part))
        try:
            try:
                handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _GUARD, 0o600)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(path)) from None  # who reads it knows no part
            with os.fdopen(handle, "wb") as file:
                # Another process may have taken it for a leftover before it was locked.
                if _lock(file.fileno()) and _is_there(part, file.fileno()):
                    yield part, file
                    return
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)
            _live.discard(str(part))


def _publish(part: Path, path: Path, new: bool) -> None:
    if new:
        try:
            os.link(part, path)
            return
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
        # A file system without links: the best it can do.
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    os.replace(part, path)


def sweep(folder: Path) -> None:
    """Remove what killed writers left in a folder; what is being written at the moment stays."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for name in os.listdir(folder):
            if is_part(name):
                _drop_left_over(folder / name)


def is_part(name: str) -> bool:
    """Whether a file of this name is one that ``write_atomically`` has not finished."""
    return finished_name(name) != name


def finished_name(name: str) -> str:
    """The name that an unfinished file was to get; any other name as it is."""
    match = _PART.fullmatch(name)
    return match.group(1) if match else name


def _drop_left_over(part: Path) -> None:
    if str(part) in _live:
        return
    with contextlib.suppress(OSError):
        status = os.lstat(part)
        # Links are not opened: one leads elsewhere, the other has its final name already.
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
            handle = os.open(part, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _GUARD)
            try:
                if _lock(handle):
                    os.unlink(part)
            finally:
                os.close(handle)
        elif not stat.S_ISDIR(status.st_mode):
            os.unlink(part)


def _lock(handle: int) -> bool:
    """Whether nobody else writes this file; a lock of the open file, which a kill releases."""
    try:
        import fcntl
    except ImportError:  # Windows removes no file that is open
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _is_there(part: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.lstat(part), os.fstat(handle))
    except FileNotFoundError:
        return False
