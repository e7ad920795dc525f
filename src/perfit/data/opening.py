"""Opening files that a stranger may have made: only files, and unpacked no further than their size warrants."""

from __future__ import annotations

import gzip
import io
import os
import stat
from pathlib import Path
from typing import IO, cast

from perfit.errors import DataError

MAX_TIMES = 100
"""How many times its own size a packed file may unpack to; real texts stay far below."""

MIN_UNPACKED = 64 * 1024 * 1024
"""So many unpacked bytes are allowed however small the file is."""

MAX_FILE_BYTES = 4 * 1024**3
"""Largest file that is read as a whole (JSON, CSV), unpacked."""

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def is_gzip(path: Path) -> bool:
    """Whether the file is to be unpacked, by its name."""
    return path.suffix.lower() == ".gz"


def allowed(packed: int) -> int:
    """Bytes that a packed file of so many bytes may unpack to."""
    return max(MIN_UNPACKED, MAX_TIMES * packed)


def open_file(path: Path) -> IO[bytes]:
    """Opens a file for reading, its bytes as they are.

    Raises:
        DataError: When it is no file (a pipe or a device could keep a reader for ever).
        OSError: When it cannot be opened.
    """
    # Without O_NONBLOCK, opening a pipe that nobody writes to waits for ever.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        raise no_file(path, mode)
    return os.fdopen(handle, "rb")


def check_is_file(path: Path) -> None:
    """Refuses what is there and is no file, before a library opens it by its name.

    Raises:
        DataError: When it is a folder, a pipe, a socket or a device.
        OSError: When it is not there.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        raise no_file(path, mode)


def no_file(path: Path, mode: int) -> DataError:
    """The error for what is there and is no file."""
    kind = next((name for test, name in _KINDS if test(mode)), "no file")
    return DataError(f"this is {kind}, not a file", file=str(path), remedy="write the data to a file and pass that")


def open_unpacked(path: Path) -> IO[bytes]:
    """Opens a file, unpacking it when its name ends in ``.gz``.

    Raises:
        DataError: When it is no file, and while reading when it unpacks to more than ``allowed``.
        OSError: When it cannot be opened.
    """
    stream = open_file(path)
    if not is_gzip(path):
        return stream
    return cast(IO[bytes], io.BufferedReader(_Unpacking(stream, path), 1 << 16))


def read_whole(path: Path) -> bytes:
    """A whole file, unpacked when its name ends in ``.gz``.

    Raises:
        DataError: As ``open_unpacked``, and for more than ``MAX_FILE_BYTES``.
        OSError: When it cannot be read.
    """
    with open_unpacked(path) as stream:
        content = stream.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise DataError(
            f"the file has more than {MAX_FILE_BYTES} bytes", file=str(path), remedy="split it, or write JSON Lines"
        )
    return content


class _Unpacking(io.RawIOBase):
    """The unpacked bytes of a gzip file, and an error once they are too many for its size."""

    def __init__(self, packed: IO[bytes], path: Path) -> None:
        self._packed, self._path = packed, path
        self._limit = allowed(os.fstat(packed.fileno()).st_size)
        self._unpacked = gzip.GzipFile(fileobj=packed)
        self._seen = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = self._unpacked.readinto(buffer)
        self._seen += count
        if self._seen > self._limit:
            raise DataError(
                f"the gzip file unpacks to more than {self._limit} bytes, the limit for its size",
                file=str(self._path),
                remedy="unpack it yourself (gunzip) if you trust it",
            )
        return count

    def close(self) -> None:
        if not self.closed:
            self._unpacked.close()
            self._packed.close()
        super().close()
